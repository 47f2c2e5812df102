"""Members fitted on the folds of balanced subsets, whatever the model: mean of what they say.

UNICAMP (Interspeech 2025, section 3.2): every class of train is cut to the rarest, a stratified
five-fold splits that subset, one model is fitted on the training part of each fold, and their
probabilities are averaged. Several draws of the subset use more of the frequent classes' rows; the
members of all draws are averaged. With folds that are given (speaker-disjoint ones), a member is
fitted on its draw without the rows of its fold.

A row is held out of the members whose fold it is in: what those say of it is an estimate of what
the model says of rows that it has not seen, as far as the folds keep speakers apart.
"""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from score.heads import softmax

Input = Literal["logits", "probabilities", "both"]


def balanced_rows(labels: np.ndarray, seed: int) -> np.ndarray:
    """Draw rows so that every class is cut, without replacement, to the rarest: sorted int64."""
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    drawn = [rng.choice(np.flatnonzero(labels == c), counts.min(), replace=False) for c in classes]
    return np.sort(np.concatenate(drawn))


class MissingClassError(ValueError):
    """Say that a member would be fitted without a row of one class, `label`."""

    def __init__(self, label: int) -> None:
        super().__init__(f"a fold leaves no row of class {label} to fit on")
        self.label = label


class FoldedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the learned stackers; a subclass says how one member is fitted, asked and kept.

    A subclass's `__init__` takes `folds`, `balance`, `draws`, `input`, `extra` and `seed` beside
    its own options. `input` other than "logits" needs columns that are blocks of class logits;
    the last `extra` columns are none and are passed on as they are.
    After `fit`: `classes_`, `rows_` (the training rows that were used), `members_` and `held_out_`
    (for each member, the rows of `rows_` that are kept from it).
    """

    suffix: str
    folds: int
    balance: bool
    draws: int
    input: Input
    extra: int
    seed: int

    @abstractmethod
    def fit_member(self, X: np.ndarray, y: np.ndarray, seed: int) -> Any:
        """Fit one member on inputs `(rows, dim)` and class indices `(rows,)`."""

    @abstractmethod
    def ask_member(self, member: Any, X: np.ndarray) -> np.ndarray:
        """Return what one member says, `(rows, classes)`: something that is averaged."""

    @abstractmethod
    def write_member(self, member: Any, path: Path) -> None:
        """Write one member to a file."""

    @abstractmethod
    def read_member(self, path: Path, classes: int, dim: int) -> Any:
        """Read one member back; raises `UserError` when the file is not one that was written."""

    def to_probability(self, mean: np.ndarray) -> np.ndarray:
        """Turn the members' mean into probabilities; the mean is those already, unless said."""
        return mean

    def fit(self, X: np.ndarray, y: np.ndarray, fold: np.ndarray | None = None) -> Self:
        """Fit the members on logits `(rows, dim)` float32 and labels `(rows,)`.

        `fold` `(rows,)`, from 0 to `folds` - 1, is used in the place of random folds; every class
        must have a row outside each (`MissingClassError`). Raises ValueError (scikit-learn's) when
        every class has fewer rows than there are folds.
        """
        self.classes_, y = np.unique(y, return_inverse=True)
        X = self._inputs(X)
        self.members_, self.held_out_ = [], []
        splits = tqdm(
            self._splits(y, fold), "folds", self.folds * self.draws, disable=None, delay=2
        )
        for seed, train, held_out in splits:
            counts = np.bincount(y[train], minlength=len(self.classes_))
            if not counts.all():
                raise MissingClassError(self.classes_[counts.argmin()])
            self.members_.append(self.fit_member(X[train], y[train], seed))
            self.held_out_.append(held_out)
        self.rows_ = np.unique(np.concatenate(self.held_out_))
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Average what the members say: float64 `(rows, classes)`, columns as `classes_`."""
        X = self._inputs(X)
        members = tqdm(self.members_, "predict", leave=False, disable=None, delay=2)
        return self.to_probability(np.mean([self.ask_member(m, X) for m in members], axis=0))

    def held_out_proba(self, X: np.ndarray) -> np.ndarray:
        """Ask each member about the rows that were kept from it: `(len(rows_), classes)`.

        `X` is what `fit` was given; the result is aligned with `rows_`.
        """
        X = self._inputs(X)
        total, times = np.zeros((len(X), len(self.classes_))), np.zeros((len(X), 1))
        for member, rows in zip(self.members_, self.held_out_, strict=True):
            total[rows] += self.ask_member(member, X[rows])
            times[rows] += 1
        return self.to_probability(total[self.rows_] / times[self.rows_])

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class of every row; of equal ones the first."""
        chosen: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return chosen

    def save(self, folder: Path) -> None:
        """Write every member as `<folder>/fold-<i><suffix>`, draw by draw."""
        for i, member in enumerate(self.members_):
            self.write_member(member, folder / f"fold-{i}{self.suffix}")

    def load(self, folder: Path, classes: int, dim: int) -> Self:
        """Read what `save` wrote; the classes are then the indices 0 … `classes` - 1.

        `dim` is the width of the `X` that `fit` was given.
        """
        self.classes_ = np.arange(classes)
        width = dim if self.input != "both" else 2 * dim - self.extra
        paths = [folder / f"fold-{i}{self.suffix}" for i in range(self.folds * self.draws)]
        self.members_ = [self.read_member(path, classes, width) for path in paths]
        return self

    def _splits(
        self, y: np.ndarray, fold: np.ndarray | None
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield the seed, the training rows and the held-out rows of every member."""
        for seed in range(self.seed, self.seed + self.draws):
            rows = balanced_rows(y, seed) if self.balance else np.arange(len(y))
            if fold is not None:
                for k in range(self.folds):
                    yield seed, rows[fold[rows] != k], rows[fold[rows] == k]
                continue
            splitter = StratifiedKFold(self.folds, shuffle=True, random_state=seed)
            for train, held_out in splitter.split(rows, y[rows]):
                yield seed, rows[train], rows[held_out]

    def _inputs(self, X: np.ndarray) -> np.ndarray:
        X = np.ascontiguousarray(X, np.float32)
        if self.input == "logits":
            return X
        end = X.shape[1] - self.extra
        logits, extra = X[:, :end], X[:, end:]
        by_head = softmax(logits.reshape(len(X), -1, len(self.classes_)))
        probabilities = by_head.reshape(len(X), end).astype(np.float32)
        kept = [logits] if self.input == "both" else []
        return np.concatenate([*kept, probabilities, extra], axis=1)
