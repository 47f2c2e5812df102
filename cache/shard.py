"""One shard on disk: a Zarr v3 group that any Zarr reader opens, written as a stream.

    <host>-<pid>-<random>/
      zarr.json                 group; attributes: created (ns), crc32c of created
      frames/zarr.json          array [rows, dim] or [rows, layers, dim]: float16, float32 or int8
      frames/c/0/0              the one shard file (codec sharding_indexed):
                                    row 0 .. row n-1         utterances back to back
                                    zeros to a multiple of 256 rows
                                    index: (offset, nbytes) of each 256-row chunk, u64 each
                                    crc32c of the index, u32
      row, length, crc32c, stat, source     one value an utterance
      utterance                 utf-8 bytes padded with zeros, [utterances, longest]
      scale                     int8 only: float32 [utterances, dim]; frame = int8 * scale

Chunks are uncompressed and contiguous, so a reader maps the file and finds utterance i at byte
row[i] * dim * itemsize. It does so without zarr-python, through which the same batches take 25
times as long (`python -m bench.cache`: 128 and 5.2 batches/s, warm); that is for shards which
another program has written in other chunks (`ser.cache.foreign_shard`). The shard describes
itself, so the index of the whole cache can always be rebuilt. Nothing in it is unchecked: `crc32c`
covers an utterance's frames and scale, the small arrays and the index carry their own, and every
`zarr.json` follows from the rest to the byte. `utterance` is bytes and not a Zarr string because
strings are not in the Zarr v3 core and tensorstore does not read them. docs/cache.md has an example
with real bytes.
"""

import errno
import json
import math
import mmap
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np
import polars as pl

from ser.cache.files import AGAIN, readable
from ser.cache.foreign_shard import ForeignShard, created_of, has_other_layout
from ser.cache.precision import Encoded
from ser.cache.small_arrays import (
    LITTLE,
    PLAIN,
    array_metadata,
    chunk_file,
    read_array,
    read_zarr_json,
    shape_of,
    small_metadata,
)
from ser.corpus.errors import UserError

CHUNK_ROWS = 256
COLUMNS: dict[str, np.dtype] = {
    "row": np.dtype("<i8"),
    "length": np.dtype("<i4"),
    "crc32c": np.dtype("<u4"),
    "stat": np.dtype("<u8"),
    "source": np.dtype("<u8"),
}
MADV_POPULATE_READ = 22  # of Linux 5.14; Python has no name for it
DTYPES = ("float16", "float32", "int8")
SCALE = np.dtype("<f4")


class Row(NamedTuple):
    """A row of the index of frames: where one utterance is, and the hashes of its audio."""

    utterance: str
    position: int  # among the utterances of the shard
    row: int  # of the shard's frames, the first of its own
    length: int  # frames
    crc32c: int
    stat: int
    source: int
    shard: str
    created: int  # ns since 1970


def rows_of(index: pl.DataFrame) -> Iterator[Row]:
    """Yield the rows of an index of frames."""
    return map(Row._make, index.select(Row._fields).iter_rows())


class ShardFrames:
    """The frames of one committed shard, memory-mapped; every read is a view, no copy.

    With `in_memory` the file is read whole instead. Raises `UserError` when the file is missing,
    has another size than its metadata states, or its chunks are not back to back (another writer's
    Zarr): a missing Zarr chunk must never be read as silent zeros.
    """

    def __init__(self, path: Path, in_memory: bool = False) -> None:
        self.path = path
        self.shape = shape_of(path / "frames")
        self.dtype = dtype_of(path)
        if len(self.shape) not in (2, 3):
            raise UserError(f"{path / 'frames'}: it has no frames; {AGAIN}.")
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self.file = chunk_file(path / "frames", len(self.shape))
        chunks = math.ceil(self.shape[0] / CHUNK_ROWS)
        chunk = CHUNK_ROWS * self.row_bytes
        expected = chunks * (chunk + 16) + 4
        if not os.path.lexists(self.file):
            raise UserError(f"{self.file}: the shard is missing; {AGAIN}.")
        with readable(self.file, AGAIN):
            size = self.file.stat().st_size
            if size != expected:
                raise UserError(
                    f"{self.file}: the shard has {size} bytes, not {expected}; {AGAIN}."
                )
            self._map = None if in_memory else map_file(self.file)
            content = np.fromfile(self.file, "u1") if in_memory else np.frombuffer(self._map, "u1")  # type: ignore[arg-type]
        if content[chunks * chunk :].tobytes() != shard_index(chunks, chunk):
            raise UserError(f"{self.file}: the shard index is damaged or not ours; {AGAIN}.")
        data = content[: self.shape[0] * self.row_bytes]
        self.frames: np.ndarray = data.view(self.dtype).reshape(self.shape)
        self.padding = content[self.shape[0] * self.row_bytes : chunks * chunk]
        self.scale = self._scales() if self.dtype.kind == "i" else None

    def _scales(self) -> np.ndarray:
        shape = shape_of(self.path / "scale")
        file = chunk_file(self.path / "scale", len(shape))
        with readable(file, AGAIN):
            size = file.stat().st_size
            if shape[1:] != self.shape[1:] or size != math.prod(shape) * SCALE.itemsize + 4:
                raise UserError(f"{file}: the array is damaged; {AGAIN}.")
            return np.frombuffer(map_file(file), SCALE, count=math.prod(shape)).reshape(shape)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the file."""
        return self.file.stat().st_size

    def encoded(self, row: int, length: int, position: int) -> Encoded:
        """Return one utterance as it is stored; `position` is its place among the utterances.

        Raises `ValueError` when the shard has no such rows.
        """
        utterances = position + 1 if self.scale is None else len(self.scale)
        if not (0 <= row <= row + length <= len(self.frames) and 0 <= position < utterances):
            raise ValueError("the shard has no such rows")
        scale = None if self.scale is None else self.scale[position]
        return Encoded(self.frames[row : row + length], scale)

    def fetch(self, row: int, length: int) -> None:
        """Read these rows into the page cache; raises `OSError` where the disk cannot.

        Without it, a page that cannot be read when a mapped row is used ends the process (SIGBUS).
        """
        try:
            self._advise(MADV_POPULATE_READ, row, length)
        except OSError as error:
            if error.errno == errno.EINVAL:  # Linux before 5.14 does not know it
                return
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.file)) from error

    def will_need(self, row: int, length: int) -> None:
        """Make the kernel read these rows ahead."""
        self._advise(mmap.MADV_WILLNEED, row, length)

    def _advise(self, advice: int, row: int, length: int) -> None:
        if self._map is not None:
            start = row * self.row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
            self._map.madvise(advice, start, (row + length) * self.row_bytes - start)


Shard = ShardFrames | ForeignShard


def open_shard(path: Path, in_memory: bool = False) -> Shard:
    """Map a shard, or open it through zarr-python where another program has written it again.

    Raises `UserError` as `ShardFrames`.
    """
    return ForeignShard(path) if is_foreign(path) else ShardFrames(path, in_memory)


def is_foreign(path: Path) -> bool:
    """Return whether a shard's frames or scales have other chunks or codecs than ours."""
    return has_other_layout(path / "frames", frames_metadata) or has_other_layout(
        path / "scale", small_metadata
    )


