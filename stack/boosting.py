"""LightGBM instead of the random forest, under the same protocol, saved as LightGBM text.

Boosted trees model interactions between heads better than bagged ones on large training sets, and
overfit the heads' in-sample logits sooner on small ones.
"""

from pathlib import Path

import lightgbm
import numpy as np

from ser.cache.json_file import read_bytes
from ser.corpus.errors import DamagedError
from ser.stack.folds import FoldedClassifier, Input
from ser.stack.lightgbm_text import LARGEST, OtherModelError, checked
from ser.stack.record import StackRecord


class LightGBMStacker(FoldedClassifier):
    """The mean of LightGBM models fitted on the folds of a balanced subset.

    Usable on its own, on any features `(rows, dim)`. The results do not depend on `jobs`, the
    number of threads (0: all cores).
    """

    suffix = ".txt"

    def __init__(
        self,
        *,
        rounds: int = 100,
        learning_rate: float = 0.05,
        num_leaves: int = 15,
        min_data_in_leaf: int = 20,
        feature_fraction: float = 0.5,
        folds: int = 5,
        balance: bool = True,
        draws: int = 1,
        input: Input = "logits",
        extra: int = 0,
        seed: int = 42,
        jobs: int = 0,
    ) -> None:
        self.rounds = rounds
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_data_in_leaf = min_data_in_leaf
        self.feature_fraction = feature_fraction
        self.folds = folds
        self.balance = balance
        self.draws = draws
        self.input = input
        self.extra = extra
        self.seed = seed
        self.jobs = jobs

    def fit_member(self, X: np.ndarray, y: np.ndarray, seed: int) -> lightgbm.Booster:
        """Fit one booster."""
        settings = {
            "objective": "multiclass",
            "num_class": len(self.classes_),
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_data_in_leaf,
            "feature_fraction": self.feature_fraction,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": self.jobs,
            "verbosity": -1,
        }
        return lightgbm.train(settings, lightgbm.Dataset(X, y), num_boost_round=self.rounds)

    def predict_member(self, member: lightgbm.Booster, X: np.ndarray) -> np.ndarray:
        """Return one booster's probabilities `(rows, classes)`."""
        return np.asarray(member.predict(X, num_threads=self.jobs))

    def write_member(self, member: lightgbm.Booster, path: Path) -> None:
        """Write one booster as text."""
        path.write_text(member.model_to_string())

    def read_member(self, path: Path, classes: int, dim: int) -> lightgbm.Booster:
        """Read one booster from validated text, as LightGBM itself validates nothing."""
        problem = f"it is not a model with {classes} classes and {dim} inputs"
        try:
            text = checked(read_bytes(path, StackRecord.remedy, LARGEST), classes, dim)
            return lightgbm.Booster(model_str=text)
        except OtherModelError as error:
            raise DamagedError(path, problem, StackRecord.remedy) from error
        except (ValueError, lightgbm.basic.LightGBMError) as error:
            problem = f"not readable as a LightGBM model ({' '.join(str(error).split())[:200]})"
            raise DamagedError(path, problem, StackRecord.remedy) from error
