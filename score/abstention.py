"""Selective prediction: a system that abstains where its confidence is below a threshold.

Confidence is the highest probability. Coverage is the share of utterances that get a prediction,
risk the share of these predictions that are wrong (Geifman & El-Yaniv 2017, "Selective
Classification for Deep Neural Networks"). AURC, the area under the risk-coverage curve, is the mean
of the risk at the coverages 1/n, 2/n, ..., 1 (Geifman, Uziel & El-Yaniv 2019, "Bias-Reduced
Uncertainty Estimation for Deep Neural Classifiers"): 0 at best; a confidence that does not know
which predictions are wrong gets the error rate.

Rows of equal confidence are taken in all orders, on average, so the order of rows is irrelevant.
"""

import numpy as np

COVERAGES = tuple(round(0.05 * i, 2) for i in range(1, 21))  # of the curve in metrics.json


def selective_risk(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Return the risk among the k most confident rows, k = 1 to n: float64 `(rows,)`.

    `confidence` float `(rows,)`; `correct` bool `(rows,)`.

    >>> selective_risk(np.array([0.9, 0.6, 0.6, 0.4]), np.array([True, False, True, False]))
    array([0.        , 0.25      , 0.33333333, 0.5       ])
    """
    _, tie, size = np.unique(-confidence, return_inverse=True, return_counts=True)
    errors = np.bincount(tie, ~correct) / size  # of each tie, the most confident first
    risk: np.ndarray = np.repeat(errors, size).cumsum() / np.arange(1, len(confidence) + 1)
    return risk


def aurc(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Return the area under the risk-coverage curve, 0 (the best) to 1.

    Args:
        confidence: the highest probability of each utterance, float `(rows,)`.
        correct: whether its prediction is right, bool `(rows,)`.

    Raises ValueError without rows.

    >>> aurc(np.array([0.9, 0.6, 0.4]), np.array([True, True, False])).__round__(3)
    0.111
    """
    if not len(confidence):
        raise ValueError("there are no labelled rows")
    return float(selective_risk(confidence, correct).mean())


def risk_at_coverages(confidence: np.ndarray, correct: np.ndarray) -> list[float]:
    """Return the risk at each of `COVERAGES`."""
    risk = selective_risk(confidence, correct)
    rows = np.ceil(np.array(COVERAGES) * len(risk) - 1e-9).astype(np.int64)
    return [float(value) for value in risk[rows - 1]]


def choose_threshold(confidence: np.ndarray, correct: np.ndarray, risk: float) -> float | None:
    """Return the lowest threshold whose risk is no more than `risk`; None where none is.

    A row is predicted if its confidence is the threshold or more.
    """
    values, size = np.unique(-confidence, return_counts=True)
    kept = np.flatnonzero(selective_risk(confidence, correct)[size.cumsum() - 1] <= risk)
    return float(-values[kept[-1]]) if len(kept) else None
