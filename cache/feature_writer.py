"""Appending utterances to the shards of one worker."""

import errno
import time
from typing import TYPE_CHECKING

import numpy as np

from ser.cache.files import new_shard_name, now_ns
from ser.cache.precision import Encoded, Precision, encode
from ser.cache.shard_writer import ShardWriter

if TYPE_CHECKING:
    from ser.cache.features import FeatureCache

SHARD_BYTES = 256 << 20


class FeatureWriter:
    """A writer of utterances to the shards of one worker; see `FeatureCache.writer`."""

    def __init__(
        self, cache: "FeatureCache", precision: Precision, shard_bytes: int, shard_seconds: float
    ) -> None:
        self.cache = cache
        self.precision: Precision = precision
        self.shard_bytes = shard_bytes
        self.shard_seconds = shard_seconds
        self.overflowed: list[str] = []  # stored as float32 because float16 cannot hold them
        self.nbytes = 0  # of frames, as stored
        self._open: dict[np.dtype, ShardWriter] = {}
        self._since = time.monotonic()
        self._broken = False

    def append(
        self, utterance: str, frames: np.ndarray, stat_hash: int = 0, content_hash: int = 0
    ) -> None:
        """Write one utterance `(frames, *item_shape)`; commits a shard when it is full or old.

        Raises `ValueError` for anything but an array of numbers of this shape, for no frames, and
        for values that are not finite.
        """
        if not isinstance(frames, np.ndarray) or frames.dtype.kind not in "fiu":
            kind = getattr(frames, "dtype", type(frames).__name__)
            raise ValueError(f"the features are {kind}, not an array of numbers")
        if not frames.ndim or frames.shape[1:] != self.cache.item_shape or not len(frames):
            expected = ", ".join(map(str, ("n", *self.cache.item_shape)))
            raise ValueError(f"the features are of shape {frames.shape}, not ({expected})")
        encoded = encode(frames, self.precision)
        if self.precision == "float16" and encoded.data.dtype == np.float32:
            self.overflowed.append(utterance)
        self.append_encoded(utterance, encoded, stat_hash, content_hash)

    def append_encoded(
        self, utterance: str, encoded: Encoded, stat_hash: int, content_hash: int
    ) -> None:
        """Write one utterance as it is stored elsewhere."""
        dtype = encoded.data.dtype
        if self._broken:
            raise OSError(errno.EIO, "an earlier write failed", str(self.cache.path))
        try:
            if dtype not in self._open:
                staging = self.cache.staging / new_shard_name()
                self._open[dtype] = ShardWriter(staging, self.cache.item_shape, dtype.name)
            self._open[dtype].append(utterance, encoded, stat_hash, content_hash)
            self.nbytes += encoded.data.nbytes
        except BaseException:  # a full disk, Ctrl-C: a half-written row must not be committed
            self._broken = True
            raise
        size = sum(shard.nbytes for shard in self._open.values())
        if size >= self.shard_bytes or time.monotonic() - self._since >= self.shard_seconds:
            self.commit()

    def commit(self) -> None:
        """Make everything appended so far visible and durable."""
        try:
            for dtype in list(self._open):
                shard = self._open[dtype]
                shard.finish(now_ns())
                del self._open[dtype]
                self.cache.publish(shard.path, shard.path.name)
        except BaseException:  # what is half finished must not be finished again
            self._broken = True
            raise
        self._since = time.monotonic()

    def abandon_or_commit(self) -> None:
        """Commit what is whole after an error elsewhere; delete what a full disk cut short."""
        if not self._broken:
            self.commit()
        for shard in self._open.values():
            shard.abandon()
        self._open.clear()
