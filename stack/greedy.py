"""Greedy selection of heads with replacement.

Caruana, Niculescu-Mizil, Crew & Ksikes 2004, "Ensemble selection from libraries of models": start
from an empty ensemble; in every round, add the model whose addition improves the ensemble's score
most, where a model may be added again; the weights are how often each was added. The members are
averaged by their probabilities.

The score is the log-loss with equal class weights. Macro-F1 moves in steps of whole rows, so among
a few similar heads its maximum is noise.
"""

from dataclasses import dataclass

import numpy as np

from ser.score.heads import softmax
from ser.stack.offsets import TINY
from ser.stack.rules import WeightedMean


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