def map_file(file: Path) -> mmap.mmap:
    """Map a file copy-on-write: torch warns of read-only arrays, and nothing here writes.

    Before Python 3.13 every mapping keeps a file descriptor, and a large cache has more shards than
    the usual 1,024; the limit is then raised as far as it goes.
    """
    try:
        return _map(file)
    except OSError as error:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if error.errno != errno.EMFILE or soft == hard:
            raise
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return _map(file)


def _map(file: Path) -> mmap.mmap:
    with file.open("rb") as opened:
        if sys.version_info >= (3, 13):
            return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY, trackfd=False)
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)


def checksum(encoded: Encoded) -> int:
    """Return the crc32c of an utterance's frames and, for int8, of its scale behind them."""
    crc: int = google_crc32c.value(np.ascontiguousarray(encoded.data).view(np.uint8))
    if encoded.scale is not None:
        crc = google_crc32c.extend(crc, encoded.scale.tobytes())
    return crc


def read_rows(path: Path, shard: str) -> pl.DataFrame:
    """Read the small arrays of one shard: what index.parquet is rebuilt from.

    Raises `UserError` when any of them is damaged or not ours.
    """
    columns = {name: read_array(path / name, dtype) for name, dtype in COLUMNS.items()}
    text = read_array(path / "utterance", np.dtype("u1"))
    created = created_of(path) if is_foreign(path) else _created(path / "zarr.json")
    if not isinstance(created, int):
        raise UserError(f"{path}: its attributes are damaged; {AGAIN}.")
    utterances = [bytes(row).rstrip(b"\0").decode() for row in text]
    if {len(values) for values in columns.values()} != {len(utterances)}:
        raise UserError(f"{path}: its arrays are of different lengths; {AGAIN}.")
    position = np.arange(len(utterances), dtype=np.int32)
    return pl.DataFrame({"utterance": utterances, "position": position, **columns}).with_columns(
        shard=pl.lit(shard), created=pl.lit(created, dtype=pl.Int64)
    )


def _created(group: Path) -> int:
    attributes = read_zarr_json(group.parent).get("attributes")
    created = attributes.get("created") if isinstance(attributes, dict) else None
    if not isinstance(created, int) or group.read_bytes() != group_metadata(created):
        raise UserError(f"{group}: it is damaged or not ours; {AGAIN}.")
    return created


def dtype_of(path: Path) -> np.dtype:
    """Return the dtype of a shard's frames; raises `UserError` when it is not one of ours."""
    name = read_zarr_json(path / "frames").get("data_type")
    if name not in DTYPES:
        file = path / "frames" / "zarr.json"
        raise UserError(f"{file}: the data type is {name!r}, not one of ours; {AGAIN}.")
    dtype: np.dtype = np.dtype(name).newbyteorder("<")
    return dtype


def shard_index(chunks: int, chunk: int) -> bytes:
    """Return the index at the end of a shard file of `chunks` chunks of `chunk` bytes."""
    index = np.array([(i * chunk, chunk) for i in range(chunks)], dtype="<u8").tobytes()
    checked: bytes = index + google_crc32c.value(index).to_bytes(4, "little")
    return checked


def frames_metadata(shape: Sequence[int], dtype: np.dtype) -> bytes:
    """Return the `zarr.json` of a shard's frames."""
    rows, *item = shape
    codecs = {
        "chunk_shape": [CHUNK_ROWS, *item],
        "codecs": [LITTLE if dtype.itemsize > 1 else PLAIN],
        "index_codecs": [LITTLE, {"name": "crc32c"}],
        "index_location": "end",
    }
    outer = [math.ceil(rows / CHUNK_ROWS) * CHUNK_ROWS, *item]
    sharding = [{"name": "sharding_indexed", "configuration": codecs}]
    return array_metadata(shape, outer, dtype, sharding)


def group_metadata(created: object) -> bytes:
    """Return the `zarr.json` of a shard."""
    attributes = {"created": created, "crc32c": google_crc32c.value(str(created).encode())}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(group).encode()
