"""The numbers of a classification, all taken from its confusion matrix.

Every function takes confusion matrices `(..., classes, classes)`, rows the true class and columns
the predicted one, so that one call scores a single system or a whole stack of bootstrap subsets.

A class that no row of the split belongs to has no recall, and an F1 of 0 whatever the system does.
Means over classes (macro-F1, UAR) leave it out: a perfect system scores 1 on every split, and two
systems on the same rows are always averaged over the same classes. This is scikit-learn's
`f1_score(average="macro", zero_division=0, labels=the classes that occur)`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Count rows by true and predicted class: int64 `(classes, classes)`, rows true.

    `labels` and `predictions` are class indices `(rows,)`; rows whose label is -1 are not counted.
    """
    known = labels >= 0
    cell = labels[known].astype(np.int64) * classes + predictions[known]
    counts: np.ndarray = np.bincount(cell, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def per_class_f1(matrix: np.ndarray) -> np.ndarray:
    """Return F1 per class `(..., classes)`: 2 TP / (2 TP + FP + FN), 0 where that is 0 / 0."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    return _ratio(2 * hits, matrix.sum(axis=-1) + matrix.sum(axis=-2))


def macro_f1(matrix: np.ndarray) -> np.ndarray:
    """Average F1 over the classes that occur in the labels: `(...)`."""
    return _mean_over_present(per_class_f1(matrix), matrix)


def micro_f1(matrix: np.ndarray) -> np.ndarray:
    """Return F1 of the pooled counts `(...)`; with one label a row it equals the accuracy."""
    hits = np.trace(matrix, axis1=-2, axis2=-1)
    misses = matrix.sum(axis=(-2, -1)) - hits  # each is one FP and one FN
    return _ratio(2 * hits, 2 * hits + 2 * misses)


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Return the share of rows predicted right: `(...)`."""
    return _ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1)))


def uar(matrix: np.ndarray) -> np.ndarray:
    """Average recall over the classes that occur in the labels: `(...)`."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    return _mean_over_present(_ratio(hits, matrix.sum(axis=-1)), matrix)


# those that intervals and groups are reported of
METRICS = {"macro_f1": macro_f1, "uar": uar, "accuracy": accuracy}


def row_normalised(matrix: np.ndarray) -> np.ndarray:
    """Divide each row of `(..., classes, classes)` by its sum; a class without rows stays 0."""
    return _ratio(matrix, np.broadcast_to(matrix.sum(axis=-1, keepdims=True), matrix.shape))


def score(labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Return one system's entry of metrics.json, except for its intervals.

    `labels` and `predictions` are indices into `classes`; rows with label -1 are not counted.
    `per_class` has 0 for a class without rows, which `macro_f1` and `uar` leave out.
    """
    matrix = confusion(labels, predictions, len(classes))
    return {
        "macro_f1": float(macro_f1(matrix)),
        "micro_f1": float(micro_f1(matrix)),
        "accuracy": float(accuracy(matrix)),
        "uar": float(uar(matrix)),
        "per_class": dict(zip(classes, per_class_f1(matrix).tolist(), strict=True)),
        "n": int(matrix.sum()),
        "confusion": matrix.tolist(),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    ratio: np.ndarray = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return ratio


def _mean_over_present(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    present = matrix.sum(axis=-1) > 0
    return _ratio((values * present).sum(axis=-1), present.sum(axis=-1))
