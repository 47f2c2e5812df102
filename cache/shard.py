"""One shard on disk: a Zarr v3 group that any Zarr reader opens, written as a stream.

    <host>-<pid>-<random>/
      zarr.json                 group; attributes: created (ns)
      frames/zarr.json          array [rows, dim] or [rows, layers, dim], float16 or float32
      frames/c/0/0              the one shard file (codec sharding_indexed):
                                    row 0 .. row n-1         utterances back to back
                                    zeros to a multiple of 256 rows
                                    index: (offset, nbytes) of each 256-row chunk, u64 each
                                    crc32c of the index, u32
      row, length, crc32c, stat, source     one value an utterance
      utterance                 utf-8 bytes padded with zeros, [utterances, longest]

Example, float16, dim 384, two utterances of 100 and 250 frames: 350 rows are padded to 512, so the
data are 512 * 384 * 2 = 393,216 bytes, followed by 2 * 16 bytes of index and 4 of checksum.

Chunks are uncompressed and contiguous, so a reader maps the file and finds utterance i at byte
row[i] * dim * itemsize without any Zarr library; the shard describes itself, so the index of the
whole cache can always be rebuilt. `utterance` is bytes and not a Zarr string because strings are
not in the Zarr v3 core and tensorstore does not read them.
"""

import json
import math
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import polars as pl

from cache.folder import now_ns, sync_folder
from corpus.errors import UserError

CHUNK_ROWS = 256
COLUMNS: dict[str, np.dtype[Any]] = {
    "row": np.dtype("<i8"),
    "length": np.dtype("<i4"),
    "crc32c": np.dtype("<u4"),
    "stat": np.dtype("<u8"),
    "source": np.dtype("<u8"),
}
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
PLAIN = {"name": "bytes"}


class ShardWriter:
    """Stream utterances into one shard below `staging`; nothing is visible before `commit`.

    Memory does not depend on the size of the shard. The owner is one thread of one process.
    """

    def __init__(self, staging: Path, item_shape: Sequence[int], dtype: str) -> None:
        self.item_shape = tuple(item_shape)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.path = staging
        data = staging / "frames" / "c" / "/".join("0" * (1 + len(self.item_shape)))
        try:
            data.parent.mkdir(parents=True)
            self._file = data.open("wb", buffering=1 << 20)
        except OSError:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._rows = 0
        self._columns: dict[str, list[int]] = {name: [] for name in COLUMNS}
        self._utterances: list[str] = []

    @property
    def nbytes(self) -> int:
        """Return the bytes of frames written so far."""
        return self._rows * math.prod(self.item_shape) * self.dtype.itemsize

    def append(self, utterance: str, frames: np.ndarray, stat: int, source: int) -> None:
        """Write one utterance: `(frames, *item_shape)`, cast to the dtype of the shard."""
        if frames.shape[1:] != self.item_shape or not len(frames):
            raise ValueError(f"{utterance}: {frames.shape} frames, expected (n, {self.item_shape})")
        data = np.ascontiguousarray(frames, dtype=self.dtype).tobytes()
        self._file.write(data)
        values = (self._rows, len(frames), google_crc32c.value(data), stat, source)
        for name, value in zip(COLUMNS, values, strict=True):
            self._columns[name].append(value)
        self._utterances.append(utterance)
        self._rows += len(frames)

    def commit(self, target: Path) -> None:
        """Finish the shard and make it visible by one rename; durable when this returns."""
        chunk = CHUNK_ROWS * math.prod(self.item_shape) * self.dtype.itemsize
        chunks = math.ceil(self._rows / CHUNK_ROWS)
        self._file.write(bytes(chunks * chunk - self.nbytes))
        index = np.array([(i * chunk, chunk) for i in range(chunks)], dtype="<u8").tobytes()
        self._file.write(index + google_crc32c.value(index).to_bytes(4, "little"))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        _write_json(self.path / "frames", self._frames_metadata(chunks * CHUNK_ROWS))
        for name, dtype in COLUMNS.items():
            _write_array(self.path / name, np.array(self._columns[name], dtype=dtype))
        _write_array(self.path / "utterance", _encode(self._utterances))
        group = {"zarr_format": 3, "node_type": "group", "attributes": {"created": now_ns()}}
        _write_json(self.path, group)
        for folder, _, _ in os.walk(self.path):
            sync_folder(Path(folder))
        self.path.rename(target)
        sync_folder(target.parent)

    def abandon(self) -> None:
        """Throw the unfinished shard away."""
        with suppress(OSError):  # closing flushes, which on a full disk fails once more
            self._file.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def _frames_metadata(self, padded_rows: int) -> dict[str, Any]:
        codecs = {
            "chunk_shape": [CHUNK_ROWS, *self.item_shape],
            "codecs": [LITTLE],
            "index_codecs": [LITTLE, {"name": "crc32c"}],
            "index_location": "end",
        }
        return _array_metadata(
            shape=[self._rows, *self.item_shape],
            chunk_shape=[padded_rows, *self.item_shape],
            dtype=self.dtype,
            codecs=[{"name": "sharding_indexed", "configuration": codecs}],
        )


