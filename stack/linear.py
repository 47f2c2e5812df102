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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from ser.cache.json_file import read_object
from ser.corpus.errors import DamagedError
from ser.score.heads import softmax
from ser.stack.estimators import Classifier
from ser.stack.folds import FoldedClassifier, Input
from ser.stack.record import StackRecord

SOUP = "soup.json"
ITERATIONS = 1000


def write_linear(path: Path, coefficient: np.ndarray, intercept: np.ndarray) -> None:
    """Write a linear model as JSON; every float64 is restored exactly."""
    values = {"coefficient": coefficient.tolist(), "intercept": intercept.tolist()}
    path.write_text(json.dumps(values))


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


@dataclass(eq=False)
class Logistic(Classifier):
    """A multinomial logistic regression on standardised inputs, which predicts without them.

    `c` is the inverse strength of the L2 penalty on the coefficients of the standardised inputs.
    After `fit`: `coef_` `(classes, dim)` and `intercept_` `(classes,)`, those of the inputs as
    they are.
    """

    suffix = ".json"

    c: float = 0.1

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit on inputs `(rows, dim)` and labels `(rows,)`; there is one optimum, and no seed."""
        from sklearn.linear_model import LogisticRegression

        X = X.astype(np.float64)
        mean, scale = X.mean(axis=0), X.std(axis=0)
        scale[scale == 0] = 1
        model = LogisticRegression(C=self.c, max_iter=ITERATIONS).fit((X - mean) / scale, y)
        coefficient, intercept = model.coef_, model.intercept_
        if len(coefficient) == 1:  # for two classes scikit-learn stores the second's log odds only
            coefficient = np.concatenate([-coefficient, coefficient]) / 2
            intercept = np.concatenate([-intercept, intercept]) / 2
        self.classes_ = model.classes_
        self.coef_ = coefficient / scale
        self.intercept_ = intercept - self.coef_ @ mean
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the logits of inputs `(rows, dim)`: float64 `(rows, classes)`."""
        logits: np.ndarray = X.astype(np.float64) @ self.coef_.T + self.intercept_
        return logits

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the softmax of the logits: float64 `(rows, classes)`."""
        return softmax(self.decision_function(X))

    def write(self, path: Path) -> None:
        """Write the coefficients."""
        write_linear(path, self.coef_, self.intercept_)

    def read(self, path: Path, classes: int, dim: int) -> Self:
        """Read the coefficients; raises `DamagedError` for a model of another shape."""
        description = f"a model with {classes} classes and {dim} inputs"
        self.coef_, self.intercept_ = read_linear(path, description, classes, dim)
        self.classes_ = np.arange(classes)
        return self


@dataclass(eq=False)
class MetaSoup(FoldedClassifier):
    """The average of the weights of linear meta-classifiers: a single linear model (MEDUSA).

    Each of the `draws` balanced subsets gives one `Logistic(c)` per fold. After `fit`, `members_`
    are these and `soup_` is their average.
    """

    estimator: Logistic = field(init=False, repr=False)
    c: float = 0.1
    draws: int = 6
    input: Input = "probabilities"

    def fit(self, X: np.ndarray, y: np.ndarray, fold: np.ndarray | None = None) -> Self:
        """Fit the members as in `FoldedClassifier.fit`, then average their weights."""
        self.estimator = Logistic(self.c)
        super().fit(X, y, fold)
        self.soup_ = Logistic(self.c)
        self.soup_.coef_ = np.mean([member.coef_ for member in self.members_], axis=0)
        self.soup_.intercept_ = np.mean([member.intercept_ for member in self.members_], axis=0)
        return self

    def predict_member(self, member: Logistic, X: np.ndarray) -> np.ndarray:
        """Return one classifier's logits; their mean equals the logits of the averaged weights."""
        return member.decision_function(X)

    def to_probability(self, mean: np.ndarray) -> np.ndarray:
        """Take the softmax of the mean logits."""
        return softmax(mean)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the averaged model's probabilities: float64 `(rows, classes)`."""
        return self.soup_.predict_proba(self._inputs(X))

    def save(self, folder: Path) -> None:
        """Write the averaged model as `<folder>/soup.json`."""
        self.soup_.write(folder / SOUP)

    def load(self, folder: Path, classes: int, dim: int) -> Self:
        """Read the averaged model."""
        self.classes_ = np.arange(classes)
        self.soup_ = Logistic(self.c).read(folder / SOUP, classes, self._width(dim))
        return self
