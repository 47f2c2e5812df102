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
row[i] * dim * itemsize without any Zarr library; the shard describes itself, so the index of the
whole cache can always be rebuilt. Nothing in it is unchecked: `crc32c` covers an utterance's frames
and scale, the small arrays and the index carry their own, and every `zarr.json` follows from the
rest to the byte. `utterance` is bytes and not a Zarr string because strings are not in the Zarr v3
core and tensorstore does not read them. docs/cache.md has an example with real bytes.
"""

import errno
import json
import math
import mmap
import os
import resource
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import polars as pl

from cache.files import (
    AGAIN,
    LITTLE,
    PLAIN,
    array_metadata,
    chunk_file,
    read_array,
    read_json,
    shape_of,
    sync_folder,
    write_array,
    write_metadata,
)
from cache.precision import Encoded
from corpus.errors import UserError

CHUNK_ROWS = 256
COLUMNS: dict[str, np.dtype[Any]] = {
    "row": np.dtype("<i8"),
    "length": np.dtype("<i4"),
    "crc32c": np.dtype("<u4"),
    "stat": np.dtype("<u8"),
    "source": np.dtype("<u8"),
}
DTYPES = ("float16", "float32", "int8")
SCALE = np.dtype("<f4")


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

    def append(self, utterance: str, encoded: Encoded, stat: int, source: int) -> None:
        """Write one utterance: `(frames, *item_shape)` in the dtype of the shard."""
        self._write(encoded.data.data.cast("B"))
        values = (self._rows, len(encoded.data), checksum(encoded), stat, source)
        for name, value in zip(COLUMNS, values, strict=True):
            self._columns[name].append(value)
        self._utterances.append(utterance)
        if encoded.scale is not None:
            self._scales.append(encoded.scale)
        self._rows += len(encoded.data)

    def _write(self, data: memoryview | bytes) -> None:
        # unbuffered, because a buffer would copy every byte once more; so a write may be partial
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def finish(self, created: int) -> None:
        """Complete the shard's files; everything is on the disk when this returns."""
        chunk = CHUNK_ROWS * math.prod(self.item_shape) * self.dtype.itemsize
        chunks = math.ceil(self._rows / CHUNK_ROWS)
        self._write(bytes(chunks * chunk - self.nbytes))
        self._write(_shard_index(chunks, chunk))
        os.fsync(self._file.fileno())
        self._file.close()
        shape = (self._rows, *self.item_shape)
        write_metadata(self.path / "frames", _frames_metadata(shape, self.dtype))
        for name, dtype in COLUMNS.items():
            write_array(self.path / name, np.array(self._columns[name], dtype=dtype))
        write_array(self.path / "utterance", _encode_names(self._utterances))
        if self._scales:
            write_array(self.path / "scale", np.stack(self._scales))
        write_metadata(self.path, _group_metadata(created))
        for folder, _, _ in os.walk(self.path):
            sync_folder(Path(folder))

    def abandon(self) -> None:
        """Throw the unfinished shard away."""
        with suppress(OSError):  # closing flushes, which on a full disk fails once more
            self._file.close()
        shutil.rmtree(self.path, ignore_errors=True)


class ShardFrames:
    """Map the frames of one committed shard; every read is a view, no copy.

    With `in_memory` the file is read whole instead. Raises `UserError` when the file is missing,
    has another size than its metadata says, or its chunks are not back to back (another writer's
    Zarr): a missing Zarr chunk must never be read as silent zeros.
    """

    def __init__(self, path: Path, in_memory: bool = False) -> None:
        self.path = path
        self.shape = shape_of(path / "frames")
        self.dtype = dtype_of(path)
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self.file = chunk_file(path / "frames", len(self.shape))
        chunks = math.ceil(self.shape[0] / CHUNK_ROWS)
        chunk = CHUNK_ROWS * self.row_bytes
        expected = chunks * (chunk + 16) + 4
        size = self.file.stat().st_size if self.file.exists() else -1
        if size != expected:
            found = "is missing" if size < 0 else f"has {size} bytes, not {expected}"
            raise UserError(f"{self.file}: the shard {found}; {AGAIN}.")
        self._map = None if in_memory else map_file(self.file)
        content = np.fromfile(self.file, "u1") if in_memory else np.frombuffer(self._map, "u1")  # type: ignore[arg-type]
        if content[chunks * chunk :].tobytes() != _shard_index(chunks, chunk):
            raise UserError(f"{self.file}: the shard index is damaged or not ours; {AGAIN}.")
        data = content[: self.shape[0] * self.row_bytes]
        self.frames: np.ndarray = data.view(self.dtype).reshape(self.shape)
        self.padding = content[self.shape[0] * self.row_bytes : chunks * chunk]
        self.scale = self._scales() if self.dtype.kind == "i" else None

    def _scales(self) -> np.ndarray:
        shape = shape_of(self.path / "scale")
        file = chunk_file(self.path / "scale", len(shape))
        if not file.exists() or file.stat().st_size != math.prod(shape) * SCALE.itemsize + 4:
            raise UserError(f"{file}: the array is missing or damaged; {AGAIN}.")
        return np.frombuffer(map_file(file), SCALE, count=math.prod(shape)).reshape(shape)

    def encoded(self, row: int, length: int, position: int) -> Encoded:
        """Return one utterance as it is stored; `position` is its place among the utterances."""
        scale = None if self.scale is None else self.scale[position]
        return Encoded(self.frames[row : row + length], scale)

    def will_need(self, row: int, length: int) -> None:
        """Tell the kernel to read these rows ahead."""
        if self._map is not None:
            start = row * self.row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, start, (row + length) * self.row_bytes - start)


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
    untracked: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY, **untracked)


