"""Two bootstraps: the published balanced one, and one that resamples speakers.

Balanced. UNICAMP (Interspeech 2025, section 4.3): dev is imbalanced and the test set balanced, so
the score is taken on 100 subsets of dev in which every class is cut, without replacement, to the
rarest one; mean, minimum and maximum are reported. Macro-F1 depends on a subset only through its
confusion matrix, and drawing k rows of a class without replacement makes that class's row of the
matrix multivariate hypergeometric. So the matrices are drawn directly: the same distribution as
drawing rows, and milliseconds for 25,000 rows. The price: two systems are not scored on the same
rows, so their ranges compare but their subsets do not pair. Classes that no row belongs to are left
out: the others are balanced among themselves.

Speaker-clustered. Utterances of a speaker resemble one another, so intervals that resample rows are
too narrow. Here as many speakers are drawn with replacement as there are, each with all their rows
(the cluster bootstrap of Davison & Hinkley 1997, section 3.8), and the interval is the 2.5th to the
97.5th percentile. What is scored is a function of sums over rows (a confusion matrix, moments), so
the sums are taken once a speaker and one matrix product gives those of all resamples. The same
speakers in the same order and the same seed give the same draws: systems scored on the same rows
are paired. With few speakers (say under 20) the interval is still somewhat too narrow, and a
resample may lack a class, which its means then leave out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from score.metrics import macro_f1

FEW = 20  # speakers, below which a bootstrap over them is too sure

PERCENTILES = (2.5, 97.5)
BLOCK = 128  # resamples that are multiplied at once: their counts are widened to float64


def balanced_subsets(matrix: np.ndarray, subsets: int, seed: int) -> np.ndarray:
    """Draw the confusion matrices of class-balanced subsets: `(subsets, classes, classes)` int64.

    `matrix` is the confusion matrix `(classes, classes)` of all rows; each row of a drawn one sums
    to the rarest class's count, or to 0 for a class without rows. Raises ValueError without rows.
    """
    counts = matrix.sum(axis=1)
    if not counts.any():
        raise ValueError("a confusion matrix without rows has no balanced subset")
    rng = np.random.default_rng(seed)
    drawn = np.zeros((subsets, *matrix.shape), np.int64)
    for true in np.flatnonzero(counts):
        drawn[:, true] = rng.multivariate_hypergeometric(
            matrix[true], counts[counts > 0].min(), size=subsets
        )
    return drawn


def balanced_bootstrap(matrix: np.ndarray, subsets: int, seed: int) -> dict[str, float]:
    """Return `mean`, `min` and `max` of macro-F1 over class-balanced subsets."""
    scores = macro_f1(balanced_subsets(matrix, subsets, seed))
    return {"mean": float(scores.mean()), "min": float(scores.min()), "max": float(scores.max())}


@dataclass(frozen=True)
class Resamples:
    """Hold which speakers each resample drew, and how often.

    `cluster` is the speaker of each row, int64 `(rows,)`; `counts` uint16 `(resamples, clusters)`.
    """

    cluster: np.ndarray
    counts: np.ndarray

    def confusions(self, labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
        """Return every resample's confusion matrix: `(resamples, classes, classes)` float64.

        `labels` and `predictions` are class indices `(rows,)`; label -1 is not counted.
        """
        clusters, cells = self.counts.shape[1], classes * classes
        known = labels >= 0
        cell = labels[known].astype(np.int64) * classes + predictions[known]
        counts = np.bincount(self.cluster[known] * cells + cell, minlength=clusters * cells)
        return self._totals(counts.reshape(clusters, cells)).reshape(-1, classes, classes)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum each column of `(rows, columns)` over the rows drawn: `(resamples, columns)`."""
        clusters = self.counts.shape[1]
        columns = [np.bincount(self.cluster, column, clusters) for column in values.T]
        return self._totals(np.stack(columns, axis=1))

    def interval(self, values: np.ndarray) -> list[float] | None:
        """Return the 95 % percentile interval of one metric's values `(resamples,)`.

        NaN stands for a resample that the metric is not defined on, and is left out. None where
        there is nothing to resample: a single speaker, or no value at all.
        """
        defined = values[~np.isnan(values)]
        if self.counts.shape[1] < 2 or not len(defined):
            return None
        low, high = np.percentile(defined, PERCENTILES)
        return [float(low), float(high)]

    def _totals(self, per_cluster: np.ndarray) -> np.ndarray:
        per_cluster = per_cluster.astype(np.float64)
        blocks = [self.counts[i : i + BLOCK] for i in range(0, len(self.counts), BLOCK)]
        return np.concatenate([block.astype(np.float64) @ per_cluster for block in blocks])


def resample_speakers(speakers: Sequence[str | None], resamples: int, seed: int) -> Resamples:
    """Draw speakers with replacement, as many as there are, `resamples` times.

    `speakers` has one entry a row; an unknown one ("" or None) is a speaker of its own, row by row.
    Raises ValueError without rows.
    """
    if not len(speakers):
        raise ValueError("there are no rows to resample")
    number: dict[str | int, int] = {}
    cluster = [number.setdefault(speaker or i, len(number)) for i, speaker in enumerate(speakers)]
    clusters, rng = len(number), np.random.default_rng(seed)
    counts = np.empty((resamples, clusters), np.uint16)  # no speaker is drawn 65,536 times
    for row in counts:
        row[:] = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)
    return Resamples(np.array(cluster, np.int64), counts)
