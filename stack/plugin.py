"""A user's meta-model: any classifier that a registered function makes, its mistakes named."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ser.corpus.config import Section
from ser.corpus.errors import UserError
from ser.corpus.registry import origin, reason
from ser.stack import skops_file
from ser.stack.estimators import Classifier
from ser.stack.registry import META_MODELS

SUM = 1e-3  # how far from 1 the probabilities of a row may sum


@dataclass(eq=False)
class PluginClassifier(Classifier):
    """The classifier that a user's function makes from its options.

    Args:
        name: that of the registered meta-model.
        options: what the function gets.
        random_state: the seed, for a classifier with a parameter of that name.

    Raises `UserError` for an object that is not a classifier, and for outputs that are not
    probabilities.
    """

    suffix = ".skops"

    name: str
    options: Section
    random_state: int | None = None

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Make the classifier and fit it."""
        self.member_ = member = self._make()
        if hasattr(member, "get_params") and "random_state" in member.get_params():
            member.set_params(random_state=self.random_state)
        try:
            member.fit(X, y)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # of a user's code: it may be anything
            raise self._error(f"its fit failed ({reason(error)}); correct it") from error
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the classifier's probabilities: float64 `(rows, classes)`."""
        probability = np.asarray(self.member_.predict_proba(X), np.float64)
        shape = (len(X), len(self.classes_))
        if probability.shape != shape:
            text = f"predict_proba returned {probability.shape}, not (rows, classes) {shape}"
            raise self._error(f"{text}; return a column for each class")
        sums = probability.sum(axis=1)
        wrong = np.flatnonzero(~((np.abs(sums - 1) < SUM) & (probability >= 0).all(axis=1)))
        if len(wrong):
            row = ", ".join(f"{p:.3g}" for p in probability[wrong[0]][:5])
            raise self._error(
                f"predict_proba returned the row [{row}]; a row must sum to 1, none below 0"
            )
        return probability

    def write(self, path: Path) -> None:
        """Write the fitted classifier."""
        skops_file.write(self.member_, path)

    def read(self, path: Path, classes: int, dim: int) -> Self:
        """Read it; raises `UserError` for types of packages that are not trusted."""
        package = META_MODELS.get(self.name).__module__.partition(".")[0]
        self.member_ = skops_file.read(path, package)
        self.classes_ = np.arange(classes)
        return self

    def _make(self) -> Any:
        """Call the user's function; raises `UserError` when it returns no classifier."""
        make = META_MODELS.get(self.name)
        label = f"the meta-model '{self.name}' ({origin(make)})"
        try:
            self.member_ = member = make(self.options)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # of a user's code: it may be anything
            raise UserError(f"{label} failed ({reason(error)}); correct it.") from error
        if member is None:
            raise UserError(f"{label} returned nothing; add a return.")
        if isinstance(member, type):
            raise UserError(
                f"{label} returned the class {origin(member)}; return an instance of it."
            )
        if not hasattr(member, "fit"):
            raise self._error("it has no method fit; return a classifier")
        if not hasattr(member, "predict_proba"):
            raise self._error(
                "it has no method predict_proba; give a classifier that has one, for example "
                "by wrapping it in sklearn.calibration.CalibratedClassifierCV"
            )
        return member

    def _error(self, problem: str) -> UserError:
        place = origin(type(self.member_))
        return UserError(f"the meta-model '{self.name}' ({place}): {problem}.")
