"""Linear meta-models: logistic regressions over the heads, and a soup of them; kept as JSON.

Inputs are standardised while fitting, and the scale is put into the coefficients afterwards, so a
model is one matrix and one vector, whose sum with others has a meaning.

The soup is MEDUSA's (Interspeech 2025 challenge, first of task 1): linear classifiers over the
heads' probabilities and attributes, six runs, and the average of their *weights*. What differs
between our runs is the balanced draw, as a logistic regression has one optimum whatever its seed.
Of linear models the average of the weights has the average of the logits; so unlike the published
soups of networks it differs from an ensemble only in where the softmax is taken.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from corpus.errors import UserError
from score.heads import softmax
from stack.folds import FoldedClassifier, Input

SOUP = "soup.json"
ITERATIONS = 1000


@dataclass(frozen=True)
class Linear:
    """Hold a linear classifier: `coefficient` `(classes, dim)`, `intercept` `(classes,)`."""

    coefficient: np.ndarray
    intercept: np.ndarray

    def logits(self, X: np.ndarray) -> np.ndarray:
        """Return the logits of inputs `(rows, dim)`: float64 `(rows, classes)`."""
        logits: np.ndarray = X.astype(np.float64) @ self.coefficient.T + self.intercept
        return logits

    def write(self, path: Path) -> None:
        """Write it as JSON; every float64 comes back as it was."""
        path.write_text(json.dumps({name: v.tolist() for name, v in asdict(self).items()}))

    @classmethod
    def read(cls, path: Path, classes: int, dim: int) -> "Linear":
        """Read what `write` wrote."""
        again = "fit the stack again with `ser stack fit`"
        try:
            said = json.loads(path.read_text())
            coefficient = np.array(said["coefficient"], np.float64)
            intercept = np.array(said["intercept"], np.float64)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: not readable as a linear model ({error}); {again}."
            ) from error
        if coefficient.shape != (classes, dim) or intercept.shape != (classes,):
            raise UserError(
                f"{path}: it is not a model of {classes} classes over {dim} inputs; {again}."
            )
        return cls(coefficient, intercept)


class LogisticStacker(FoldedClassifier):
    """Average the probabilities of multinomial logistic regressions.

    Usable alone, on any features `(rows, dim)`. `c` is the inverse strength of the L2 penalty on
    the coefficients of the standardised inputs.
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
        """Fit one regression; it has one optimum, so the seed changes nothing."""
        from sklearn.linear_model import LogisticRegression

        X = X.astype(np.float64)
        mean, scale = X.mean(axis=0), X.std(axis=0)
        scale[scale == 0] = 1
        model = LogisticRegression(C=self.c, max_iter=ITERATIONS).fit((X - mean) / scale, y)
        coefficient, intercept = model.coef_, model.intercept_
        if len(coefficient) == 1:  # of two classes, scikit-learn keeps the second's log odds
            coefficient = np.concatenate([-coefficient, coefficient]) / 2
            intercept = np.concatenate([-intercept, intercept]) / 2
        coefficient = coefficient / scale
        return Linear(coefficient, intercept - coefficient @ mean)

    def ask_member(self, member: Linear, X: np.ndarray) -> np.ndarray:
        """Return one regression's probabilities."""
        return softmax(member.logits(X))

    def write_member(self, member: Linear, path: Path) -> None:
        """Write one regression."""
        member.write(path)

    def read_member(self, path: Path, classes: int, dim: int) -> Linear:
        """Read one regression."""
        return Linear.read(path, classes, dim)


class MetaSoup(LogisticStacker):
    """Average the weights of linear meta-classifiers: one linear model in the end (MEDUSA).

    Each of the `draws` balanced subsets gives one classifier a fold. After `fit`, `members_` are
    those and `soup_` is their average.
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
        """Fit the members as every folded classifier, and average their weights."""
        super().fit(X, y, fold)
        self.soup_ = Linear(
            np.mean([member.coefficient for member in self.members_], axis=0),
            np.mean([member.intercept for member in self.members_], axis=0),
        )
        return self

    def ask_member(self, member: Linear, X: np.ndarray) -> np.ndarray:
        """Return one classifier's logits: their mean is what the mean of the weights says."""
        return member.logits(X)

    def to_probability(self, mean: np.ndarray) -> np.ndarray:
        """Take the softmax of the mean logits."""
        return softmax(mean)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Ask the one averaged model: float64 `(rows, classes)`."""
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
