"""What is still undamaged of one shard: the whole of it, or its utterances one by one."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import polars as pl

from ser.cache.files import AGAIN, DeniedError, readable
from ser.cache.foreign_shard import ForeignShard
from ser.cache.precision import Encoded
from ser.cache.shard import (
    SCALE,
    Row,
    ShardFrames,
    checksum,
    dtype_of,
    frames_metadata,
    is_foreign,
    rows_of,
)
from ser.cache.small_arrays import chunk_file, read_array, shape_of
from ser.corpus.errors import UserError


def require_whole(path: Path) -> None:
    """Check everything of a shard that `read_rows` and the utterances' crc32c do not cover.

    Raises `UserError` that names the file.
    """
    try:
        frames = ShardFrames(path)
    except UserError:
        if is_foreign(path):
            return
        raise
    # bytes of ours with other metadata are damage, even where zarr-python can read them
    if (path / "frames" / "zarr.json").read_bytes() != frames_metadata(frames.shape, frames.dtype):
        raise UserError(f"{path / 'frames' / 'zarr.json'}: it is damaged or not ours; {AGAIN}.")
    if frames.scale is not None:
        read_array(path / "scale", SCALE)
    if frames.padding.any():
        raise UserError(f"{frames.file}: bytes after the last row are damaged; {AGAIN}.")


def intact(path: Path, rows: pl.DataFrame) -> Iterator[tuple[Row, Encoded]]:
    """Yield the rows whose bytes still have their crc32c, whatever else a shard has lost.

    Raises `DeniedError` where the files may not be read.
    """
    try:
        with _reader(path) as read:
            for row in rows_of(rows):
                with suppress(ValueError, OSError, OverflowError, MemoryError):
                    encoded = read(row)  # a bad sector, or no such rows
                    if checksum(encoded) == row.crc32c:
                        yield row, encoded
    except DeniedError:
        raise
    except UserError:
        return


@contextmanager
def _reader(path: Path) -> Iterator[Callable[[Row], Encoded]]:
    """Yield what reads an utterance; a file that may be cut short is read, and never mapped."""
    if is_foreign(path):
        shard = ForeignShard(path)
        yield lambda row: shard.encoded(row.row, row.length, row.position)
        return
    dtype, shape = dtype_of(path), shape_of(path / "frames")
    scale = read_array(path / "scale", SCALE) if dtype.kind == "i" else None
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    frames_file = chunk_file(path / "frames", len(shape))
    with readable(frames_file, AGAIN):
        file = frames_file.open("rb")

    def read(row: Row) -> Encoded:
        data = os.pread(file.fileno(), row.length * row_bytes, row.row * row_bytes)
        frames = np.frombuffer(data, dtype).reshape(row.length, *shape[1:])
        return Encoded(frames, None if scale is None else scale[row.position])

    with file:
        yield read
