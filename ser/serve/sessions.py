"""The browser sessions of the page: the work of a session is cancelled when it ends.

Gradio answers in a stream of events (`queue/data`) and continues when the browser has closed that
stream. Here, a session without a stream for `GRACE` seconds has ended.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import TypeVar

from ser.serve.limits import Refused

GRACE = 1.0  # s that a browser has to open its next stream
T = TypeVar("T")


class Sessions:
    """The work and the open streams of each session, by the name that the browser gives it."""

    def __init__(self) -> None:
        self._streams: Counter[str] = Counter()
        self._seen: dict[str, float] = {}  # when a session last joined, or closed a stream
        self._tasks: dict[asyncio.Task[object], str] = {}

    async def run(self, session: str, work: Coroutine[object, object, T]) -> T:
        """Return what `work` returns; raises `Refused` if the session ends first."""
        task = asyncio.ensure_future(work)
        self._tasks[task] = session
        try:
            return await task
        except asyncio.CancelledError as error:
            task.cancel()
            raise Refused(499, "the browser has disconnected.") from error
        finally:
            del self._tasks[task]

    def join(self, session: str) -> None:
        """Register a session."""
        self._seen[session] = time.monotonic()

    def knows(self, session: str) -> bool:
        """Return whether a session is registered and has not ended."""
        return session in self._seen

    @contextlib.contextmanager
    def stream(self, session: str) -> Iterator[None]:
        """Count a stream of a session while it is open."""
        self._streams[session] += 1
        try:
            yield
        finally:
            self._streams[session] -= 1
            self._streams += Counter()  # drops those at zero
            self._seen[session] = time.monotonic()
            asyncio.get_running_loop().call_later(GRACE, self._end, session)

    def _end(self, session: str) -> None:
        seen = self._seen.get(session)
        if self._streams[session] or seen is None or time.monotonic() - seen < 0.9 * GRACE:
            return
        del self._seen[session]
        for task in [task for task, name in self._tasks.items() if name == session]:
            task.cancel()
