"""The numbers of predicted attributes (arousal, valence, dominance).

ccc   concordance correlation coefficient 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2), with population
      moments (Lin 1989, "A Concordance Correlation Coefficient to Evaluate Reproducibility")
"""

import numpy as np


def ccc(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the CCC of each column of `(rows, attributes)`: float64 `(attributes,)`.

    Rows whose truth is NaN are left out, column by column. Where both sides are one and the same
    constant there is nothing to agree about, and the CCC is 0; so it is without any row.
    """
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    known = ~np.isnan(truth)
    rows = np.maximum(known.sum(axis=0), 1)

    def mean(values: np.ndarray) -> np.ndarray:
        averaged: np.ndarray = np.where(known, values, 0.0).sum(axis=0) / rows
        return averaged

    x, y = truth - mean(truth), predicted - mean(predicted)
    spread = mean(x**2) + mean(y**2) + (mean(truth) - mean(predicted)) ** 2
    shared = 2 * mean(x * y)
    agreement: np.ndarray = np.divide(shared, spread, out=np.zeros_like(shared), where=spread > 0)
    return agreement
