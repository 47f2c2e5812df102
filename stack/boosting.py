"""LightGBM instead of the random forest, under the same protocol, saved as LightGBM text.

Boosted trees model interactions between heads better than bagged ones on large training sets, and
overfit the heads' in-sample logits sooner on small ones.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import lightgbm
import numpy as np

from ser.cache.json_file import read_bytes
from ser.corpus.errors import DamagedError
from ser.stack.estimators import Classifier
from ser.stack.lightgbm_text import LARGEST, OtherModelError, checked
from ser.stack.record import StackRecord


@dataclass(eq=False, kw_only=True)
class Boosting(Classifier):
    """A LightGBM model.

    Usable on its own, on any features `(rows, dim)` and class indices. The results do not depend on
    `jobs`, the number of threads (0: all cores).
    """

    suffix = ".txt"

    rounds: int = 100
    learning_rate: float = 0.05
    num_leaves: int = 15
    min_data_in_leaf: int = 20
    feature_fraction: float = 0.5
    jobs: int = 0
    random_state: int = 42

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit on inputs `(rows, dim)` and class indices `(rows,)`, each of which has a row."""
        self.classes_ = np.unique(y)
        settings = {
            "objective": "multiclass",
            "num_class": len(self.classes_),
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_data_in_leaf,
            "feature_fraction": self.feature_fraction,
            "seed": self.random_state,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": self.jobs,
            "verbosity": -1,
        }
        data = lightgbm.Dataset(X, y)
        self.booster_ = lightgbm.train(settings, data, num_boost_round=self.rounds)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probabilities: float64 `(rows, classes)`."""
        return np.asarray(self.booster_.predict(X, num_threads=self.jobs))

    def write(self, path: Path) -> None:
        """Write the model as LightGBM's text."""
        path.write_text(self.booster_.model_to_string())

    def read(self, path: Path, classes: int, dim: int) -> Self:
        """Read the model from validated text, as LightGBM itself validates nothing."""
        self.classes_ = np.arange(classes)
        problem = f"it is not a model with {classes} classes and {dim} inputs"
        try:
            text = checked(read_bytes(path, StackRecord.remedy, LARGEST), classes, dim)
            self.booster_ = lightgbm.Booster(model_str=text)
        except OtherModelError as error:
            raise DamagedError(path, problem, StackRecord.remedy) from error
        except (ValueError, lightgbm.basic.LightGBMError) as error:
            problem = f"not readable as a LightGBM model ({' '.join(str(error).split())[:200]})"
            raise DamagedError(path, problem, StackRecord.remedy) from error
        return self
