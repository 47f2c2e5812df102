"""Rules over the heads: fixed ones, and two with a few numbers that are chosen or fitted.

    mean_logits   softmax of the mean of the heads' logits
    mean_proba    mean of the heads' probabilities
    majority      the class that most heads put first
    weighted      weighted mean of the heads' probabilities: weights of non-negative least squares
                  against the labels (every class weighs the same), or the heads' macro-F1
    top_k         the k heads with the best macro-F1, by plurality or mean of probabilities (the
                  challenge's overview, Figure 4: top 1, 3, 5 and 10 by plurality)

All take logits `(rows, heads * classes)`, head by head, and are scikit-learn estimators; `fit` of
the fixed ones only sets `classes_` to the indices 0 … `classes` - 1. Give `weighted` and `top_k`
rows that the heads were not trained on.
"""

import json
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from corpus.errors import UserError
from score.heads import softmax
from score.metrics import confusion, macro_f1

RULE = "rule.json"


class _Rule(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    def __init__(self, classes: int) -> None:
        self.classes = classes

    def fit(self, X: np.ndarray | None = None, y: np.ndarray | None = None) -> Self:
        """Set `classes_`."""
        self.classes_ = np.arange(self.classes)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class of every row; of equal ones the first."""
        chosen: np.ndarray = self.predict_proba(X).argmax(axis=1)
        return chosen

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write nothing: there is nothing that the options do not say."""

    def load(self, folder: Path, classes: int, dim: int) -> Self:
        """Set `classes_`, as `fit`."""
        return self.fit()

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


class MeanProba(_Rule):
    """Average the heads' probabilities."""

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the mean of the heads' softmax: `(rows, classes)`."""
        mean: np.ndarray = softmax(self._by_head(X)).mean(axis=1)
        return mean


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


class Weighted(_Rule):
    """Average the heads' probabilities with a weight each; after `fit`, `weights_` sum to 1.

    Equal weights where no head deserves any.
    """

    def __init__(self, classes: int, by: Literal["nnls", "macro_f1"] = "nnls") -> None:
        super().__init__(classes)
        self.by = by

    def fit(self, X: np.ndarray | None = None, y: np.ndarray | None = None) -> Self:
        """Find the weights on logits `(rows, heads * classes)` and class indices `(rows,)`."""
        super().fit()
        X, y = _needed(X, y)
        if self.by == "nnls":
            weights = self._least_squares(softmax(self._by_head(X)), y)
        else:
            weights = head_scores(X, y, self.classes)
        total = weights.sum()
        self.weights_ = weights / total if total > 0 else np.full(len(weights), 1 / len(weights))
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the weighted mean of the heads' softmax: `(rows, classes)`."""
        mean: np.ndarray = np.einsum("rhc,h->rc", softmax(self._by_head(X)), self.weights_)
        return mean

    def save(self, folder: Path) -> None:
        """Write the weights."""
        (folder / RULE).write_text(json.dumps({"weights": self.weights_.tolist()}))

    def load(self, folder: Path, classes: int, dim: int) -> Self:
        """Read the weights."""
        super().fit()
        weights = _read(folder / RULE, "weights")
        if len(weights) != dim // classes or not np.isfinite(weights).all() or min(weights) < 0:
            raise _damaged(folder / RULE)
        self.weights_ = np.array(weights, np.float64)
        return self

    def _least_squares(self, probability: np.ndarray, y: np.ndarray) -> np.ndarray:
        from scipy.optimize import nnls

        rows, heads, classes = probability.shape
        scale = 1 / np.sqrt(np.bincount(y, minlength=classes)[y])[:, None]
        wanted = (np.eye(classes)[y] * scale).ravel()
        said = (probability * scale[:, :, None]).transpose(0, 2, 1).reshape(rows * classes, heads)
        weights: np.ndarray = nnls(said, wanted)[0]
        return weights


class TopK(_Rule):
    """Combine the `k` heads with the best macro-F1, or all when there are fewer.

    After `fit`, `heads_` are their numbers, the best first; of equal ones the first named.
    """

    def __init__(self, classes: int, k: int = 5, by: Literal["plurality", "mean"] = "mean") -> None:
        super().__init__(classes)
        self.k = k
        self.by = by

    def fit(self, X: np.ndarray | None = None, y: np.ndarray | None = None) -> Self:
        """Choose the heads on logits `(rows, heads * classes)` and class indices `(rows,)`."""
        super().fit()
        scores = head_scores(*_needed(X, y), self.classes)
        self.heads_ = np.argsort(-scores, kind="stable")[: self.k]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the chosen heads' mean softmax or vote shares: `(rows, classes)`."""
        return self._rule().predict_proba(self._chosen(X))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class; of tied votes as `Majority`."""
        return self._rule().predict(self._chosen(X))

    def save(self, folder: Path) -> None:
        """Write the numbers of the chosen heads."""
        (folder / RULE).write_text(json.dumps({"heads": self.heads_.tolist()}))

    def load(self, folder: Path, classes: int, dim: int) -> Self:
        """Read the numbers of the chosen heads."""
        super().fit()
        heads = _read(folder / RULE, "heads")
        if not set(heads) <= set(range(dim // classes)):
            raise _damaged(folder / RULE)
        self.heads_ = np.array(heads, np.int64)
        return self

    def _rule(self) -> Majority | MeanProba:
        return (Majority if self.by == "plurality" else MeanProba)(self.classes)

    def _chosen(self, X: np.ndarray) -> np.ndarray:
        return self._by_head(X)[:, self.heads_].reshape(len(X), -1)


def head_scores(X: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray:
    """Return each head's macro-F1 on logits `(rows, heads * classes)`: float64 `(heads,)`."""
    first = np.asarray(X).reshape(len(X), -1, classes).argmax(axis=2)
    return macro_f1(np.stack([confusion(y, said, classes) for said in first.T]))


def _needed(X: np.ndarray | None, y: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    if X is None or y is None:
        raise ValueError("this rule is fitted on logits and labels: give both")
    return np.asarray(X), np.asarray(y)


def _read(path: Path, key: str) -> list[Any]:
    try:
        found = json.loads(path.read_text())[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    if not isinstance(found, list) or not found:
        raise _damaged(path)
    return found


def _damaged(path: Path) -> UserError:
    return UserError(
        f"{path}: it is missing or not a rule over these heads; fit the stack again with "
        "`ser stack fit`."
    )
