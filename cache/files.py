"""Small files: written durably, named by fingerprint; the small Zarr arrays beside a shard."""

import hashlib
import io
import json
import math
import os
import shutil
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import polars as pl

from corpus.errors import UserError

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
PLAIN = {"name": "bytes"}
AGAIN = "run `ser cache verify --repair` and extract again"


def fingerprint(made_from: Mapping[str, Any]) -> str:
    """Hash a mapping of plain values: 16 hexadecimal characters.

    Key order does not matter; every value does. Values must be JSON (paths as text), so that the
    same mapping gives the same name on every machine and version of Python.
    """
    text = json.dumps(made_from, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash64(data: bytes) -> int:
    """Hash bytes to 64 bits: what a row's `stat` and `source` are."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def write_durably(path: Path, content: str | bytes) -> None:
    """Write a small file so that a power cut leaves the old one or the new one, whole.

    What a full disk cuts short is removed again.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        _write_synced(part, content.encode() if isinstance(content, str) else content)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object; raises `UserError` with the remedy when it is none."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error}); {remedy}.") from error
    if not isinstance(said, dict):
        raise UserError(f"{path}: it holds no JSON object; {remedy}.")
    return said


def parquet(frame: pl.DataFrame) -> bytes:
    """Return a frame as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def array_metadata(
    shape: Sequence[int],
    chunk_shape: Sequence[int],
    dtype: np.dtype[Any],
    codecs: list[dict[str, Any]],
) -> bytes:
    """Return the `zarr.json` of a Zarr v3 array."""
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0 if dtype.kind == "f" else 0,
        "codecs": codecs,
        "attributes": {},
    }
    return json.dumps(metadata).encode()


def small_metadata(shape: Sequence[int], dtype: np.dtype[Any]) -> bytes:
    """Return the `zarr.json` of an array in one uncompressed chunk with a crc32c."""
    codecs = [LITTLE if dtype.itemsize > 1 else PLAIN, {"name": "crc32c"}]
    return array_metadata(shape, shape, dtype, codecs)


def write_metadata(folder: Path, metadata: bytes) -> None:
    """Write a `zarr.json`, making its folder."""
    folder.mkdir(exist_ok=True)
    _write_synced(folder / "zarr.json", metadata)


def write_array(folder: Path, values: np.ndarray) -> None:
    """Write a small array as one chunk."""
    write_metadata(folder, small_metadata(values.shape, values.dtype))
    data = values.tobytes()
    file = chunk_file(folder, values.ndim)
    file.parent.mkdir(parents=True)
    _write_synced(file, data + google_crc32c.value(data).to_bytes(4, "little"))


def read_array(folder: Path, dtype: np.dtype[Any]) -> np.ndarray:
    """Read what `write_array` wrote; raises `UserError` when anything of it is damaged."""
    shape = shape_of(folder)
    file = chunk_file(folder, len(shape))
    data = file.read_bytes() if file.exists() else b""
    if (
        len(data) != math.prod(shape) * dtype.itemsize + 4
        or google_crc32c.value(data[:-4]) != int.from_bytes(data[-4:], "little")
        or (folder / "zarr.json").read_bytes() != small_metadata(shape, dtype)
    ):
        raise UserError(f"{file}: the array is missing or damaged; {AGAIN}.")
    return np.frombuffer(data[:-4], dtype=dtype).reshape(shape)


def shape_of(folder: Path) -> tuple[int, ...]:
    """Return the shape that a `zarr.json` states; raises `UserError` when it states none."""
    shape = read_json(folder / "zarr.json", AGAIN).get("shape")
    if not isinstance(shape, list) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise UserError(f"{folder / 'zarr.json'}: it states no shape; {AGAIN}.")
    return tuple(shape)


def chunk_file(folder: Path, dimensions: int) -> Path:
    """Return the file of an array's only chunk."""
    return folder / "c" / "/".join("0" * dimensions)


def _write_synced(file: Path, data: bytes) -> None:
    with file.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def new_shard_name() -> str:
    """Return a name that no other writer on any machine uses: host-pid-random."""
    return f"{host()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"


def now_ns() -> int:
    """Return the time in ns since 1970, which orders rows that were written twice."""
    return time.time_ns()


def host() -> str:
    """Return the name of this machine as it stands in shard names."""
    return socket.gethostname().replace("-", "_").replace("/", "_") or "host"


def alive(shard: str) -> bool:
    """Tell whether the process of this machine that names a shard still runs."""
    pid = shard.removeprefix(f"{host()}-").split("-")[0]
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:  # another user's, and alive
        return True
    return True


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
