"""Arrays in a zip file (npz), read within limits: nothing is unpickled, and no size is trusted."""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np

LARGEST = 1 << 30  # bytes, all members decompressed
INFLATION = 100  # times the file's size; that of real ones is about 4


class BrokenFileError(ValueError):
    """The file is damaged, or does not contain what it should."""


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write `<name>.npy` of every array; equal arrays give equal bytes."""
    with ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(ZipInfo(f"{name}.npy"), "w") as member:  # without today's date
                np.lib.format.write_array(member, array, allow_pickle=False)


def require_size(archive: ZipFile, size: int) -> None:
    """Raise `BrokenFileError` for a zip file of `size` bytes that decompresses to far more."""
    infos = archive.infolist()
    if len({info.filename for info in infos}) != len(infos):
        raise BrokenFileError("a member appears twice")
    if any(info.compress_type not in (ZIP_STORED, ZIP_DEFLATED) for info in infos):
        raise BrokenFileError("a member uses an unsupported compression")
    inflated = sum(info.file_size for info in infos)
    if inflated > min(LARGEST, INFLATION * size + (1 << 20)):
        raise BrokenFileError(f"it decompresses to {inflated} bytes, too many for its size")


def read_member(archive: ZipFile, name: str, largest: int = LARGEST) -> bytes:
    """Return the bytes of a member that has at most `largest`."""
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise BrokenFileError(f"it has no member {str(name)[:50]!r}") from error
    if info.file_size > largest:
        raise BrokenFileError(f"its member {name!r} has {info.file_size} bytes")
    with archive.open(info) as member:
        return member.read(largest + 1)


def read_array(archive: ZipFile, name: str) -> np.ndarray:
    """Read an npy member whose header matches its size."""
    data = read_member(archive, name)
    file = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise BrokenFileError(f"its member {name!r} has an unsupported npy version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except BrokenFileError:
        raise
    except Exception as error:  # numpy passes on whatever Python's parser and tokenizer raise
        raise BrokenFileError(f"its member {name!r} is not an array") from error
    at = file.tell()
    if dtype.hasobject or fortran or math.prod(shape) * dtype.itemsize != len(data) - at:
        raise BrokenFileError(f"its member {name!r} does not have the size that its header states")
    return np.frombuffer(data, dtype, offset=at).reshape(shape)
