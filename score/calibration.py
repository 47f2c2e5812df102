"""Whether a system's probabilities match its accuracy, and the temperature that corrects them.

ECE (Guo et al. 2017, "On Calibration of Modern Neural Networks"): cut the highest probability of
each row into 15 bins of equal width, (0, 1/15], (1/15, 2/15], ...; then

    ECE = sum over bins of (rows of the bin / rows) * |accuracy of the bin - its mean confidence|

The reported ECE keeps these bins, so that it compares with published ones. The report's reliability
curve has bins of equal mass instead: in those of equal width the sparse ones swing at random.

NLL is the mean of -log p(true class). Temperature scaling (same paper, section 4.2) divides all
logits by the one T that minimises NLL: no prediction changes, only its confidence.
"""

import numpy as np
import polars as pl

BINS = 15  # of equal width
MASS_BINS, LEAST_MASS = 10, 10  # most bins of equal mass, and the rows that each should have
TEMPERATURES = (0.01, 100.0)  # logits that separate their labels perfectly would want T = 0


def equal_mass_curve(probabilities: np.ndarray, labels: np.ndarray) -> pl.DataFrame:
    """Return one row a bin: lower, upper, n, confidence, accuracy; bins hold about as many rows.

    There are up to 10 bins of at least 10 rows, and at least one. Rows of the same confidence share
    a bin. `probabilities` are `(rows, classes)`, `labels` class indices `(rows,)`; label -1 is left
    out.
    """
    probabilities, labels = _labelled(probabilities, labels)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = max(1, min(MASS_BINS, len(labels) // LEAST_MASS))
    edges = np.quantile(confidence, np.linspace(0, 1, bins + 1)) if len(labels) else np.zeros(2)
    rows = pl.DataFrame(
        {
            "bin": np.digitize(confidence, np.unique(edges[1:-1]), right=True),
            "confidence": confidence,
            "correct": correct.astype(np.float64),
        }
    )
    return (
        rows.group_by("bin")
        .agg(
            lower=pl.col("confidence").min(),
            upper=pl.col("confidence").max(),
            n=pl.len().cast(pl.Int64),
            confidence=pl.col("confidence").mean(),
            accuracy=pl.col("correct").mean(),
        )
        .sort("bin")
        .drop("bin")
    )


def reliability_curve(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS
) -> pl.DataFrame:
    """Return one row a bin of equal width: lower, upper, n, confidence, accuracy.

    Confidence and accuracy of an empty bin are null.

    `probabilities` are `(rows, classes)`, `labels` class indices `(rows,)`; label -1 is left out.
    """
    probabilities, labels = _labelled(probabilities, labels)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.digitize(confidence, edges[1:-1], right=True)
    n = np.bincount(bin_of, minlength=bins)
    curve = pl.DataFrame(
        {
            "lower": edges[:-1],
            "upper": edges[1:],
            "n": n,
            "confidence": np.bincount(bin_of, confidence, bins) / np.maximum(n, 1),
            "accuracy": np.bincount(bin_of, correct, bins) / np.maximum(n, 1),
        }
    )
    filled = pl.when(pl.col("n") > 0).then(pl.col("confidence", "accuracy"))
    return curve.with_columns(filled)


def ece(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error, 0 (the best) to 1; 0 without labelled rows."""
    curve = reliability_curve(probabilities, labels, bins).drop_nulls()
    gap = np.abs(curve["accuracy"].to_numpy() - curve["confidence"].to_numpy())
    n = curve["n"].to_numpy()
    return float((gap * n).sum() / max(n.sum(), 1))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the T, between 0.01 and 100, for which `softmax(logits / T)` has the least NLL.

    `logits` are `(rows, classes)`, `labels` class indices `(rows,)`; label -1 is left out. Fit it
    on rows that the system was not trained on. Raises ValueError without labelled rows.
    """
    from scipy.optimize import minimize_scalar

    logits, labels = _labelled(logits, labels)
    if not len(labels):
        raise ValueError("there are no labelled rows to fit a temperature on")
    logits = logits - logits.max(axis=1, keepdims=True)
    true = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((np.log(np.exp(logits * scale).sum(axis=1)) - true * scale).mean())

    # NLL is convex in 1 / T, so it has one minimum in log T too
    minimum = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(minimum.x))


def _labelled(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = np.asarray(labels, np.int64)
    return np.asarray(values, np.float64)[labels >= 0], labels[labels >= 0]
