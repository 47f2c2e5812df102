"""Ensembles of any model: members fitted on the folds of balanced subsets, outputs averaged.

UNICAMP (Interspeech 2025, section 3.2): each class of train is undersampled to the size of the
rarest, that subset is split into five stratified folds, one model is fitted on the training part of
each, and their probabilities are averaged. Several draws of the subset use more rows of the
frequent classes; the members of all draws are averaged. Where folds are given (speaker-disjoint
ones), a member is fitted on its draw without the rows of its fold.

A row is held out of the members whose fold it is in. Their predictions for it estimate how the
model does on unseen rows, provided that the folds are speaker-disjoint.
"""

import copy
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from ser.corpus.progress import steps
from ser.score.heads import softmax
from ser.stack import skops_file
from ser.stack.estimators import Classifier

Input = Literal["logits", "probabilities", "both"]
Member = Any  # a classifier of scikit-learn's kind


def balanced_rows(labels: np.ndarray, seed: int) -> np.ndarray:
    """Undersample each class, without replacement, to the size of the rarest.

    Returns row indices, sorted, int64.

    >>> balanced_rows(np.array([0, 0, 0, 1]), seed=0).tolist()
    [2, 3]
    """
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    drawn = [rng.choice(np.flatnonzero(labels == c), counts.min(), replace=False) for c in classes]
    return np.sort(np.concatenate(drawn))


class MissingClassError(ValueError):
    """A member would be fitted without any row of one class, `label`."""

    def __init__(self, label: int) -> None:
        super().__init__(f"a fold leaves no row of class {label} to fit on")
        self.label = label


