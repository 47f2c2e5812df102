"""Rules that combine heads: fixed ones, and three with a few parameters.

    mean_logits   softmax of the mean of the heads' logits
    mean_proba    mean of the heads' probabilities
    majority      the class that most heads rank first
    best_head     the head with the best macro-F1, alone
    weighted      weighted mean of the heads' probabilities; the weights come from non-negative
                  least squares against the labels (classes weighted equally), or are the heads'
                  macro-F1
    top_k         the k heads with the best macro-F1, by plurality or mean of probabilities (the
                  challenge's overview, Figure 4: top 1, 3, 5 and 10 by plurality)

All are scikit-learn estimators that take logits `(rows, heads * classes)`, head by head; `fit` of
the fixed ones only sets `classes_` to the indices 0 … `classes` - 1. Fit `best_head`, `weighted`
and `top_k` on rows that the heads were not trained on. `ser.stack.pools` has three more.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np

from ser.cache.json_file import read_object
from ser.corpus.errors import DamagedError
from ser.score.heads import softmax
from ser.score.metrics import confusion, macro_f1
from ser.stack.estimators import Classifier
from ser.stack.record import StackRecord

RULE = "rule.json"
SUM = 1e-6  # how far from 1 the weights of a rule may sum


@dataclass(eq=False)
class Rule(Classifier):
    """Base class of the rules; a subclass defines `predict_proba`."""

    classes: int

    def fit(self, X: np.ndarray | None = None, y: np.ndarray | None = None) -> Self:
        """Set `classes_`."""
        self.classes_ = np.arange(self.classes)
        return self

    def save(self, folder: Path) -> None:
        """Write nothing: the options describe the rule completely."""

    def load(self, folder: Path, classes: int, dim: int) -> Self:
        """Set `classes_`, as `fit` does."""
        return self.fit()

    def _by_head(self, X: np.ndarray) -> np.ndarray:
        """Reshape the columns to float64 `(rows, heads, classes)`."""
        return np.asarray(X, np.float64).reshape(len(X), -1, self.classes)


class MeanLogits(Rule):
    """The softmax of the mean of the heads' logits.

    >>> two_heads = np.array([[2.0, 0.0, 0.0, 1.0]])  # (rows, heads * classes)
    >>> MeanLogits(classes=2).fit().predict(two_heads).tolist()
    [0]
    """

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the softmax of the mean logits: `(rows, classes)`."""
        return softmax(self._by_head(X).mean(axis=1))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class with the largest mean logit; ties go to the first."""
        chosen: np.ndarray = self._by_head(X).mean(axis=1).argmax(axis=1)
        return chosen


class MeanProba(Rule):
    """The mean of the heads' probabilities."""

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the mean of the heads' softmax: `(rows, classes)`."""
        mean: np.ndarray = softmax(self._by_head(X)).mean(axis=1)
        return mean


class Majority(Rule):
    """The class that most heads rank first; ties go to the larger mean probability."""

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the share of heads that rank each class first: `(rows, classes)`."""
        first = self._by_head(X).argmax(axis=2)
        shares: np.ndarray = (first[:, :, None] == np.arange(self.classes)).mean(axis=1)
        return shares

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the plurality class.

        Among classes with equally many votes, the one with the larger mean softmax probability
        over all heads; if these are equal too, the first.
        """
        shares = self.predict_proba(X)
        probability = softmax(self._by_head(X)).mean(axis=1)
        tied = shares == shares.max(axis=1, keepdims=True)
        chosen: np.ndarray = np.where(tied, probability, -1).argmax(axis=1)
        return chosen


