"""JSON objects with a checksum of their content, read in bounded memory."""

import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ser.cache.checksums import checksum_of
from ser.corpus.errors import DamagedError

CHECKSUM = "crc32c"
LARGEST = 1 << 24  # bytes
DEEPEST = 64  # levels of mappings and lists
LARGEST_INTEGER = 1 << 63
LONGEST_INTEGER = 20  # characters of it


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object in bounded memory; NaN and infinity, which JSON lacks, become None.

    Raises `DamagedError` for a file that is missing, larger than `LARGEST` bytes, not UTF-8, not
    JSON, no object, nested more than 64 levels deep, with an integer of more than 63 bits, or whose
    content does not have the checksum that it states.
    """
    return parse_object(path, read_bytes(path, remedy, LARGEST), remedy)


def read_bytes(path: Path, remedy: str, largest: int) -> bytes:
    """Read a file of at most `largest` bytes; raises `DamagedError` for a larger or missing one.

    What says nothing about the file is left as it is: a `PermissionError`, too many open files.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size  # `read(n)` allocates n bytes
            data = file.read(min(size, largest) + 1)
    except OSError as error:
        if isinstance(error, PermissionError) or error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        problem = "it is missing" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise DamagedError(path, problem, remedy) from error
    if len(data) > largest:
        raise DamagedError(path, f"it is larger than {largest} bytes", remedy)
    return data


def parse_object(path: Path, data: bytes, remedy: str) -> dict[str, object]:
    """Read the JSON object that was read from `path`; see `read_object`."""
    try:
        values = _decoded(data)
    except ValueError as error:
        raise DamagedError(path, str(error), remedy) from error
    # a file with checksums of other files is not of an older version: it has one of its own
    stated, checksum = values.pop(CHECKSUM, None), json_checksum(values)
    # feature.json states it as a number
    if (stated is not None or values.get("checksums")) and stated not in (
        checksum,
        int(checksum, 16),
    ):
        raise DamagedError(path, "it is damaged (its checksum is not that of its content)", remedy)
    return values


def _decoded(data: bytes) -> dict[str, object]:
    """Return the object; raises `ValueError` with the problem."""
    try:
        values = json.loads(
            data.decode(),
            parse_constant=lambda _: None,
            parse_float=_finite_or_none,
            parse_int=_bounded_integer,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(values, dict):
        raise ValueError("it holds no JSON object")
    if data.count(b"{") + data.count(b"[") > DEEPEST and _is_too_deep(values):
        raise ValueError("it is nested too deep")
    return values


def to_text(values: Mapping[str, object], indent: int) -> str:
    """Return the text of a JSON file with the checksum of its content as the last field."""
    checked = {**values, CHECKSUM: json_checksum(values)}
    return json.dumps(checked, indent=indent, allow_nan=False) + "\n"


def json_checksum(values: Mapping[str, object]) -> str:
    """Return the checksum of an object in any order of its keys: 8 hexadecimal characters."""
    return checksum_of(json.dumps(values, sort_keys=True, separators=(",", ":")))


def _finite_or_none(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _bounded_integer(text: str) -> int:
    # `int` refuses thousands of digits itself, with advice for programmers
    if len(text) > LONGEST_INTEGER or abs(int(text)) >= LARGEST_INTEGER:
        raise ValueError("an integer in it is too large")
    return int(text)


def _is_too_deep(values: dict[str, object] | list[object], levels: int = DEEPEST) -> bool:
    return any(
        isinstance(inner, dict | list) and (levels == 1 or _is_too_deep(inner, levels - 1))
        for inner in (values.values() if isinstance(values, dict) else values)
    )
