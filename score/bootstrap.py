"""Two bootstraps: the published balanced one, and one that resamples speakers.

Balanced. UNICAMP (Interspeech 2025, section 4.3): dev is imbalanced and the test set balanced, so
100 subsets of dev are scored in which every class is undersampled, without replacement, to the size
of the rarest one; mean, minimum and maximum are reported. Macro-F1 depends on a subset only through
its confusion matrix, and drawing k rows of a class without replacement makes that class's row of
the matrix multivariate hypergeometric. So the matrices are drawn directly: the same distribution as
drawing rows, in milliseconds for 25,000 rows. In return, two systems are not scored on the same
rows: their ranges can be compared, their subsets are not paired. Classes without rows are left
out; the others are balanced among themselves.

Speaker-clustered. Utterances of one speaker resemble each other, so intervals that resample rows
are too narrow. Instead, speakers are drawn with replacement, as many as there are, each with all
rows (the cluster bootstrap of Davison & Hinkley 1997, section 3.8); the interval is the 2.5th to
the 97.5th percentile. All scores are functions of sums over rows (a confusion matrix, moments), so
the sums are computed once per speaker and one matrix product gives those of all resamples. The
same speakers in the same order and the same seed give the same draws: systems scored on the same
rows are paired. With few speakers the interval is too narrow: under 5 there is none, under 20 it is
rough (`ser.score.speakers`). A resample may lack a class, which its means then leave out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ser.score.metrics import macro_f1
from ser.score.speakers import too_few

PERCENTILES = (2.5, 97.5)
BLOCK = 128  # resamples multiplied at once, as their counts are widened to float64


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
    """How often each resample drew each speaker.

    `cluster` is the speaker of each row, int64 `(rows,)`; `counts` uint16 `(resamples, clusters)`.
    `known` is False where no speaker is known and each row is a cluster.
    """

    cluster: np.ndarray
    counts: np.ndarray
    known: bool = True

    @property
    def speakers(self) -> int | None:
        """Return the number of speakers that are resampled; None where no speaker is known."""
        return self.counts.shape[1] if self.known else None

    def confusions(self, labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
        """Return every resample's confusion matrix: `(resamples, classes, classes)` float64.

        `labels` and `predictions` are class indices `(rows,)`; label -1 is not counted.
        """
        clusters, cells = self.counts.shape[1], classes * classes
        labelled = labels >= 0
        cell = labels[labelled].astype(np.int64) * classes + predictions[labelled]
        counts = np.bincount(self.cluster[labelled] * cells + cell, minlength=clusters * cells)
        return self._totals(counts.reshape(clusters, cells)).reshape(-1, classes, classes)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum each column of `(rows, columns)` over the rows drawn: `(resamples, columns)`."""
        clusters = self.counts.shape[1]
        columns = [np.bincount(self.cluster, column, clusters) for column in values.T]
        return self._totals(np.stack(columns, axis=1))

    def interval(self, values: np.ndarray) -> list[float] | None:
        """Return the 95 % percentile interval of one metric's values `(resamples,)`.

        NaN marks a resample for which the metric is undefined, which is left out. None for fewer
        than 5 known speakers, a single row, and without any value.
        """
        defined = values[~np.isnan(values)]
        if too_few(self.speakers) or self.counts.shape[1] < 2 or not len(defined):
            return None
        low, high = np.percentile(defined, PERCENTILES)
        return [float(low), float(high)]

    def _totals(self, per_cluster: np.ndarray) -> np.ndarray:
        per_cluster = per_cluster.astype(np.float64)
        blocks = [self.counts[i : i + BLOCK] for i in range(0, len(self.counts), BLOCK)]
        return np.concatenate([block.astype(np.float64) @ per_cluster for block in blocks])


def resample_speakers(speakers: Sequence[str | None], resamples: int, seed: int) -> Resamples:
    """Draw speakers with replacement, as many as there are, `resamples` times.

    `speakers` has one entry a row; each row of an unknown speaker ("" or None) counts as its own.
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
    return Resamples(np.array(cluster, np.int64), counts, known=any(speakers))
