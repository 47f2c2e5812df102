"""The published meta-model, a random forest, and extremely randomised trees; kept as plain arrays.

scikit-learn fits them; saving and predicting need numpy alone (`ser.stack.trees`).
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self
from zipfile import BadZipFile

import numpy as np

from ser.corpus.errors import DamagedError
from ser.stack.estimators import Classifier
from ser.stack.npz import BrokenFileError
from ser.stack.record import StackRecord
from ser.stack.skops_file import ForeignTypeError, read_forest
from ser.stack.trees import Tree, Trees

UNREADABLE = (OSError, ValueError, BadZipFile, EOFError, NotImplementedError, zlib.error)
FEW_ROWS = 1000  # on fewer, handing a tree to a thread takes longer than growing it


@dataclass(eq=False, kw_only=True)
class Forest(Classifier):
    """A random forest with the published options (UNICAMP, section 4.2).

    Usable on its own, on any features `(rows, dim)` float32. The results are those of scikit-learn,
    to the last bit, and do not depend on `jobs`, the number of threads (-1: all cores).

    >>> X = np.repeat(np.eye(2, dtype=np.float32), 100, axis=0)  # 200 rows, 2 logits
    >>> forest = Forest(trees=5, random_state=0).fit(X, np.repeat([0, 1], 100))
    >>> forest.predict(X[[0, -1]]).tolist()
    [0, 1]
    """

    suffix: ClassVar[str] = ".npz"
    kind: ClassVar[str] = "RandomForestClassifier"  # of scikit-learn

    trees: int = 200
    max_depth: int = 8
    min_samples_leaf: int = 10
    min_samples_split: int = 10
    jobs: int = -1
    random_state: int | None = None

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit on inputs `(rows, dim)` and labels `(rows,)`."""
        import sklearn.ensemble

        forest = getattr(sklearn.ensemble, self.kind)(
            n_estimators=self.trees,
            criterion="gini",
            max_depth=self.max_depth,
            min_samples_leaf=self.min_samples_leaf,
            min_samples_split=self.min_samples_split,
            random_state=self.random_state,
            n_jobs=self.jobs if len(X) >= FEW_ROWS else None,
        ).fit(X, y)
        self.classes_ = forest.classes_
        trees = [
            Tree(t.children_left, t.children_right, t.feature, t.threshold, t.value[:, 0])
            for t in (estimator.tree_ for estimator in forest.estimators_)
        ]
        self.n_features_in_ = X.shape[1]
        self.trees_ = Trees.join(trees, len(self.classes_), self.n_features_in_)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the mean of the trees: float64 `(rows, classes)`.

        Raises ValueError for another number of columns than the forest was fitted on.
        """
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} columns, not {self.n_features_in_}")
        return self.trees_.mean(np.asarray(X, np.float32), self.jobs)

    def write(self, path: Path) -> None:
        """Write the trees as npz."""
        self.trees_.write(path)

    def read(self, path: Path, classes: int, dim: int) -> Self:
        """Read and check the trees, or those of an older version in a skops file."""
        self.classes_, self.n_features_in_ = np.arange(classes), dim
        older, remedy = path.with_suffix(".skops"), StackRecord.remedy
        try:
            if older.exists() and not path.exists():
                path = older
                self.trees_ = Trees.join(read_forest(path, self.kind), classes, dim)
            else:
                self.trees_ = Trees.read(path, classes, dim)
        except ForeignTypeError as error:
            problem = f"it contains {error}, which no forest needs"
            raise DamagedError(path, problem, f"do not trust the file and {remedy}") from error
        except BrokenFileError as error:
            problem = f"it is not a forest with {classes} classes and {dim} inputs ({error})"
            raise DamagedError(path, problem, remedy) from error
        except UNREADABLE as error:
            why = " ".join(str(error).split())[:200] or "it is truncated or altered"
            raise DamagedError(path, f"not readable as a forest ({why})", remedy) from error
        return self


@dataclass(eq=False, kw_only=True)
class ExtraTrees(Forest):
    """The same with extremely randomised trees (Geurts et al. 2006)."""

    kind = "ExtraTreesClassifier"
