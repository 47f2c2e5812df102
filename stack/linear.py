"""Linear meta-models: logistic regressions over the heads, and a soup of them; saved as JSON.

Inputs are standardised for fitting, and the scale is folded into the coefficients afterwards, so
that a model is one matrix and one vector and models can be averaged.

The soup is MEDUSA's (Interspeech 2025 challenge, first in task 1): linear classifiers over the
heads' probabilities and attributes, six runs, and the average of their *weights*. Our runs differ
in the balanced draw, as a logistic regression has one optimum whatever its seed. Averaging the
weights of linear models averages their logits; so unlike the published soups of networks, this one
differs from an ensemble only in where the softmax is taken.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from ser.cache.json_file import read_object
from ser.corpus.errors import DamagedError
from ser.score.heads import softmax
from ser.stack.folds import FoldedClassifier, Input
from ser.stack.record import StackRecord

SOUP = "soup.json"
ITERATIONS = 1000


@dataclass(frozen=True)
class Linear:
    """A linear classifier: `coefficient` `(classes, dim)`, `intercept` `(classes,)`."""

    coefficient: np.ndarray
    intercept: np.ndarray

    def logits(self, X: np.ndarray) -> np.ndarray:
        """Return the logits of inputs `(rows, dim)`: float64 `(rows, classes)`."""
        logits: np.ndarray = X.astype(np.float64) @ self.coefficient.T + self.intercept
        return logits

    def write(self, path: Path) -> None:
        """Write the model as JSON; every float64 is restored exactly."""
        path.write_text(json.dumps({name: v.tolist() for name, v in asdict(self).items()}))

    @classmethod
    def read(cls, path: Path, classes: int, dim: int) -> "Linear":
        """Read what `write` wrote."""
        description = f"a model with {classes} classes and {dim} inputs"
        return cls(*read_linear(path, description, classes, dim))


def read_linear(
    path: Path, description: str, outputs: int, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read a coefficient `(outputs, dim)` and an intercept `(outputs,)` of finite numbers.

    Raises `DamagedError` for a file without these; the message has its `description`.
    """
    values = read_object(path, StackRecord.remedy)
    try:
        coefficient = np.array(values["coefficient"], np.float64)
        intercept = np.array(values["intercept"], np.float64)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DamagedError(path, f"it is not {description}", StackRecord.remedy) from error
    fits = coefficient.shape == (outputs, dim) and intercept.shape == (outputs,)
    if not (fits and np.isfinite(coefficient).all() and np.isfinite(intercept).all()):
        raise DamagedError(path, f"it is not {description}", StackRecord.remedy)
    return coefficient, intercept


class LogisticStacker(FoldedClassifier):
    """The mean probabilities of multinomial logistic regressions fitted on the folds.

    Usable on its own, on any features `(rows, dim)`. `c` is the inverse strength of the L2
    penalty on the coefficients of the standardised inputs.
    """

    suffix = ".json"

    def __init__(
        self,
        *,
        c: float = 0.1,
        folds: int = 5,
        balance: bool = True,
        draws: int = 1,
        input: Input = "logits",
        extra: int = 0,
        seed: int = 42,
    ) -> None:
        self.c = c
        self.folds = folds
        self.balance = balance
        self.draws = draws
        self.input = input
        self.extra = extra
        self.seed = seed

    def fit_member(self, X: np.ndarray, y: np.ndarray, seed: int) -> Linear:
        """Fit one regression; `seed` has no effect, as there is one optimum."""
        from sklearn.linear_model import LogisticRegression

        X = X.astype(np.float64)
        mean, scale = X.mean(axis=0), X.std(axis=0)
        scale[scale == 0] = 1
        model = LogisticRegression(C=self.c, max_iter=ITERATIONS).fit((X - mean) / scale, y)
        coefficient, intercept = model.coef_, model.intercept_
        if len(coefficient) == 1:  # for two classes scikit-learn stores the second's log odds only
            coefficient = np.concatenate([-coefficient, coefficient]) / 2
            intercept = np.concatenate([-intercept, intercept]) / 2
        coefficient = coefficient / scale
        return Linear(coefficient, intercept - coefficient @ mean)

    def predict_member(self, member: Linear, X: np.ndarray) -> np.ndarray:
        """Return one regression's probabilities `(rows, classes)`."""
        return softmax(member.logits(X))

    def write_member(self, member: Linear, path: Path) -> None:
        """Write one regression."""
        member.write(path)

    def read_member(self, path: Path, classes: int, dim: int) -> Linear:
        """Read one regression."""
        return Linear.read(path, classes, dim)


class MetaSoup(LogisticStacker):
    """The average of the weights of linear meta-classifiers: a single linear model (MEDUSA).

    Each of the `draws` balanced subsets gives one classifier per fold. After `fit`, `members_` are
    these and `soup_` is their average.
    """

    def __init__(
        self,
        *,
        c: float = 0.1,
        folds: int = 5,
        balance: bool = True,
        draws: int = 6,
        input: Input = "probabilities",
        extra: int = 0,
        seed: int = 42,
    ) -> None:
        super().__init__(
            c=c, folds=folds, balance=balance, draws=draws, input=input, extra=extra, seed=seed
        )

    def fit(self, X: np.ndarray, y: np.ndarray, fold: np.ndarray | None = None) -> Self:
        """Fit the members as in `FoldedClassifier.fit`, then average their weights."""
        super().fit(X, y, fold)
        self.soup_ = Linear(
            np.mean([member.coefficient for member in self.members_], axis=0),
            np.mean([member.intercept for member in self.members_], axis=0),
        )
        return self

    def predict_member(self, member: Linear, X: np.ndarray) -> np.ndarray:
        """Return one classifier's logits; their mean equals the logits of the averaged weights."""
        return member.logits(X)

    def to_probability(self, mean: np.ndarray) -> np.ndarray:
        """Take the softmax of the mean logits."""
        return softmax(mean)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the averaged model's probabilities: float64 `(rows, classes)`."""
        return softmax(self.soup_.logits(self._inputs(X)))

    def save(self, folder: Path) -> None:
        """Write the averaged model as `<folder>/soup.json`."""
        self.soup_.write(folder / SOUP)

    def load(self, folder: Path, classes: int, dim: int) -> Self:
        """Read the averaged model."""
        self.classes_ = np.arange(classes)
        width = dim if self.input != "both" else 2 * dim - self.extra
        self.soup_ = Linear.read(folder / SOUP, classes, width)
        return self
