"""The numbers of a classification, all taken from its confusion matrix.

Every function takes confusion matrices `(..., classes, classes)`, rows the true class and columns
the predicted one, so that one call scores a single system or a whole stack of bootstrap subsets.

A class without rows in the split has no recall, and an F1 of 0 whatever the system does. Means over
classes (macro-F1, UAR) leave it out: a perfect system scores 1 on every split, and two systems on
the same rows are always averaged over the same classes. This is scikit-learn's
`f1_score(average="macro", zero_division=0, labels=the classes that occur)`.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ser.corpus.errors import UserError
from ser.corpus.registry import BuiltIn, Registry, origin, require_call

Metric = Callable[[np.ndarray], np.ndarray]


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Count rows by true and predicted class: int64 `(classes, classes)`, rows true.

    `labels` and `predictions` are class indices `(rows,)`; rows whose label is -1 are not counted.
    """
    labelled = labels >= 0
    cell = labels[labelled].astype(np.int64) * classes + predictions[labelled]
    counts: np.ndarray = np.bincount(cell, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def per_class_f1(matrix: np.ndarray) -> np.ndarray:
    """Return F1 per class `(..., classes)`: 2 TP / (2 TP + FP + FN), 0 where that is 0 / 0."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    return ratio(2 * hits, matrix.sum(axis=-1) + matrix.sum(axis=-2))


def macro_f1(matrix: np.ndarray) -> np.ndarray:
    """Average F1 over the classes that occur in the labels: `(...)`."""
    return _mean_over_present(per_class_f1(matrix), matrix)


def micro_f1(matrix: np.ndarray) -> np.ndarray:
    """Return F1 of the pooled counts `(...)`; with one label a row it equals the accuracy."""
    hits = np.trace(matrix, axis1=-2, axis2=-1)
    misses = matrix.sum(axis=(-2, -1)) - hits  # each is one FP and one FN
    return ratio(2 * hits, 2 * hits + 2 * misses)


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Return the share of rows that are predicted correctly: `(...)`."""
    return ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1)))


def uar(matrix: np.ndarray) -> np.ndarray:
    """Average recall over the classes that occur in the labels: `(...)`."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    return _mean_over_present(ratio(hits, matrix.sum(axis=-1)), matrix)


METRICS = Registry[Metric, None](
    "metric",
    "",
    {
        name: BuiltIn(f"ser.score.metrics:{name}", summary, None)
        for name, summary in (
            ("macro_f1", "The mean of the classes' F1."),
            ("uar", "The mean of the classes' recall."),
            ("accuracy", "The share of rows predicted right."),
            ("micro_f1", "F1 of the pooled counts."),
        )
    },
)
REPORTED = ("macro_f1", "uar", "accuracy")  # with intervals and by group, always
TITLES = {"macro_f1": "macro-F1", "uar": "UAR", "accuracy": "accuracy", "ccc": "CCC"}  # in text
# other keys of an entry of metrics.json, and of what a head may be chosen by
RESERVED = frozenset(
    (
        *("attributes", "aurc", "bootstrap", "ccc", "clusters", "confusion", "distributions"),
        *("ece", "groups", "interval", "loss", "missing", "n", "per_class", "risk"),
        *("speakers", "speakers_note", "train"),
    )
)


def metric(name: str) -> Callable[[Metric], Metric]:
    """Register a metric: confusion matrices `(..., classes, classes)` in, `(...)` float out.

    Args:
        name: the entry of `score.metrics` that reports it, and the value of `best_by` of a head
            that is chosen by it: the higher the better.

    >>> @metric("worst_recall")
    ... def worst_recall(matrix):
    ...     return (np.diagonal(matrix, axis1=-2, axis2=-1) / matrix.sum(-1)).min(-1)
    >>> float(worst_recall(np.array([[8, 2], [5, 5]])))
    0.5
    """

    def register(function: Metric) -> Metric:
        require_call("metric", name, function, "(matrix)", 1)
        if name in RESERVED:
            raise UserError(f"metric '{name}': metrics.json has this key; choose another name.")
        METRICS.add(name, function, None)
        return function

    return register


def reported(further: Sequence[str] = ()) -> Mapping[str, Metric]:
    """Return the metrics that are always reported, and further ones; raises `UserError`.

    One of a user's raises it also when it is called and does not return a number a matrix.
    """
    return {name: _checked(name) for name in (*REPORTED, *further)}


def _checked(name: str) -> Metric:
    function = METRICS.get(name)
    if name in METRICS.built_in:
        return function

    def checked(matrix: np.ndarray) -> np.ndarray:
        values = function(matrix)
        expected = matrix.shape[:-2]
        if np.shape(values) != expected or np.asarray(values).dtype.kind not in "fiu":
            actual = f"shape {np.shape(values)}, type {np.asarray(values).dtype}"
            raise UserError(
                f"the metric '{name}' ({origin(function)}) returned "
                f"{actual} for confusion matrices {matrix.shape}; return a float for each, "
                f"shape {expected}."
            )
        if not expected and not np.isfinite(values):
            raise UserError(
                f"the metric '{name}' ({origin(function)}) returned "
                f"{values} for {matrix.tolist()}; return a number, also where a class has no row."
            )
        return np.asarray(values, np.float64)

    return checked


def row_normalised(matrix: np.ndarray) -> np.ndarray:
    """Divide each row of `(..., classes, classes)` by its sum; a class without rows stays 0."""
    return ratio(matrix, np.broadcast_to(matrix.sum(axis=-1, keepdims=True), matrix.shape))


def score(labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]) -> dict[str, object]:
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


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole as float64, 0 where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    quotient: np.ndarray = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return quotient


def _mean_over_present(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    present = matrix.sum(axis=-1) > 0
    return ratio((values * present).sum(axis=-1), present.sum(axis=-1))