class WeightedMean(Rule):
    """Base class: a weighted mean of the heads' probabilities; a subclass finds the `weights`.

    After `fit`, `weights_` are float64 `(heads,)`, none negative, and sum to 1.
    """

    largest: ClassVar[float] = 1  # a weight that a file may have

    def weights(self, logits: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the weights by logits `(rows, heads, classes)` and class indices `(rows,)`."""
        raise NotImplementedError

    def fit(self, X: np.ndarray | None = None, y: np.ndarray | None = None) -> Self:
        """Find the weights by logits `(rows, heads * classes)` and class indices `(rows,)`.

        Fit it on rows that the heads were not trained on.
        """
        X, y = required(X, y)
        self.weights_ = self.weights(self._by_head(X), y)
        return super().fit()

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the weighted mean of the heads' softmax: `(rows, classes)`."""
        mean: np.ndarray = np.einsum("rhc,h->rc", softmax(self._by_head(X)), self.weights_)
        return mean

    def save(self, folder: Path) -> None:
        """Write the weights."""
        (folder / RULE).write_text(json.dumps({"weights": self.weights_.tolist()}))

    def load(self, folder: Path, classes: int, dim: int) -> Self:
        """Read the weights; raises `UserError` for a file without the weights of these heads."""
        self.weights_ = np.array(read_values(folder / RULE, "weights", (int, float)), np.float64)
        inside = 0 <= self.weights_.min() <= self.weights_.max() <= self.largest
        if len(self.weights_) != dim // classes or not inside or not self._is_valid():
            raise damaged(folder / RULE)
        return super().fit()

    def _is_valid(self) -> bool:
        return bool(abs(self.weights_.sum() - 1) <= SUM)


class BestHead(WeightedMean):
    """The probabilities of the head with the best macro-F1; ties go to the head named first."""

    def weights(self, logits: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return 1 for the best head and 0 for the others."""
        scores = head_scores(logits, y, self.classes)
        best: np.ndarray = np.eye(len(scores))[scores.argmax()]
        return best


@dataclass(eq=False)
class Weighted(WeightedMean):
    """The mean weighted by least squares, or by the heads' macro-F1.

    All weights are equal where every head's would be 0.
    """

    by: Literal["nnls", "macro_f1"] = "nnls"

    def weights(self, logits: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the solution of non-negative least squares, or the scores, made to sum to 1."""
        if self.by == "nnls":
            weights = self._least_squares(softmax(logits), y)
        else:
            weights = head_scores(logits, y, self.classes)
        total = weights.sum()
        return weights / total if total > 0 else np.full(len(weights), 1 / len(weights))

    def _least_squares(self, probability: np.ndarray, y: np.ndarray) -> np.ndarray:
        from scipy.optimize import nnls

        rows, heads, classes = probability.shape
        scale = 1 / np.sqrt(np.bincount(y, minlength=classes)[y])[:, None]
        targets = (np.eye(classes)[y] * scale).ravel()
        inputs = (probability * scale[:, :, None]).transpose(0, 2, 1).reshape(rows * classes, heads)
        weights: np.ndarray = nnls(inputs, targets)[0]
        return weights


@dataclass(eq=False)
class TopK(Rule):
    """The `k` heads with the best macro-F1 combined, or all when there are fewer.

    After `fit`, `heads_` are their indices, the best first; ties go to the head named first.
    """

    k: int = 5
    by: Literal["plurality", "mean"] = "mean"

    def fit(self, X: np.ndarray | None = None, y: np.ndarray | None = None) -> Self:
        """Select the heads on logits `(rows, heads * classes)` and class indices `(rows,)`."""
        super().fit()
        scores = head_scores(*required(X, y), self.classes)
        self.heads_ = np.argsort(-scores, kind="stable")[: self.k]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the selected heads' mean softmax or vote shares: `(rows, classes)`."""
        return self._rule().predict_proba(self._selected(X))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class; tied votes are resolved as in `Majority`."""
        return self._rule().predict(self._selected(X))

    def save(self, folder: Path) -> None:
        """Write the indices of the selected heads."""
        (folder / RULE).write_text(json.dumps({"heads": self.heads_.tolist()}))

    def load(self, folder: Path, classes: int, dim: int) -> Self:
        """Read the indices of the selected heads."""
        super().fit()
        heads = read_values(folder / RULE, "heads", (int,))
        if not set(heads) <= set(range(dim // classes)) or len(set(heads)) != len(heads):
            raise damaged(folder / RULE)
        self.heads_ = np.array(heads, np.int64)
        return self

    def _rule(self) -> Majority | MeanProba:
        return (Majority if self.by == "plurality" else MeanProba)(self.classes).fit()

    def _selected(self, X: np.ndarray) -> np.ndarray:
        return self._by_head(X)[:, self.heads_].reshape(len(X), -1)


def head_scores(X: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray:
    """Return each head's macro-F1 on logits `(rows, heads * classes)`: float64 `(heads,)`."""
    first = np.asarray(X).reshape(len(X), -1, classes).argmax(axis=2)
    return macro_f1(np.stack([confusion(y, predicted, classes) for predicted in first.T]))


def required(X: np.ndarray | None, y: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays; raises ValueError where one is missing."""
    if X is None or y is None:
        raise ValueError("this rule is fitted on logits and labels; pass both")
    return np.asarray(X), np.asarray(y)


def read_values(path: Path, key: str, kinds: tuple[type, ...]) -> list[float]:
    """Read a list from a rule's file; raises `DamagedError` without one of these kinds."""
    values = read_object(path, StackRecord.remedy).get(key)
    if not isinstance(values, list) or not values or {type(v) for v in values} - set(kinds):
        raise damaged(path)
    return values


def damaged(path: Path) -> DamagedError:
    """Return the error for a file that is not a rule for the heads."""
    return DamagedError(path, "it is not a rule for these heads", StackRecord.remedy)
