"""A user's meta-model: any scikit-learn classifier, fitted on the folds and saved with skops."""

from pathlib import Path
from typing import Any

import numpy as np
import skops.io

from ser.corpus.config import Section
from ser.corpus.errors import DamagedError, UserError
from ser.corpus.registry import origin, reason
from ser.stack.folds import FoldedClassifier, Input
from ser.stack.record import StackRecord
from ser.stack.registry import META_MODELS

TRUSTED = (
    "sklearn",
    "numpy",
    "scipy",
)  # packages whose types a file may contain, and the model's own
SUM = 1e-3  # how far from 1 the probabilities of a row may sum


class EstimatorStacker(FoldedClassifier):
    """The mean probabilities of a registered classifier, one fitted on each fold.

    A classifier with a parameter `random_state` gets its member's seed. Raises `UserError` for an
    object that is not a classifier, and for outputs that are not probabilities.
    """

    suffix = ".skops"

    def __init__(
        self,
        *,
        name: str,
        options: Section,
        folds: int = 5,
        balance: bool = True,
        draws: int = 1,
        input: Input = "logits",
        extra: int = 0,
        seed: int = 42,
    ) -> None:
        self.name = name
        self.options = options
        self.folds = folds
        self.balance = balance
        self.draws = draws
        self.input = input
        self.extra = extra
        self.seed = seed

    def fit_member(self, X: np.ndarray, y: np.ndarray, seed: int) -> Any:
        """Make and fit one classifier."""
        member = self._make()
        if "random_state" in getattr(member, "get_params", dict)():
            member.set_params(random_state=seed)
        try:
            member.fit(X, y)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # of a user's code: it may be anything
            raise self._error(member, f"its fit failed ({reason(error)}); correct it") from error
        return member

    def _make(self) -> Any:
        """Call the user's function; raises `UserError` when it returns no classifier."""
        make = META_MODELS.get(self.name)
        described = f"the meta-model '{self.name}' ({origin(make)})"
        try:
            member = make(self.options)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # of a user's code: it may be anything
            raise UserError(f"{described} failed ({reason(error)}); correct it.") from error
        if member is None:
            raise UserError(f"{described} returned nothing; add a return.")
        if isinstance(member, type):
            raise UserError(
                f"{described} returned the class {origin(member)}; return an instance of it."
            )
        if not hasattr(member, "fit"):
            raise self._error(member, "it has no method fit; return a classifier")
        if not hasattr(member, "predict_proba"):
            raise self._error(
                member,
                "it has no method predict_proba; give a classifier that has one, for example "
                "by wrapping it in sklearn.calibration.CalibratedClassifierCV",
            )
        return member

    def predict_member(self, member: Any, X: np.ndarray) -> np.ndarray:
        """Return one classifier's probabilities `(rows, classes)`."""
        probability = np.asarray(member.predict_proba(X), np.float64)
        shape = (len(X), len(self.classes_))
        if probability.shape != shape:
            text = f"predict_proba returned {probability.shape}, not (rows, classes) {shape}"
            raise self._error(member, f"{text}; return a column for each class")
        sums = probability.sum(axis=1)
        wrong = np.flatnonzero(~((np.abs(sums - 1) < SUM) & (probability >= 0).all(axis=1)))
        if len(wrong):
            row = ", ".join(f"{p:.3g}" for p in probability[wrong[0]][:5])
            raise self._error(
                member, f"predict_proba returned the row [{row}]; a row must sum to 1, none below 0"
            )
        return probability

    def write_member(self, member: Any, path: Path) -> None:
        """Write one classifier."""
        skops.io.dump(member, path)

    def read_member(self, path: Path, classes: int, dim: int) -> Any:
        """Read one classifier; raises `UserError` for types of packages that are not trusted."""
        try:
            kinds = skops.io.get_untrusted_types(file=path)
            package = META_MODELS.get(self.name).__module__.partition(".")[0]
            foreign = [k for k in kinds if k.partition(".")[0] not in (*TRUSTED, package)]
            member = None if foreign else skops.io.load(path, trusted=kinds)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
            problem = f"skops cannot read it ({type(error).__name__})"
            raise DamagedError(path, problem, StackRecord.remedy) from error
        if foreign:
            raise UserError(
                f"{path}: it contains types from packages other than scikit-learn and the "
                f"meta-model's own ({foreign[0][:100]}); derive the meta-model '{self.name}' from "
                "ser.stack.folds.FoldedClassifier and write its files there."
            )
        return member

    def _error(self, member: Any, problem: str) -> UserError:
        return UserError(f"the meta-model '{self.name}' ({origin(type(member))}): {problem}.")