class ShardFrames:
    """Map the frames of one committed shard; every read is a view, no copy.

    Raises `UserError` when the file is missing, has another size than its metadata says, or its
    chunks are not back to back (another writer's Zarr): a missing Zarr chunk must never be read as
    silent zeros.
    """

    def __init__(self, path: Path) -> None:
        metadata = _read_metadata(path / "frames")
        self.shape: tuple[int, ...] = tuple(metadata["shape"])
        self.dtype = np.dtype(metadata["data_type"]).newbyteorder("<")
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        file = path / "frames" / "c" / "/".join("0" * len(self.shape))
        chunks = math.ceil(self.shape[0] / CHUNK_ROWS)
        expected = chunks * (CHUNK_ROWS * self.row_bytes + 16) + 4
        size = file.stat().st_size if file.exists() else -1
        if size != expected:
            found = "is missing" if size < 0 else f"has {size} bytes, not {expected}"
            raise UserError(
                f"{file}: the shard {found}; delete the folder {path} and extract again."
            )
        mapped = np.memmap(file, mode="c", dtype=np.uint8)  # "c": torch warns of read-only views
        index = np.frombuffer(mapped[-4 - 16 * chunks : -4], dtype="<u8").reshape(chunks, 2)
        starts = np.arange(chunks, dtype=np.uint64) * np.uint64(CHUNK_ROWS * self.row_bytes)
        stored = int.from_bytes(mapped[-4:].tobytes(), "little")
        if google_crc32c.value(index.tobytes()) != stored or not np.array_equal(
            index[:, 0], starts
        ):
            raise UserError(
                f"{file}: the shard index is damaged or not ours; delete the folder {path} and "
                "extract again."
            )
        self.bytes = mapped
        data = mapped[: self.shape[0] * self.row_bytes]
        self.frames: np.ndarray = data.view(self.dtype).reshape(self.shape)

    def will_need(self, row: int, length: int) -> None:
        """Tell the kernel to read these rows ahead."""
        import mmap

        page = mmap.PAGESIZE
        start = row * self.row_bytes // page * page
        end = (row + length) * self.row_bytes
        # numpy keeps the mmap in a private attribute; there is no public way to it.
        self.bytes._mmap.madvise(mmap.MADV_WILLNEED, start, end - start)  # type: ignore[attr-defined]


def read_rows(path: Path, shard: str) -> pl.DataFrame:
    """Read the small arrays of one shard: what index.parquet is rebuilt from."""
    columns = {name: _read_array(path / name, dtype) for name, dtype in COLUMNS.items()}
    text = _read_array(path / "utterance", np.dtype("u1"))
    group = _read_metadata(path)
    utterances = [bytes(row).rstrip(b"\0").decode() for row in text]
    return pl.DataFrame({"utterance": utterances, **columns}).with_columns(
        shard=pl.lit(shard), created=pl.lit(group["attributes"]["created"], dtype=pl.Int64)
    )


def _encode(utterances: Sequence[str]) -> np.ndarray:
    encoded = [u.encode() for u in utterances]
    width = max(len(e) for e in encoded)
    return np.frombuffer(b"".join(e.ljust(width, b"\0") for e in encoded), "u1").reshape(-1, width)


def _array_metadata(
    shape: list[int], chunk_shape: list[int], dtype: np.dtype[Any], codecs: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0 if dtype.kind == "f" else 0,
        "codecs": codecs,
        "attributes": {},
    }


def _write_json(folder: Path, metadata: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / "zarr.json").open("w", encoding="utf-8") as file:
        json.dump(metadata, file)
        file.flush()
        os.fsync(file.fileno())


def _write_array(folder: Path, values: np.ndarray) -> None:
    shape = list(values.shape)
    codecs = [LITTLE if values.dtype.itemsize > 1 else PLAIN, {"name": "crc32c"}]
    _write_json(folder, _array_metadata(shape, shape, values.dtype, codecs))
    data = values.tobytes()
    file = folder / "c" / "/".join("0" * values.ndim)
    file.parent.mkdir(parents=True)
    with file.open("wb") as out:
        out.write(data + google_crc32c.value(data).to_bytes(4, "little"))
        out.flush()
        os.fsync(out.fileno())


def _read_metadata(folder: Path) -> dict[str, Any]:
    try:
        metadata: dict[str, Any] = json.loads((folder / "zarr.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / 'zarr.json'}: not readable ({error}); delete the shard's folder and "
            "extract again."
        ) from error
    return metadata


def _read_array(folder: Path, dtype: np.dtype[Any]) -> np.ndarray:
    shape = _read_metadata(folder)["shape"]
    file = folder / "c" / "/".join("0" * len(shape))
    data = file.read_bytes() if file.exists() else b""
    if len(data) != math.prod(shape) * dtype.itemsize + 4 or google_crc32c.value(
        data[:-4]
    ) != int.from_bytes(data[-4:], "little"):
        raise UserError(
            f"{file}: the array is missing or damaged; delete the folder {folder.parent} and "
            "extract again."
        )
    return np.frombuffer(data[:-4], dtype=dtype).reshape(shape)
