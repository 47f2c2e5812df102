"""The small Zarr v3 arrays beside a shard's frames: one uncompressed chunk each, with a crc32c."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import google_crc32c
import numpy as np

from ser.cache.files import AGAIN, DeniedError, readable
from ser.cache.foreign_shard import has_other_layout, read_foreign
from ser.cache.json_file import read_object
from ser.corpus.errors import UserError

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
PLAIN = {"name": "bytes"}


def array_metadata(
    shape: Sequence[int],
    chunk_shape: Sequence[int],
    dtype: np.dtype,
    codecs: Sequence[Mapping[str, object]],
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
        "codecs": list(codecs),
        "attributes": {},
    }
    return json.dumps(metadata).encode()


def small_metadata(shape: Sequence[int], dtype: np.dtype) -> bytes:
    """Return the `zarr.json` of an array in one uncompressed chunk with a crc32c."""
    codecs = [LITTLE if dtype.itemsize > 1 else PLAIN, {"name": "crc32c"}]
    return array_metadata(shape, shape, dtype, codecs)


def write_metadata(folder: Path, metadata: bytes) -> None:
    """Write a `zarr.json`, making its folder; the caller syncs it, as everything of a shard."""
    folder.mkdir(exist_ok=True)
    (folder / "zarr.json").write_bytes(metadata)


def write_array(folder: Path, values: np.ndarray) -> None:
    """Write a small array as one chunk."""
    write_metadata(folder, small_metadata(values.shape, values.dtype))
    data = values.tobytes()
    file = chunk_file(folder, values.ndim)
    file.parent.mkdir(parents=True)
    file.write_bytes(data + _crc32c(data))


def read_array(folder: Path, dtype: np.dtype) -> np.ndarray:
    """Read what `write_array` wrote, or another program in other chunks.

    Raises `UserError` when anything of it is damaged.
    """
    try:
        return _read_ours(folder, dtype)
    except DeniedError:
        raise
    except UserError:
        if _is_sealed(folder) or not has_other_layout(folder, small_metadata):
            raise
    return read_foreign(folder, dtype)


def _is_sealed(folder: Path) -> bool:
    """Return whether the chunk has a crc32c of ours, so that other metadata than ours is damage."""
    for file in folder.glob("c/**/0"):
        if file.is_file():
            data = file.read_bytes()
            return _crc32c(data[:-4]) == data[-4:]
    return False


def _crc32c(data: bytes) -> bytes:
    crc: int = google_crc32c.value(data)
    return crc.to_bytes(4, "little")


def _read_ours(folder: Path, dtype: np.dtype) -> np.ndarray:
    shape = shape_of(folder)
    file, metadata = chunk_file(folder, len(shape)), folder / "zarr.json"
    with readable(file, AGAIN):
        data = file.read_bytes()
    with readable(metadata, AGAIN):
        stored = metadata.read_bytes()
    if (
        len(data) != math.prod(shape) * dtype.itemsize + 4
        or _crc32c(data[:-4]) != data[-4:]
        or stored != small_metadata(shape, dtype)
    ):
        raise UserError(f"{file}: the array is missing or damaged; {AGAIN}.")
    return np.frombuffer(data[:-4], dtype=dtype).reshape(shape)


def shape_of(folder: Path) -> tuple[int, ...]:
    """Return the shape that a `zarr.json` states; raises `UserError` when it states none."""
    shape = read_zarr_json(folder).get("shape")
    if not isinstance(shape, list) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise UserError(f"{folder / 'zarr.json'}: the shape is missing; {AGAIN}.")
    return tuple(shape)


def read_zarr_json(folder: Path) -> dict[str, object]:
    """Read the `zarr.json` of an array or group; raises `UserError` when it is damaged."""
    file = folder / "zarr.json"
    with readable(file, AGAIN):
        return read_object(file, AGAIN)


def chunk_file(folder: Path, dimensions: int) -> Path:
    """Return the file of an array's only chunk."""
    return folder / "c" / "/".join("0" * dimensions)
