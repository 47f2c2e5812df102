"""Attributes (arousal, valence, dominance) from the predictions of several heads.

    mean    the mean of the heads that predict the attribute
    ridge   a ridge regression on all predictions of the heads, of every attribute; kept as JSON

Least squares shrinks predictions towards the mean of the labels, which CCC penalizes; with heads
trained on CCC the plain mean is often as good. Fit on rows that the heads were not trained on,
where there are any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from ser.stack.estimators import Estimator
from ser.stack.linear import read_linear, write_linear

RIDGE = "ridge.json"


@dataclass(eq=False)
class MeanAttributes(Estimator):
    """The mean, for each attribute, of the columns that predict it.

    `columns` lists, for each attribute, the indices of its columns in `X`.

    >>> MeanAttributes([[0, 1], [2]]).fit().predict(np.array([[4.0, 5.0, 3.0]])).tolist()
    [[4.5, 3.0]]
    """

    columns: Sequence[Sequence[int]]

    def fit(self, X: np.ndarray | None = None, y: np.ndarray | None = None) -> Self:
        """Return the estimator unchanged: a mean has no parameters."""
        self.fitted_ = True
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the means: float64 `(rows, attributes)`."""
        X = np.asarray(X, np.float64)
        return np.stack([X[:, list(indices)].mean(axis=1) for indices in self.columns], axis=1)

    def save(self, folder: Path) -> None:
        """Write nothing: the options describe the model completely."""

    def load(self, folder: Path, attributes: int, dim: int) -> Self:
        """Return the estimator: there is no file to read."""
        return self.fit()


@dataclass(eq=False)
class RidgeAttributes(Estimator):
    """One ridge regression per attribute, each fitted on the rows where the attribute is known.

    `alpha` is the strength of the L2 penalty.
    """

    alpha: float = 1.0

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit on `(rows, columns)` and truth `(rows, attributes)`, NaN where unknown.

        Raises ValueError (scikit-learn's) for an attribute without any known row.
        """
        from sklearn.linear_model import Ridge

        X = np.asarray(X, np.float64)
        rated = ~np.isnan(y)
        regressions = [
            Ridge(self.alpha).fit(X[rows], truth[rows])
            for rows, truth in zip(rated.T, y.T, strict=True)
        ]
        self.coef_ = np.array([regression.coef_ for regression in regressions])
        self.intercept_ = np.array([regression.intercept_ for regression in regressions])
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return float64 `(rows, attributes)`, not clipped to the range 1 to 7."""
        predicted: np.ndarray = np.asarray(X, np.float64) @ self.coef_.T + self.intercept_
        return predicted

    def save(self, folder: Path) -> None:
        """Write the coefficients as JSON; every float64 is restored exactly."""
        write_linear(folder / RIDGE, self.coef_, self.intercept_)

    def load(self, folder: Path, attributes: int, dim: int) -> Self:
        """Read the coefficients."""
        path = folder / RIDGE
        description = f"a ridge regression of {attributes} attributes on {dim} columns"
        self.coef_, self.intercept_ = read_linear(path, description, attributes, dim)
        return self
