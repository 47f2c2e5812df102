"""Weighted sums of the heads' logits: the logarithmic opinion pool, and a mean on one scale.

`log_pool` is the softmax of a weighted sum of the heads' logits.

One weight per head, none negative, fitted by the log-loss with equal class weights (Heskes 1998,
"Selecting weighting factors in logarithmic opinion pools"; here the weights need not sum to 1, so
that their sum is the inverse of a temperature, and the probabilities are calibrated on the rows of
the fit). `mean_logits` is the pool of equal weights, `best_head` the pool of one.
"""

import numpy as np

from ser.score.heads import softmax
from ser.stack.rules import WeightedMean

TINY = float(np.finfo(np.float64).tiny)


class LogPool(WeightedMean):
    """The softmax of the weighted sum of the heads' logits; the weights need not sum to 1.

    >>> y = np.array([0, 1, 0, 1])
    >>> good, wrong = np.eye(2)[y], np.eye(2)[1 - y] / 2
    >>> pool = LogPool(classes=2).fit(np.concatenate([good, wrong], axis=1), y)
    >>> bool(pool.weights_[0] > 1), float(pool.weights_[1])
    (True, 0.0)
    """

    largest = 1e6

    def weights(self, logits: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the weights with the least log-loss."""
        from scipy.optimize import minimize

        rows = np.arange(len(y))
        share = 1 / np.bincount(y, minlength=self.classes)[y]
        share /= share.sum()

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            probability = softmax(np.einsum("rhc,h->rc", logits, weights))
            value = -share @ np.log(probability[rows, y].clip(TINY))
            probability[rows, y] -= 1
            return float(value), np.einsum("r,rc,rhc->h", share, probability, logits)

        heads = logits.shape[1]
        start, bounds = np.full(heads, 1 / heads), [(0, self.largest)] * heads
        weights: np.ndarray = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
        return weights if weights.any() else start  # every head is worse than none

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the softmax of the weighted sum of the logits: `(rows, classes)`."""
        return softmax(np.einsum("rhc,h->rc", self._by_head(X), self.weights_))

    def _is_valid(self) -> bool:
        return bool(self.weights_.any())


class MeanScaled(LogPool):
    """The softmax of the mean of the heads' logits, those of each divided by their deviation.

    Then a head that is more confident than the others, as a linear probe on few clips is, counts
    no more than they do. The deviation is that from the mean over the classes, on the rows of the
    fit, whose labels are not used. The weights keep the mean deviation of the heads.

    >>> logits = np.array([[4.0, -4.0, 1.0, -1.0], [-4.0, 4.0, -1.0, 1.0]])  # of two heads
    >>> MeanScaled(classes=2).fit(logits, np.array([0, 1])).weights_.tolist()
    [0.3125, 1.25]
    """

    def weights(self, logits: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the inverse deviations; a head whose logits are all the same has no weight."""
        deviation = (logits - logits.mean(axis=2, keepdims=True)).std(axis=(0, 2))
        heads, varies = len(deviation), deviation > deviation.max() / self.largest
        if not varies.any():
            return np.full(heads, 1 / heads)
        weights = np.zeros(heads)
        weights[varies] = deviation.mean() / deviation[varies] / heads
        return weights
