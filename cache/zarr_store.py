"""Zarr arrays of any writer, read through zarr-python: bounded, and never silent zeros.

Zarr reads a chunk that is not stored as the fill value, so a lost file looks like silence. Floats
are therefore read with NaN as the fill value, and integers twice, with two fill values: what
depends on the fill value is missing. Only known codecs are run: none of them unpickles anything.
Codecs allocate whatever a compressed chunk unpacks to, so they run under a limit of memory.
"""

import math
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from ser.corpus.errors import first_line

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store

    ZarrArray = zarr.Array[Any]

LARGEST = 1 << 31  # bytes of one chunk, and of what is read at once
ROOM = 2 << 30  # bytes that the process may take beside the values, a chunk and their copies
MOST_CHUNKS = 1_000_000  # of one shard, and of what is read at once
_LIMIT = threading.Lock()  # the limit is the process's: two threads would restore each other's
_OPENING = threading.Lock()
CODECS = frozenset(  # of Zarr v2 and v3, without the prefix "numcodecs."
    (
        *("bytes", "transpose", "sharding_indexed", "vlen-utf8"),
        *("crc32c", "crc32", "adler32", "fletcher32", "jenkins_lookup3"),
        *("blosc", "zstd", "gzip", "zlib", "bz2", "lzma", "lz4"),
        *("delta", "shuffle", "astype", "quantize", "bitround", "fixedscaleoffset", "packbits"),
    )
)


class ZarrError(ValueError):
    """An array that cannot be used, in one clause."""


def open_array(store: "Store | Path", path: str, metadata: Mapping[str, object]) -> "ZarrArray":
    """Open an array of a store whose zarr.json or .zarray has this content; no chunk is read yet.

    Raises `ZarrError` for one that zarr-python cannot open, with a codec that is not known, or
    with chunks that no memory holds.
    """
    import zarr

    unknown = sorted(codec_names(metadata) - CODECS)
    if unknown:
        raise ZarrError(f"its codec '{unknown[0][:100]}' is not one of {', '.join(sorted(CODECS))}")
    # threads in it at once would restore each other's filters: no warning would be seen again
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of data types that have no specification yet
        try:
            array = zarr.open_array(store, path=path, mode="r")
        except Exception as error:  # zarr-python has an exception for each kind of bad metadata
            raise ZarrError(first_line(error)) from error
    size = math.prod(array.chunks) * array.dtype.itemsize
    if size > LARGEST:
        raise ZarrError(f"its chunks of shape {array.chunks} are larger than {LARGEST:,} bytes")
    inner = math.prod(-(-s // c) for s, c in zip(array.shards or (), array.chunks, strict=False))
    if inner > MOST_CHUNKS:
        raise ZarrError(f"its shards hold more than {MOST_CHUNKS:,} chunks each")
    return array


def codec_names(metadata: Mapping[str, object]) -> set[str]:
    """Return the names of all codecs of an array, also of those within shards."""
    names, level = set[str](), [metadata.get(key) for key in ("codecs", "filters", "compressor")]
    for value in level:  # it grows
        if isinstance(value, list):
            level += value
        elif isinstance(value, dict):
            name = value.get("name", value.get("id"))
            names.add(str(name).removeprefix("numcodecs."))
            inner = value.get("configuration")
            if isinstance(inner, dict):
                level += [inner.get("codecs"), inner.get("index_codecs")]
    return names


def read(array: "ZarrArray", start: int = 0, stop: int | None = None) -> np.ndarray:
    """Read rows of an array, in native byte order.

    Raises `ZarrError` when they are too large, damaged, or one of their chunks is not stored.
    """
    stop = array.shape[0] if stop is None and array.ndim else stop
    rows = slice(start, stop) if array.ndim else slice(None)
    shape = (stop - start, *array.shape[1:]) if stop is not None else array.shape
    if math.prod(shape) * array.dtype.itemsize > LARGEST:
        raise ZarrError(f"its shape {shape} of {array.dtype} is more than {LARGEST:,} bytes")
    chunks = math.prod(n // chunk + 2 for n, chunk in zip(shape, array.chunks, strict=True))
    if chunks > MOST_CHUNKS:
        raise ZarrError(f"its chunks of shape {array.chunks} are more than {MOST_CHUNKS:,}")
    values = math.prod(shape) + math.prod(array.chunks)
    with _limited_memory(3 * values * array.dtype.itemsize + ROOM):
        return _read(array, rows)


def _read(array: "ZarrArray", rows: slice) -> np.ndarray:
    kind = array.dtype.kind
    if kind not in "fiu":
        return _selected(array, rows)
    first = _selected(_with_fill_value(array, math.nan if kind == "f" else 0), rows)
    if kind == "f" and not np.isnan(first).any():
        return first
    other = _selected(_with_fill_value(array, 1), rows)
    if not np.array_equal(first, other, equal_nan=kind == "f"):
        raise ZarrError(
            "a chunk is not stored, which Zarr would read as the fill value (chunks of zeros are "
            "stored by write_empty_chunks)"
        )
    return first


@contextmanager
def _limited_memory(size: int) -> Iterator[None]:
    """Let the process take so many bytes more, where the system can tell and limit that (Linux).

    Beyond them a decoder fails as it does when memory is full.
    """
    if not psutil.LINUX:
        yield
        return
    import resource

    with _LIMIT:
        limit = psutil.Process().memory_info().vms + size
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            limit = min(limit, soft)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _selected(array: "ZarrArray", rows: slice) -> np.ndarray:
    try:
        values = np.asarray(array[rows] if array.ndim else array[()])
    except MemoryError as error:
        raise ZarrError("a chunk unpacks to far more than its stated size") from error
    except Exception as error:  # each codec has its own exceptions
        raise ZarrError(first_line(error)) from error
    if values.dtype.kind in "fiu" and not values.dtype.isnative:
        return values.astype(values.dtype.newbyteorder("="))
    return values


def _with_fill_value(array: "ZarrArray", value: float) -> "ZarrArray":
    import zarr

    inner = array.async_array
    fill_value = np.array(value, dtype=array.dtype)[()]
    metadata: Any = replace(inner.metadata, fill_value=fill_value)
    return zarr.Array(zarr.AsyncArray(metadata, inner.store_path, inner.config))
