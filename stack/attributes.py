"""Attributes (arousal, valence, dominance) from what several heads predict of them.

    mean    mean of the heads that predict the attribute
    ridge   a ridge regression on all that the heads predict, the other attributes too; JSON

Least squares pulls predictions towards the mean of the labels, which CCC does not forgive; with
heads that were trained on CCC the plain mean is often as good. Fit on rows that the heads were not
trained on, where there are such.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from corpus.errors import UserError

RIDGE = "ridge.json"


class MeanAttributes(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Average, for each attribute, the columns `(rows, columns)` that predict it."""

    def __init__(self, columns: Sequence[Sequence[int]]) -> None:
        self.columns = columns

    def fit(self, X: np.ndarray | None = None, y: np.ndarray | None = None) -> Self:
        """Learn nothing."""
        self.fitted_ = True
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the means: float64 `(rows, attributes)`."""
        X = np.asarray(X, np.float64)
        return np.stack([X[:, list(of)].mean(axis=1) for of in self.columns], axis=1)

    def save(self, folder: Path) -> None:
        """Write nothing: there is nothing that the options do not say."""

    def load(self, folder: Path, attributes: int, dim: int) -> Self:
        """Read nothing."""
        return self.fit()


class RidgeAttributes(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Fit one ridge regression an attribute, each on the rows where it is known."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit on `(rows, columns)` and truth `(rows, attributes)`, NaN where unknown.

        Raises ValueError (scikit-learn's) for an attribute without any known row.
        """
        from sklearn.linear_model import Ridge

        X = np.asarray(X, np.float64)
        known = ~np.isnan(y)
        members = [
            Ridge(self.alpha).fit(X[rows], truth[rows])
            for rows, truth in zip(known.T, y.T, strict=True)
        ]
        self.coef_ = np.array([member.coef_ for member in members])
        self.intercept_ = np.array([member.intercept_ for member in members])
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return float64 `(rows, attributes)`; nothing keeps it within 1 and 7."""
        predicted: np.ndarray = np.asarray(X, np.float64) @ self.coef_.T + self.intercept_
        return predicted

    def save(self, folder: Path) -> None:
        """Write the coefficients as JSON; every float64 comes back as it was."""
        said = {"coefficient": self.coef_.tolist(), "intercept": self.intercept_.tolist()}
        (folder / RIDGE).write_text(json.dumps(said))

    def load(self, folder: Path, attributes: int, dim: int) -> Self:
        """Read the coefficients."""
        path = folder / RIDGE
        try:
            said = json.loads(path.read_text())
            self.coef_ = np.array(said["coefficient"], np.float64)
            self.intercept_ = np.array(said["intercept"], np.float64)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: not readable as a ridge regression ({error}); fit the stack again with "
                "`ser stack fit`."
            ) from error
        if self.coef_.shape != (attributes, dim) or self.intercept_.shape != (attributes,):
            raise UserError(
                f"{path}: it does not give {attributes} attributes from {dim} columns; fit the "
                "stack again with `ser stack fit`."
            )
        return self
