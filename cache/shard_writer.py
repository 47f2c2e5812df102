"""Writing one shard as a stream; see `ser.cache.shard` for the bytes."""

import math
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ser.cache.precision import Encoded
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


def encode_names(utterances: Sequence[str]) -> np.ndarray:
    """Return ids as bytes `(utterances, longest)`: UTF-8, padded with zero bytes."""
    encoded = [u.encode() for u in utterances]
    width = max((len(e) for e in encoded), default=1)
    return np.frombuffer(b"".join(e.ljust(width, b"\0") for e in encoded), "u1").reshape(-1, width)
