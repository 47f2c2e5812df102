"""SIGTERM, which a batch system or a cloud sends before it takes the machine away.

Python dies of it at once. With `catch_sigterm` it interrupts as Ctrl-C does, so that writers commit
what is done. A training is consistent only between two steps: within `deferred`, the interruption
waits for `raise_if_requested`, but `GRACE` seconds at most.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

GRACE = 5.0  # seconds for a step to end


class _Termination:
    """Whether SIGTERM has come to this process, and how many callers defer it."""

    def __init__(self) -> None:
        self.requested = self.expired = False
        self.deferrals = 0
        self.timer: threading.Timer | None = None

    def begin(self, *_: object) -> None:
        """Interrupt now, or soon; a second SIGTERM must not interrupt the last commit."""
        if self.expired or (not self.requested and not self.deferrals):
            self.requested, self.expired = True, False
            raise KeyboardInterrupt
        if not self.requested:
            self.requested = True
            self.timer = threading.Timer(GRACE, self._expire)
            self.timer.daemon = True
            self.timer.start()

    def _expire(self) -> None:
        self.expired = True
        os.kill(os.getpid(), signal.SIGTERM)

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


_termination = _Termination()


def catch_sigterm() -> None:
    """Make SIGTERM interrupt this process as Ctrl-C does; called in the main thread."""
    signal.signal(signal.SIGTERM, _termination.begin)


def is_requested() -> bool:
    """Return whether SIGTERM has come; the caller then saves its work, with no limit of time."""
    if _termination.requested:
        _termination.cancel_timer()
    return _termination.requested


def raise_if_requested() -> None:
    """Raise `KeyboardInterrupt` if SIGTERM has come."""
    if is_requested():
        raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[None]:
    """Let SIGTERM wait for `raise_if_requested`, or for the end of this block."""
    _termination.deferrals += 1
    try:
        yield
    finally:
        _termination.deferrals -= 1
        _termination.cancel_timer()
    raise_if_requested()