@dataclass(eq=False)
class FoldedClassifier(Classifier):
    """The mean probabilities of clones of one classifier, each fitted on other rows.

    Args:
        estimator: any classifier of scikit-learn's kind; a parameter `random_state` gets the seed
            of the draw. One with `suffix`, `write` and `read` (`ser.stack.forest.Forest`) keeps
            files of its own, any other is written by skops.
        folds: members per draw, each fitted without one fold.
        balance: undersample each class to the size of the rarest.
        draws: how many subsets are drawn, with the seeds `seed`, `seed` + 1, …
        input: what the members read. "probabilities" and "both" need columns that are blocks of
            class logits.
        extra: the last columns that are something else and are passed through unchanged.
        seed: of the first draw and its folds.

    After `fit`: `classes_`, `rows_` (indices of the training rows that were used), `members_` and
    `held_out_` (for each member, indices of the training rows that were held out of it).

    A subclass may fit, evaluate, write and read its members in another way: `fit_member`,
    `predict_member`, `write_member`, `read_member`, and `suffix`, that of a member's file.

    >>> X = np.repeat(np.eye(2, dtype=np.float32), 100, axis=0)  # 200 rows, 2 logits
    >>> from ser.stack.linear import Logistic
    >>> folded = FoldedClassifier(Logistic(c=1), folds=2).fit(X, np.repeat([0, 1], 100))
    >>> folded.predict(X[[0, -1]]).tolist(), len(folded.members_)
    ([0, 1], 2)
    """

    estimator: Member
    _: KW_ONLY
    folds: int = 5
    balance: bool = True
    draws: int = 1
    input: Input = "logits"
    extra: int = 0
    seed: int = 42

    @property
    def suffix(self) -> str:
        """That of a member's file."""
        suffix: str = getattr(self.estimator, "suffix", ".skops")
        return suffix

    def fit_member(self, X: np.ndarray, y: np.ndarray, seed: int) -> Member:
        """Fit one member on inputs `(rows, dim)` and class indices `(rows,)`."""
        from sklearn.base import clone

        member: Member = clone(self.estimator)
        if "random_state" in member.get_params():
            member.set_params(random_state=seed)
        return member.fit(X, y)

    def predict_member(self, member: Member, X: np.ndarray) -> np.ndarray:
        """Return one member's output `(rows, classes)`, which is averaged over the members."""
        output: np.ndarray = member.predict_proba(X)
        return output

    def write_member(self, member: Member, path: Path) -> None:
        """Write one member to a file."""
        if hasattr(member, "write"):
            member.write(path)
        else:
            skops_file.write(member, path)

    def read_member(self, path: Path, classes: int, dim: int) -> Member:
        """Read one member; raises `UserError` for a file that `write_member` did not write."""
        if hasattr(self.estimator, "read"):
            return copy.copy(self.estimator).read(path, classes, dim)
        return skops_file.read(path, type(self.estimator).__module__.partition(".")[0])

    def to_probability(self, mean: np.ndarray) -> np.ndarray:
        """Convert the members' mean output to probabilities; by default return it unchanged."""
        return mean

    def fit(self, X: np.ndarray, y: np.ndarray, fold: np.ndarray | None = None) -> Self:
        """Fit the members on logits `(rows, dim)` float32 and labels `(rows,)`.

        `fold` `(rows,)`, values from 0 to `folds` - 1, replaces the random folds; every class must
        have a row outside each (otherwise `MissingClassError`). Raises ValueError (scikit-learn's)
        when every class has fewer rows than there are folds.
        """
        self.classes_, y = np.unique(y, return_inverse=True)
        X = self._inputs(X)
        self.members_, self.held_out_ = [], []
        splits = steps(self._splits(y, fold), "folds", self.folds * self.draws, delay=2)
        for seed, train, held_out in splits:
            counts = np.bincount(y[train], minlength=len(self.classes_))
            if not counts.all():
                raise MissingClassError(self.classes_[counts.argmin()])
            self.members_.append(self.fit_member(X[train], y[train], seed))
            self.held_out_.append(held_out)
        self.rows_ = np.unique(np.concatenate(self.held_out_))
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the members' mean probabilities: float64 `(rows, classes)`, as `classes_`."""
        X = self._inputs(X)
        members = steps(self.members_, "predict", len(self.members_), leave=False, delay=2)
        return self.to_probability(np.mean([self.predict_member(m, X) for m in members], axis=0))

    def held_out_proba(self, X: np.ndarray, fold: np.ndarray | None = None) -> np.ndarray:
        """Return held-out probabilities of the training rows: `(len(rows_), classes)`.

        Each row is predicted by the members that it was held out of. `X` is the one that `fit` was
        given; the result is aligned with `rows_`. With the `fold` that `fit` was given it is
        aligned with `X`: each row is predicted by the members that were fitted without its fold,
        whether a draw used the row or not.
        """
        X, held_out = self._inputs(X), self.held_out_
        if fold is not None:
            held_out = [np.flatnonzero(fold == i % self.folds) for i in range(len(self.members_))]
        total, counts = np.zeros((len(X), len(self.classes_))), np.zeros((len(X), 1))
        for member, rows in zip(self.members_, held_out, strict=True):
            total[rows] += self.predict_member(member, X[rows])
            counts[rows] += 1
        aligned = self.rows_ if fold is None else np.arange(len(X))
        return self.to_probability(total[aligned] / counts[aligned])

    def save(self, folder: Path) -> None:
        """Write every member to `<folder>/fold-<i><suffix>`, draw by draw."""
        for i, member in enumerate(self.members_):
            self.write_member(member, folder / f"fold-{i}{self.suffix}")

    def load(self, folder: Path, classes: int, dim: int) -> Self:
        """Read what `save` wrote; `classes_` is then the indices 0 … `classes` - 1.

        `dim` is the width of the `X` that `fit` was given.
        """
        self.classes_ = np.arange(classes)
        self.members_ = [
            self.read_member(folder / f"fold-{i}{self.suffix}", classes, self._width(dim))
            for i in range(self.folds * self.draws)
        ]
        return self

    def _width(self, dim: int) -> int:
        """Return the width of a member's inputs."""
        return dim if self.input != "both" else 2 * dim - self.extra

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
            from sklearn.model_selection import StratifiedKFold

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
        first = [logits] if self.input == "both" else []
        return np.concatenate([*first, probabilities, extra], axis=1)
