"""What a client may ask for, and the answer to one who asks for more."""

from dataclasses import dataclass

from starlette.exceptions import HTTPException

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Hold what bounds a server: bytes, seconds of audio, seconds of waiting, clips in the queue.

    A body may pause for `patience` s in all, and for a second more with every `slowest` bytes that
    came: who sends a byte now and then is cut off, who has a slow line is not.
    """

    max_mb: float = 50.0
    max_seconds: float = 600.0
    timeout: float = 60.0
    queue: int = 16
    patience: float = 10.0
    slowest: float = 20_000.0  # bytes a second

    @property
    def max_bytes(self) -> int:
        """Return the bytes that a body may have."""
        return round(self.max_mb * MEGABYTE)

    @property
    def room(self) -> int:
        """Return the bytes that all bodies together may have at one time."""
        return (self.queue + 1) * self.max_bytes


class Refused(HTTPException):
    """Answer with a status and one sentence; it passes through Starlette as its own kind does."""

    def __init__(self, status: int, sentence: str, retry: int | None = None) -> None:
        headers = None if retry is None else {"Retry-After": str(retry)}
        super().__init__(status, sentence, headers)
