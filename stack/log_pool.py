"""The logarithmic opinion pool: the softmax of a weighted sum of the heads' logits.

One weight per head, none negative, fitted by the log-loss with equal class weights (Heskes 1998,
"Selecting weighting factors in logarithmic opinion pools"; here the weights need not sum to 1, so
that their sum is the inverse of a temperature, and the probabilities are calibrated on the rows of
the fit). `mean_logits` is the pool of equal weights, `best_head` the pool of one.
"""

import json
from pathlib import Path
from typing import Self

import numpy as np

from ser.score.heads import softmax
from ser.stack.rules import RULE, Rule, damaged, read_values, required

TINY = float(np.finfo(np.float64).tiny)
LARGEST = 1e6  # a weight that a file may have


class LogPool(Rule):
    """The softmax of the weighted sum of the heads' logits; `weights_` are set by `fit`.

    Fit it on rows that the heads were not trained on.

    >>> y = np.array([0, 1, 0, 1])
    >>> good, wrong = np.eye(2)[y], np.eye(2)[1 - y] / 2
    >>> pool = LogPool(classes=2).fit(np.concatenate([good, wrong], axis=1), y)
    >>> bool(pool.weights_[0] > 1), float(pool.weights_[1])
    (True, 0.0)
    """

    weights_: np.ndarray

    def fit(self, X: np.ndarray | None = None, y: np.ndarray | None = None) -> Self:
        """Fit the weights on logits `(rows, heads * classes)` and class indices `(rows,)`."""
        from scipy.optimize import minimize

        super().fit()
        X, y = required(X, y)
        logits, rows = self._by_head(X), np.arange(len(y))
        share = 1 / np.bincount(y, minlength=self.classes)[y]
        share /= share.sum()

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            probability = softmax(np.einsum("rhc,h->rc", logits, weights))
            value = -share @ np.log(probability[rows, y].clip(TINY))
            probability[rows, y] -= 1
            return float(value), np.einsum("r,rc,rhc->h", share, probability, logits)

        heads = logits.shape[1]
        start, bounds = np.full(heads, 1 / heads), [(0, LARGEST)] * heads
        self.weights_ = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
        if not self.weights_.any():  # every head is worse than none
            self.weights_ = start
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the softmax of the weighted sum of the logits: `(rows, classes)`."""
        return softmax(np.einsum("rhc,h->rc", self._by_head(X), self.weights_))

    def save(self, folder: Path) -> None:
        """Write the weights."""
        (folder / RULE).write_text(json.dumps({"weights": self.weights_.tolist()}))

    def load(self, folder: Path, classes: int, dim: int) -> Self:
        """Read the weights; raises `UserError` for a file without the weights of these heads."""
        super().fit()
        self.weights_ = np.array(read_values(folder / RULE, "weights", (int, float)), np.float64)
        inside = 0 <= self.weights_.min() <= self.weights_.max() <= LARGEST
        if len(self.weights_) != dim // classes or not inside or not self.weights_.any():
            raise damaged(folder / RULE)
        return self
