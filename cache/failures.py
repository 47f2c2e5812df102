"""`failed.parquet` of a feature's folder: the utterances that failed, why and when."""

import fcntl
import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import polars as pl

from ser.cache.files import DeniedError, readable
from ser.corpus import parquet
from ser.corpus.atomic import write_durably
from ser.corpus.errors import UserError

if TYPE_CHECKING:
    from ser.cache.folder import FeatureFolder

FAILED = pl.Schema(
    {"utterance": pl.String(), "error": pl.String(), "when": pl.Datetime("us", "UTC")}
)


def failed(folder: "FeatureFolder") -> pl.DataFrame:
    """Return what failed and has not been extracted since; raises as `read`."""
    return _still_failed(folder, read(folder))


def _still_failed(folder: "FeatureFolder", failures: pl.DataFrame) -> pl.DataFrame:
    if not failures.height:
        return failures
    written = folder.index().select("utterance", pl.from_epoch("created", "ns"))
    joined = failures.join(written, on="utterance", how="left", maintain_order="left")
    extracted_since = pl.col("created").dt.replace_time_zone("UTC") >= pl.col("when")
    return joined.filter(~extracted_since.fill_null(False)).select(FAILED.names())


def read(folder: "FeatureFolder") -> pl.DataFrame:
    """Read the file: utterance, error, when; raises `UserError` when it is damaged."""
    if folder.remote:
        folder.remote.fetch("failed.parquet", again=True)
    path = folder.path / "failed.parquet"
    remedy = f"delete it and run `ser extract {folder.name}`, which writes it again"
    if not os.path.lexists(path):
        return pl.DataFrame(schema=FAILED)
    try:
        with readable(path, remedy):
            rows, _ = parquet.read(path)
        if rows.schema != FAILED:
            raise parquet.ParquetError("its columns are not those of the list")
    except parquet.ParquetError as error:
        raise UserError(f"{path}: it is damaged ({error}); {remedy}.") from error
    return rows


def record(
    folder: "FeatureFolder", failures: Mapping[str, str], current: Collection[str] = ()
) -> None:
    """Merge failures into failed.parquet, and take out what has been extracted since.

    `current` are utterances that are cached and up to date, whatever was listed of them before.
    Nothing is written where nothing changes, so that a complete cache may be read-only. A
    damaged list is replaced.
    """
    _, change = _merged(folder, failures, current)
    if change == "same":
        return
    try:
        folder.staging.mkdir(exist_ok=True)
        with (folder.staging / "failed.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            rows, change = _merged(folder, failures, current)
            if change != "same":
                write_durably(folder.path / "failed.parquet", parquet.encode(rows))
                if folder.remote:
                    folder.remote.put("failed.parquet")
    except OSError:
        if change == "new":
            raise


def _merged(
    folder: "FeatureFolder", failures: Mapping[str, str], current: Collection[str]
) -> tuple[pl.DataFrame, Literal["same", "fewer", "new"]]:
    """Return the old and new failures, and whether some are new or only fewer are left."""
    damaged, stored = False, pl.DataFrame(schema=FAILED)
    try:
        stored = read(folder)
    except DeniedError:
        raise
    except UserError:
        damaged = True
    old = _still_failed(folder, stored).filter(~pl.col("utterance").is_in(list(current)))
    errors = dict(old.select("utterance", "error").iter_rows())
    now = datetime.now(UTC)
    rows = [(u, error, now) for u, error in failures.items() if errors.get(u) != error]
    new = pl.DataFrame(rows, schema=FAILED, orient="row")
    unchanged = old.filter(~pl.col("utterance").is_in(new["utterance"].to_list()))
    merged = pl.concat([unchanged, new]).sort("utterance")
    if damaged or new.height:
        return merged, "new"
    return merged, "same" if unchanged.height == stored.height else "fewer"