def checksum(encoded: Encoded) -> int:
    """Return the crc32c of an utterance's frames and, for int8, of its scale behind them."""
    crc: int = google_crc32c.value(np.ascontiguousarray(encoded.data).view(np.uint8))
    if encoded.scale is not None:
        crc = google_crc32c.extend(crc, encoded.scale.tobytes())
    return crc


def read_rows(path: Path, shard: str) -> pl.DataFrame:
    """Read the small arrays of one shard: what index.parquet is rebuilt from.

    Raises `UserError` when any of them is damaged, or is none of ours.
    """
    columns = {name: read_array(path / name, dtype) for name, dtype in COLUMNS.items()}
    text = read_array(path / "utterance", np.dtype("u1"))
    created = read_json(path / "zarr.json", AGAIN).get("attributes", {}).get("created")
    if (path / "zarr.json").read_bytes() != _group_metadata(created):
        raise UserError(f"{path / 'zarr.json'}: it is damaged or not ours; {AGAIN}.")
    utterances = [bytes(row).rstrip(b"\0").decode() for row in text]
    position = np.arange(len(utterances), dtype=np.int32)
    return pl.DataFrame({"utterance": utterances, "position": position, **columns}).with_columns(
        shard=pl.lit(shard), created=pl.lit(created, dtype=pl.Int64)
    )


def require_whole(path: Path) -> None:
    """Check everything of a shard that `read_rows` and the utterances' crc32c do not cover.

    Raises `UserError` that names the file.
    """
    frames = ShardFrames(path)
    if (path / "frames" / "zarr.json").read_bytes() != _frames_metadata(frames.shape, frames.dtype):
        raise UserError(f"{path / 'frames' / 'zarr.json'}: it is damaged or not ours; {AGAIN}.")
    if frames.scale is not None:
        read_array(path / "scale", SCALE)
    if frames.padding.any():
        raise UserError(f"{frames.file}: bytes behind the last row are damaged; {AGAIN}.")


def intact(path: Path, rows: pl.DataFrame) -> Iterator[tuple[dict[str, Any], Encoded]]:
    """Yield the rows whose bytes still have their crc32c, whatever else a shard has lost."""
    try:
        dtype, shape = dtype_of(path), shape_of(path / "frames")
        scale = read_array(path / "scale", SCALE) if dtype.kind == "i" else None
        file = chunk_file(path / "frames", len(shape)).open("rb")
    except (UserError, OSError):
        return
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    with file:
        for row in rows.iter_rows(named=True):
            file.seek(row["row"] * row_bytes)
            data = file.read(row["length"] * row_bytes)
            if len(data) == row["length"] * row_bytes:
                frames = np.frombuffer(data, dtype).reshape(-1, *shape[1:])
                encoded = Encoded(frames, None if scale is None else scale[row["position"]])
                if checksum(encoded) == row["crc32c"]:
                    yield row, encoded


def dtype_of(path: Path) -> np.dtype[Any]:
    """Return the dtype of a shard's frames; raises `UserError` when it is none of ours."""
    name = read_json(path / "frames" / "zarr.json", AGAIN).get("data_type")
    if name not in DTYPES:
        file = path / "frames" / "zarr.json"
        raise UserError(f"{file}: the data type is {name!r}, not one of ours; {AGAIN}.")
    dtype: np.dtype[Any] = np.dtype(name).newbyteorder("<")
    return dtype


def _shard_index(chunks: int, chunk: int) -> bytes:
    index = np.array([(i * chunk, chunk) for i in range(chunks)], dtype="<u8").tobytes()
    checked: bytes = index + google_crc32c.value(index).to_bytes(4, "little")
    return checked


def _frames_metadata(shape: Sequence[int], dtype: np.dtype[Any]) -> bytes:
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


def _group_metadata(created: Any) -> bytes:
    attributes = {"created": created, "crc32c": google_crc32c.value(str(created).encode())}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(group).encode()


def _encode_names(utterances: Sequence[str]) -> np.ndarray:
    encoded = [u.encode() for u in utterances]
    width = max(len(e) for e in encoded)
    return np.frombuffer(b"".join(e.ljust(width, b"\0") for e in encoded), "u1").reshape(-1, width)
