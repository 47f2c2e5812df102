"""Fixed rules over the heads: nothing is learned, so nothing is kept and no label is needed.

Both take logits `(rows, heads * classes)`, head by head, and are scikit-learn estimators whose
`fit` only sets `classes_` to the indices 0 … `classes` - 1.
"""

from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from score.heads import softmax


class _Rule(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    def __init__(self, classes: int) -> None:
        self.classes = classes

    def fit(self, X: np.ndarray | None = None, y: np.ndarray | None = None) -> Self:
        """Set `classes_`."""
        self.classes_ = np.arange(self.classes)
        return self

    def _by_head(self, X: np.ndarray) -> np.ndarray:
        """Unfold the columns: float64 `(rows, heads, classes)`."""
        return np.asarray(X, np.float64).reshape(len(X), -1, self.classes)


class MeanLogits(_Rule):
    """Average the heads' logits, then take the softmax."""

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the softmax of the mean logits: `(rows, classes)`."""
        return softmax(self._by_head(X).mean(axis=1))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class with the largest mean logit; of equal ones the first."""
        chosen: np.ndarray = self._by_head(X).mean(axis=1).argmax(axis=1)
        return chosen


class Majority(_Rule):
    """Take the class that most heads put first; of tied ones the one with more probability."""

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the share of heads that put each class first: `(rows, classes)`."""
        first = self._by_head(X).argmax(axis=2)
        shares: np.ndarray = (first[:, :, None] == np.arange(self.classes)).mean(axis=1)
        return shares

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the plurality class.

        Of classes with equally many votes it is the one whose mean softmax probability over all
        heads is larger; of equal ones the first.
        """
        shares = self.predict_proba(X)
        probability = softmax(self._by_head(X)).mean(axis=1)
        tied = shares == shares.max(axis=1, keepdims=True)
        chosen: np.ndarray = np.where(tied, probability, -1).argmax(axis=1)
        return chosen
