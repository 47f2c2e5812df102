"""Writing shards as streams; see `ser.cache.shard` for the bytes."""

import errno
import math
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ser.cache.files import new_shard_name
from ser.cache.folder import COMMIT_SECONDS
from ser.cache.precision import Encoded, Precision, encode
from ser.cache.shard import (
    CHUNK_ROWS,
    COLUMNS,
    checksum,
    frames_metadata,
    group_metadata,
    shard_index,
)
from ser.cache.small_arrays import chunk_file, write_array, write_metadata
from ser.corpus.atomic import sync_tree

if TYPE_CHECKING:
    from ser.cache.features import FeatureCache

SHARD_BYTES = 256 << 20


class ShardWriter:
    """Stream utterances into one shard below `staging`; nothing is visible before it is published.

    Memory does not depend on the size of the shard. The owner is one thread of one process.
    """

    def __init__(self, staging: Path, item_shape: Sequence[int], dtype: str) -> None:
        self.item_shape = tuple(item_shape)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.path = staging
        data = chunk_file(staging / "frames", 1 + len(self.item_shape))
        try:
            data.parent.mkdir(parents=True)
            self._file = data.open("wb", buffering=0)
        except OSError:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._rows = 0
        self._columns: dict[str, list[int]] = {name: [] for name in COLUMNS}
        self._utterances: list[str] = []
        self._scales: list[np.ndarray] = []

    @property
    def nbytes(self) -> int:
        """Return the bytes of frames written so far."""
        return self._rows * math.prod(self.item_shape) * self.dtype.itemsize

    def append(self, utterance: str, encoded: Encoded, stat_hash: int, content_hash: int) -> None:
        """Write one utterance: `(frames, *item_shape)` in the dtype of the shard."""
        # first the checksum, while the frames are in the processor's cache
        values = (self._rows, len(encoded.data), checksum(encoded), stat_hash, content_hash)
        self._write(encoded.data.data.cast("B"))
        for name, value in zip(COLUMNS, values, strict=True):
            self._columns[name].append(value)
        self._utterances.append(utterance)
        if encoded.scale is not None:
            self._scales.append(encoded.scale)
        self._rows += len(encoded.data)

    def _write(self, data: memoryview | bytes) -> None:
        # unbuffered, because a buffer would copy every byte once more; so a write may be partial
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[self._file.write(remaining) :]

    def finish(self, created: int) -> None:
        """Complete the shard's files; everything is on the disk when this returns."""
        chunk = CHUNK_ROWS * math.prod(self.item_shape) * self.dtype.itemsize
        chunks = math.ceil(self._rows / CHUNK_ROWS)
        self._write(bytes(chunks * chunk - self.nbytes))
        self._write(shard_index(chunks, chunk))
        self._file.close()
        shape = (self._rows, *self.item_shape)
        write_metadata(self.path / "frames", frames_metadata(shape, self.dtype))
        for name, dtype in COLUMNS.items():
            write_array(self.path / name, np.array(self._columns[name], dtype=dtype))
        write_array(self.path / "utterance", encode_names(self._utterances))
        if self._scales:
            write_array(self.path / "scale", np.stack(self._scales))
        write_metadata(self.path, group_metadata(created))
        sync_tree(self.path)

    def abandon(self) -> None:
        """Throw the unfinished shard away."""
        with suppress(OSError):  # closing flushes, which on a full disk fails once more
            self._file.close()
        shutil.rmtree(self.path, ignore_errors=True)


class FeatureWriter:
    """A writer of utterances to the shards of one worker; see `FeatureCache.writer`."""

    def __init__(self, cache: "FeatureCache", precision: Precision, shard_bytes: int) -> None:
        self.cache = cache
        self.precision: Precision = precision
        self.shard_bytes = shard_bytes
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
        dtype = encoded.data.dtype
        if self.precision == "float16" and dtype == np.float32:
            self.overflowed.append(utterance)
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
        if size >= self.shard_bytes or time.monotonic() - self._since >= COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Make everything appended so far visible and durable."""
        try:
            for dtype in list(self._open):
                shard = self._open[dtype]
                shard.finish(time.time_ns())
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


def encode_names(utterances: Sequence[str]) -> np.ndarray:
    """Return ids as bytes `(utterances, longest)`: UTF-8, padded with zero bytes."""
    encoded = [u.encode() for u in utterances]
    width = max((len(e) for e in encoded), default=1)
    return np.frombuffer(b"".join(e.ljust(width, b"\0") for e in encoded), "u1").reshape(-1, width)
