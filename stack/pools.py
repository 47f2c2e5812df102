"""Rules whose weights of the heads are searched for: greedy selection, log pool, one scale.

`greedy` (Caruana, Niculescu-Mizil, Crew & Ksikes 2004, "Ensemble selection from libraries of
models"): start from an empty ensemble; in every round, add the model whose addition improves the
ensemble's score most, where a model may be added again; the weights are how often each was added.
The members are averaged by their probabilities. The score is the log-loss with equal class weights.
Macro-F1 moves in steps of whole rows, so among a few similar heads its maximum is noise.

`log_pool` is the softmax of a weighted sum of the heads' logits. One weight per head, none
negative, fitted by the log-loss with equal class weights (Heskes 1998, "Selecting weighting factors
in logarithmic opinion pools"; here the weights need not sum to 1, so that their sum is the inverse
of a temperature, and the probabilities are calibrated on the rows of the fit). `mean_logits` is the
pool of equal weights, `best_head` the pool of one, `mean_scaled` a pool whose weights put the heads
on one scale.
"""

from dataclasses import dataclass

import numpy as np

from ser.score.heads import softmax
from ser.stack.offsets import TINY
from ser.stack.rules import WeightedMean

SMALLEST = float(np.finfo(np.float64).tiny)


@dataclass(eq=False)
class Greedy(WeightedMean):
    """The mean of the heads that greedy selection adds, each as often as it was added.

    Args:
        classes: the number of classes.
        rounds: how many heads are added; the weights are multiples of 1 / `rounds`.

    >>> y = np.array([0, 1, 0, 1])
    >>> good, useless = 3 * np.eye(2)[y], np.zeros((4, 2))
    >>> Greedy(classes=2).fit(np.concatenate([good, useless], axis=1), y).weights_.tolist()
    [1.0, 0.0]
    """

    rounds: int = 50

    def weights(self, logits: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return how often each head was added, divided by `rounds`.

        Ties go to the head named first.
        """
        true = softmax(logits)[np.arange(len(y)), :, y]  # (rows, heads)
        weight = 1 / np.bincount(y, minlength=self.classes)[y]
        total, added = np.zeros((len(y), 1)), np.zeros(true.shape[1])
        for size in range(1, self.rounds + 1):
            mean = ((total + true) / size).clip(TINY)
            best = int((weight @ np.log(mean)).argmax())
            total += true[:, [best]]
            added[best] += 1
        return added / self.rounds


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
            value = -share @ np.log(probability[rows, y].clip(SMALLEST))
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
