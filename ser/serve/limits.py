"""Limits on what clients may send, and the error for those who exceed them."""

from dataclasses import dataclass

from starlette.exceptions import HTTPException

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """The limits of a server: bytes, seconds of audio, seconds of waiting, clips in the queue,
    and live streams at one time with the seconds of each.

    A body may pause for `patience` s in total, plus one second for every `slowest` bytes received:
    clients that send a byte now and then are cut off, clients on a slow line are not.
    """

    max_mb: float = 50.0
    max_seconds: float = 600.0
    timeout: float = 60.0
    queue: int = 16
    streams: int = 4
    stream_seconds: float = 3_600.0
    patience: float = 10.0
    slowest: float = 20_000.0  # bytes a second

    @property
    def max_bytes(self) -> int:
        """Return the largest size of a body in bytes."""
        return round(self.max_mb * MEGABYTE)

    @property
    def room(self) -> int:
        """Return the largest total size of all bodies at one time, in bytes."""
        return (self.queue + 1) * self.max_bytes


class Refused(HTTPException):
    """An error with a status and one sentence, which Starlette handles like its own."""

    def __init__(self, status: int, sentence: str, retry: int | None = None) -> None:
        headers = None if retry is None else {"Retry-After": str(retry)}
        super().__init__(status, sentence, headers)
