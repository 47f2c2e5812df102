"""Parquet files with a checksum: the footer contains a crc32c of the whole file.

Parquet readers verify no checksums, and some damage crashes them; so the bytes are verified before
any reader gets them. Readers ignore the entry (`ser.crc32c`), so the files open anywhere. The
checksum is computed with eight dots in its place. Files without one (of an older version, or of
another program) are read as they are.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import google_crc32c
import polars as pl

from ser.corpus.errors import first_line

KEY = "ser.crc32c"
BLANK = b"." * 8  # replaced by the checksum in hexadecimal
ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)  # of reading
GAP = 2  # bytes between the key and the value in the footer (Thrift's field and length)


class ParquetError(ValueError):
    """The bytes of a Parquet file are not those that were written."""


def encode(frame: pl.DataFrame, metadata: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """Return a frame as the bytes of a Parquet file with a checksum, and with `metadata`."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, metadata={**metadata, KEY: BLANK.decode()})
    data = buffer.getvalue()
    at = _place(data)
    if data[at : at + len(BLANK)] != BLANK:
        raise AssertionError("the Parquet footer is not laid out as expected")
    return _with(data, at, _checksum(data))


def read(path: Path) -> tuple[pl.DataFrame, bool]:
    """Return the frame of a file, and whether the file has a checksum.

    Raises `ParquetError` when the checksum differs or it is not a Parquet file, `OSError` when it
    cannot be read.
    """
    data = path.read_bytes()
    state = check(data)
    if state == "damaged":
        raise ParquetError("its checksum differs")
    return parse(data), state == "sound"


def check(data: bytes) -> Literal["sound", "damaged", "unknown"]:
    """Verify the checksum of a file; "unknown" where it has none."""
    at = _place(data)
    if at < 0:
        return "unknown"
    stated = data[at : at + len(BLANK)]
    return "sound" if stated == _checksum(_with(data, at, BLANK)) else "damaged"


def parse(data: bytes) -> pl.DataFrame:
    """Return the frame of a Parquet file, whatever its checksum; raises `ParquetError`."""
    try:
        return pl.read_parquet(data)
    except ERRORS as error:
        raise ParquetError(first_line(error)) from error


def _place(data: bytes) -> int:
    key = data.rfind(KEY.encode())
    return key + len(KEY) + GAP if key >= 0 else -1


def _with(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def _checksum(data: bytes) -> bytes:
    return f"{google_crc32c.value(data):08x}".encode()
