"""The published balanced bootstrap: macro-F1 over class-balanced subsets of a split.

UNICAMP (Interspeech 2025, section 4.3): dev is imbalanced and the test set balanced, so the score
is taken on 100 subsets of dev in which every class is cut, without replacement, to the rarest one;
mean, minimum and maximum are reported.

Macro-F1 depends on a subset only through its confusion matrix, and drawing k rows of a class
without replacement makes that class's row of the matrix multivariate hypergeometric. So the
matrices are drawn directly: the same distribution as drawing rows, and milliseconds for 25,000
rows. The price: two systems are not scored on the same rows, so their ranges compare but their
subsets do not pair.

Classes that no row belongs to are left out: the others are balanced among themselves.
"""

import numpy as np

from score.metrics import macro_f1


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
