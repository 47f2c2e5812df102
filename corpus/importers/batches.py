"""The rows of a Parquet file or of an Arrow stream in batches, so that memory is bounded.

A Parquet file is read some rows at a time. An Arrow stream is read as a whole, as polars does, so
its size is limited; `save_to_disk` of Hugging Face writes files of at most 500 MB.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ser.corpus.errors import UserError, first_line
from ser.corpus.tables import PARQUET_ERRORS

BATCH = 128 * 2**20  # bytes that are read at a time of a Parquet file
LARGEST = 2 * 2**30  # bytes of an Arrow stream


def read_batches(path: Path) -> Iterator[pl.DataFrame]:
    """Yield the rows of a `.parquet`, or of a stream in an `.arrow`, in order.

    There is a frame also where there are no rows. Raises `UserError` for a damaged file, and for a
    stream that is too large.
    """
    size, arrow = path.stat().st_size, path.suffix == ".arrow"
    if arrow and size > LARGEST:
        raise UserError(
            f"{path}: it has {size:,} bytes, and the limit is {LARGEST:,}; save the data set "
            "again, in smaller files (max_shard_size)."
        )
    try:
        if arrow:
            yield pl.read_ipc_stream(path)
        else:
            yield from _parquet(path, size)
    except PARQUET_ERRORS as error:
        reason = first_line(error)
        raise UserError(f"{path}: not readable ({reason}); fetch or save it again.") from error


def _parquet(path: Path, size: int) -> Iterator[pl.DataFrame]:
    scan = pl.scan_parquet(path, glob=False)
    rows = int(scan.select(pl.len()).collect().item())
    count = max(1, rows * BATCH // max(size, 1))
    for start in range(0, max(rows, 1), count):
        yield scan.slice(start, count).collect()
