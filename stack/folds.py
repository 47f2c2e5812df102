"""The published protocol, whatever the model: balance, five folds, mean of the probabilities.

UNICAMP (Interspeech 2025, section 3.2): every class of train is cut to the rarest, a stratified
five-fold splits that subset, one model is fitted on the training part of each fold, and their
probabilities are averaged. The held-out parts are not used: the folds only make the models differ.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm


def balanced_rows(labels: np.ndarray, seed: int) -> np.ndarray:
    """Draw rows so that every class is cut, without replacement, to the rarest: sorted int64."""
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    drawn = [rng.choice(np.flatnonzero(labels == c), counts.min(), replace=False) for c in classes]
    return np.sort(np.concatenate(drawn))


class FoldedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the learned stackers; a subclass says how one member is fitted, asked and kept.

    A subclass's `__init__` takes `folds`, `balance` and `seed` beside its own options.
    After `fit`: `classes_`, `rows_` (the training rows that were used) and `members_`.
    """

    suffix: str
    folds: int
    balance: bool
    seed: int

    @abstractmethod
    def fit_member(self, X: np.ndarray, y: np.ndarray) -> Any:
        """Fit one fold's model on logits `(rows, dim)` and class indices `(rows,)`."""

    @abstractmethod
    def ask_member(self, member: Any, X: np.ndarray) -> np.ndarray:
        """Return one model's probabilities `(rows, classes)`."""

    @abstractmethod
    def write_member(self, member: Any, path: Path) -> None:
        """Write one model to a file."""

    @abstractmethod
    def read_member(self, path: Path, classes: int, dim: int) -> Any:
        """Read one model back; raises `UserError` when the file is not one that was written."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit one member a fold on logits `(rows, dim)` float32 and labels `(rows,)`.

        Raises ValueError (scikit-learn's) when every class has fewer rows than there are folds.
        """
        X = np.ascontiguousarray(X, np.float32)
        self.classes_, y = np.unique(y, return_inverse=True)
        self.rows_ = balanced_rows(y, self.seed) if self.balance else np.arange(len(y))
        X, y = X[self.rows_], y[self.rows_]
        splitter = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        folds = tqdm(splitter.split(X, y), "folds", self.folds, disable=None, delay=2)
        self.members_ = [self.fit_member(X[rows], y[rows]) for rows, _ in folds]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Average the members' probabilities: float64 `(rows, classes)`, columns as `classes_`."""
        X = np.ascontiguousarray(X, np.float32)
        members = tqdm(self.members_, "predict", leave=False, disable=None, delay=2)
        mean: np.ndarray = np.mean([self.ask_member(m, X) for m in members], axis=0)
        return mean

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class of every row; of equal ones the first."""
        chosen: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return chosen

    def save(self, folder: Path) -> None:
        """Write every member as `<folder>/fold-<i><suffix>`."""
        for i, member in enumerate(self.members_):
            self.write_member(member, folder / f"fold-{i}{self.suffix}")

    def load(self, folder: Path, classes: int, dim: int) -> Self:
        """Read what `save` wrote; the classes are then the indices 0 … `classes` - 1."""
        self.classes_ = np.arange(classes)
        paths = [folder / f"fold-{i}{self.suffix}" for i in range(self.folds)]
        self.members_ = [self.read_member(path, classes, dim) for path in paths]
        return self
