"""The rows of a Parquet file or of an Arrow stream in batches, so that memory is bounded.

polars reads a stream as a whole. So its messages are read one by one here, and a few of its batches
at a time are given to polars, as a stream of their own.

    stream:  message …, then the end
    message: ff ff ff ff · size of the metadata (int32) · metadata · body

The metadata is a flatbuffer, `Message` in Arrow's format/Message.fbs: the type of its header is in
field 1 and the size of the body in field 3.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import polars as pl

from ser.corpus.bounded_yaml import shorten
from ser.corpus.errors import UserError
from ser.corpus.tables import PARQUET_ERRORS

BATCH = 128 * 2**20  # bytes that are read at a time, where the batches of the file are so small
LARGEST = 2**30  # bytes of one batch of an Arrow stream
CONTINUATION = b"\xff\xff\xff\xff"
END = CONTINUATION + b"\0\0\0\0"
RECORDS = 3  # the type of a message that has rows
HEADER_TYPE, BODY_LENGTH = 1, 3  # fields of a message


def read_batches(path: Path) -> Iterator[pl.DataFrame]:
    """Yield the rows of a `.parquet`, or of a stream in an `.arrow`, in order.

    There is a frame also where there are no rows. Raises `UserError` for a damaged file.
    """
    frames = _stream(path) if path.suffix == ".arrow" else _parquet(path)
    try:
        yield from frames
    except (*PARQUET_ERRORS, struct.error) as error:
        reason = shorten(next(iter(str(error).splitlines()), type(error).__name__), 200)
        raise UserError(f"{path}: not readable ({reason}); fetch or save it again.") from error


def _parquet(path: Path) -> Iterator[pl.DataFrame]:
    scan = pl.scan_parquet(path, glob=False)
    rows = int(scan.select(pl.len()).collect().item())
    count = max(1, rows * BATCH // max(path.stat().st_size, 1))
    for start in range(0, max(rows, 1), count):
        yield scan.slice(start, count).collect()


def _stream(path: Path) -> Iterator[pl.DataFrame]:
    beginning: list[bytes] = []  # schema and dictionaries
    rows: list[bytes] = []
    size, made = 0, False
    with path.open("rb") as file:
        while (message := _message(file, path)) is not None:
            kind, data = message
            (rows if kind == RECORDS else beginning).append(data)
            if kind == RECORDS:
                size += len(data)
            if size >= BATCH:
                yield _frame(beginning, rows)
                rows, size, made = [], 0, True
    if rows or not made:
        yield _frame(beginning, rows)


def _frame(beginning: list[bytes], rows: list[bytes]) -> pl.DataFrame:
    return pl.read_ipc_stream(io.BytesIO(b"".join([*beginning, *rows, END])))


def _message(file: IO[bytes], path: Path) -> tuple[int, bytes] | None:
    """Read a message: the type of its header, and all its bytes; None at the end."""
    start = file.read(8)
    if start in (b"", END):
        return None
    if start[:4] != CONTINUATION:
        raise UserError(f"{path}: not readable (no Arrow stream); fetch or save it again.")
    metadata = file.read(_within(struct.unpack("<i", start[4:])[0], path))
    kind = _field(metadata, HEADER_TYPE, "<B")
    length = _field(metadata, BODY_LENGTH, "<q")
    return kind, start + metadata + file.read(_within(length, path))


def _field(metadata: bytes, number: int, form: str) -> int:
    """Return a number of a flatbuffer's table; 0 where it is left out."""
    table = struct.unpack_from("<I", metadata)[0]
    offsets = table - struct.unpack_from("<i", metadata, table)[0]
    place = offsets + 4 + 2 * number
    if place >= offsets + struct.unpack_from("<H", metadata, offsets)[0]:
        return 0
    offset = struct.unpack_from("<H", metadata, place)[0]
    return int(struct.unpack_from(form, metadata, table + offset)[0]) if offset else 0


def _within(size: int, path: Path) -> int:
    if not 0 <= size <= LARGEST:
        raise UserError(
            f"{path}: a batch of it has {size:,} bytes, and the limit is {LARGEST:,}; save "
            "the data set again, with fewer rows in a batch (writer_batch_size)."
        )
    return size
