"""LightGBM in the place of the forest, under the same protocol, kept as LightGBM text.

Boosted trees use the interplay of the heads better than bagged ones when rows are many, and
overfit the heads' in-sample logits sooner when they are few.
"""

from pathlib import Path

import lightgbm
import numpy as np

from corpus.errors import UserError
from stack.folds import FoldedClassifier, Input


class LightGBMStacker(FoldedClassifier):
    """Average LightGBM models fitted on the folds of a balanced subset.

    Usable alone, on any features `(rows, dim)`. The number of `jobs` (0: all cores) changes no
    number.
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

    def ask_member(self, member: lightgbm.Booster, X: np.ndarray) -> np.ndarray:
        """Return one booster's probabilities."""
        return np.asarray(member.predict(X, num_threads=self.jobs))

    def write_member(self, member: lightgbm.Booster, path: Path) -> None:
        """Write one booster as text."""
        path.write_text(member.model_to_string())

    def read_member(self, path: Path, classes: int, dim: int) -> lightgbm.Booster:
        """Read one booster."""
        try:
            booster = lightgbm.Booster(model_str=path.read_text())
        except (OSError, ValueError, lightgbm.basic.LightGBMError) as error:
            raise UserError(
                f"{path}: not readable as a LightGBM model ({str(error).splitlines()[0]}); fit the "
                "stack again with `ser stack fit`."
            ) from error
        if booster.num_model_per_iteration() != classes or booster.num_feature() != dim:
            raise UserError(
                f"{path}: it is not a model of {classes} classes over {dim} logits; fit the stack "
                "again with `ser stack fit`."
            )
        return booster
