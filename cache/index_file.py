"""The index of a feature's folder: where the rows of every utterance are, and their hashes.

`index.parquet` is derived from the shards and may be missing, damaged or older than they are:
shards that it does not list are read, and it is written again.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ser.corpus import parquet
from ser.corpus.atomic import write_durably
from ser.corpus.cells import are_distinct

if TYPE_CHECKING:
    from ser.cache.folder import FeatureFolder


def updated(folder: "FeatureFolder") -> pl.DataFrame:
    """Return the rows of all committed shards, and update the file where it lacks some."""
    shards, listed = folder.shards(), stored(folder, checked=True)
    if folder.remote and set(listed["shard"].unique()) != shards:
        folder.remote.fetch("index.parquet", again=True)
        listed = stored(folder, checked=True)
    names = set(listed["shard"].unique())
    if names == shards:
        return listed
    new = [folder.shard_rows(shard) for shard in sorted(shards - names)]
    rows = pl.concat([listed.filter(pl.col("shard").is_in(list(shards))), *new])
    # sorted, so that the order does not depend on when the shards were written
    rows = rows.sort("shard", maintain_order=True)
    write(folder, rows)
    return rows


def write(folder: "FeatureFolder", rows: pl.DataFrame) -> None:
    """Write the file; the index of a read-only cache is rebuilt in memory at each opening."""
    with suppress(OSError):
        write_durably(folder.path / "index.parquet", parquet.encode(rows))


def stored(folder: "FeatureFolder", *, checked: bool = False) -> pl.DataFrame:
    """Read the file without an update; empty when it is missing, damaged or of another version.

    With `checked` it is empty without a checksum, too, which those of older versions do not have.
    """
    with suppress(parquet.ParquetError, OSError):
        rows, has_checksum = parquet.read(folder.path / "index.parquet")
        if rows.schema == folder.INDEX and (has_checksum or not checked):
            return rows
    return pl.DataFrame(schema=folder.INDEX)


def latest(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep the newest row of every utterance; the shard's name decides between equal times.

    They are sorted by time, or as they were where no utterance has two rows.
    """
    if are_distinct(rows["utterance"]):
        return rows
    rows = rows.sort("created", "shard", maintain_order=True)
    return rows.unique("utterance", keep="last", maintain_order=True)


class Snapshot:
    """An index of any size in memory: its columns, and one sorted array of hashes.

    No utterance is a Python object: a million of them take 100 MB and a third of a second.
    """

    def __init__(self, rows: pl.DataFrame) -> None:
        rows = latest(rows)
        self._seed, self._order, self._hashes = _sorted_hashes(rows["utterance"])
        self.utterance = rows["utterance"]
        self.shard_names: list[str] = rows["shard"].unique().sort().to_list()
        self.shard = rows["shard"].cast(pl.Enum(self.shard_names)).to_physical().to_numpy()
        self.position, self.row, self.length, self.crc32c = (
            rows[name].to_numpy() for name in ("position", "row", "length", "crc32c")
        )

    def find(self, utterances: Sequence[str]) -> np.ndarray:
        """Return the place of each utterance in the columns: int64, -1 where it is not cached."""
        names = pl.Series(utterances, dtype=pl.String)
        if not len(self.utterance) or not len(names):
            return np.full(len(names), -1, dtype=np.int64)
        places = np.searchsorted(self._hashes, names.hash(self._seed).to_numpy())
        rows = self._order[np.minimum(places, len(self._order) - 1)]
        same = (self.utterance.gather(rows) == names).to_numpy()
        return np.where(same, rows, -1)


def _sorted_hashes(utterances: pl.Series) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the first seed by which no two hashes are equal, their order, and them in order."""
    for seed in itertools.count():
        hashes = utterances.hash(seed).to_numpy()
        order = np.argsort(hashes)
        hashes = hashes[order]
        if (hashes[1:] != hashes[:-1]).all():
            break
    return seed, order, hashes


def missing(
    index: pl.DataFrame | None, stat_hashes: Mapping[str, int], content_hash: Callable[[str], int]
) -> set[str]:
    """Return the utterances of `stat_hashes` that are not cached, or whose audio or text changed.

    `index` has the latest row of each utterance; it is None where nothing is cached.
    `content_hash(utterance)` is only called where the cheap hash differs, so a corpus that was
    copied or touched is read once and not extracted again.
    """
    if index is None:
        return set(stat_hashes)
    asked = pl.DataFrame(
        {"utterance": list(stat_hashes), "now": list(stat_hashes.values())},
        schema={"utterance": pl.String, "now": pl.UInt64},
    )
    cached = index.join(asked, on="utterance", how="semi").select("utterance", "stat", "source")
    joined = asked.join(cached, on="utterance", how="left")
    other = joined.filter(pl.col("stat").ne_missing(pl.col("now")))
    absent = set[str]()
    for utterance, source in other.select("utterance", "source").iter_rows():
        with suppress(OSError):  # the extraction reports why it cannot be read
            if source is not None and source == content_hash(utterance):
                continue
        absent.add(utterance)
    return absent
