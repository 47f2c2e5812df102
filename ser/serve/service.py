"""A predictor behind a queue: one thread, a bounded number of clips, an end to waiting.

    event loop                        thread "models"
    listen (decode, in a pool) ->     load, then one clip after the other
    queue up to `queue` clips  ->     Predictor.each
    wait up to `timeout` s     <-     Result | Failure

Models are used by one thread at a time in any case, so more threads would only hold more clips in
memory. Who has waited too long gets an answer, and the clip is emptied: one that is still waiting
is skipped, and one that is being heard ends at its next block of audio.
"""

import asyncio
import logging
import math
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus.audio import AudioError
from corpus.errors import UserError
from ser.predict.result import Failure, Result
from ser.serve.limits import Limits, Refused
from ser.serve.listen import Heard, listen
from ser.serve.metrics import Metrics

if TYPE_CHECKING:
    from ser.predict.predictor import Predictor

RETRY = 2  # s; what the first clips are told, before it is known how long one takes


class Service:
    """Answer for clips that were received; `loading` is done when the models are loaded."""

    def __init__(self, predictor: "Predictor", limits: Limits) -> None:
        self.predictor, self.limits, self.metrics = predictor, limits, Metrics()
        self._thread = ThreadPoolExecutor(1, "models")
        self._jobs: set[Future[Result | Failure]] = set()
        self._takes = float(RETRY)
        self.metrics.queue.set_function(lambda: len(self._jobs))
        self.loading = self._thread.submit(predictor.load)

    @property
    def ready(self) -> bool:
        """Tell whether the models are loaded."""
        return self.loading.done() and self.loading.exception() is None

    def close(self) -> None:
        """Forget the clips that wait."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def require_room(self) -> None:
        """Raise `Refused` when the queue is full."""
        if len(self._jobs) > self.limits.queue:
            wait = math.ceil(self._takes * len(self._jobs))
            raise Refused(503, f"{len(self._jobs)} clips wait already; try again later.", wait)

    async def hear(self, path: Path, name: str, **options: bool) -> tuple[Result, Heard]:
        """Return what is said of a clip, which `name` is written into, and its waveform.

        The options are those of `Predictor.each`. Raises `Refused`.
        """
        begun = time.perf_counter()
        self.require_room()
        try:
            heard = await asyncio.to_thread(listen, path, self.limits.max_seconds)
        except AudioError as error:
            raise _unusable(name, str(error)) from error
        self.require_room()
        job = self._thread.submit(self._answer, path, options)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        try:
            result = await asyncio.wait_for(asyncio.wrap_future(job), self.limits.timeout)
        except TimeoutError as error:
            os.truncate(path, 0)
            raise Refused(
                504, f"no answer within {self.limits.timeout:g} s; send less audio, or try later."
            ) from error
        if isinstance(result, Failure):
            raise _unusable(name, result.error)
        self.metrics.seconds.observe(time.perf_counter() - begun)
        self.metrics.audio.inc(result.seconds)
        return replace(result, path=name), heard

    def _answer(self, path: Path, options: dict[str, Any]) -> Result | Failure:
        begun = time.perf_counter()
        try:
            result = next(self.predictor.each([path], **options))
        except UserError as error:  # a server that this one asks; what it said is not for guests
            logging.getLogger("ser.serve").warning("no answer: %s", error)
            raise Refused(503, "what this server asks is not to be had; try later.", 60) from error
        self._takes += 0.2 * (time.perf_counter() - begun - self._takes)
        return result


def _unusable(name: str, error: str) -> Refused:
    return Refused(422, f"{name}: {error}; send another clip.")
