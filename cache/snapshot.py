"""The index of a cache in memory, as of one moment."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from ser.cache.index_file import latest


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
    seed = 0
    while True:
        hashes = utterances.hash(seed).to_numpy()
        order = np.argsort(hashes)
        hashes = hashes[order]
        if (hashes[1:] != hashes[:-1]).all():
            return seed, order, hashes
        seed += 1
