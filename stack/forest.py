"""The published meta-model, one random forest per fold, and extremely randomised trees.

Saved as skops files, which contain data and no code that runs on loading. They are read by
`ser.stack.skops_forest`, which validates every tree before building it.
"""

import os
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from ser.corpus.errors import DamagedError
from ser.stack.folds import FoldedClassifier, Input
from ser.stack.record import StackRecord
from ser.stack.skops_forest import BrokenForestError, ForeignTypeError, read_trees

BLOCK = 8192  # rows per thread, over all trees: few enough that they stay in the CPU cache


class ForestStacker(FoldedClassifier):
    """The mean of random forests fitted on the folds of a balanced subset (UNICAMP, section 4.2).

    Usable on its own, on any features `(rows, dim)`. The results do not depend on `jobs`, the
    number of threads (-1: all cores).

    >>> X = np.repeat(np.eye(2, dtype=np.float32), 100, axis=0)  # 200 rows, 2 logits
    >>> stacker = ForestStacker(trees=5, folds=2).fit(X, np.repeat([0, 1], 100))
    >>> stacker.predict(X[[0, -1]]).tolist()
    [0, 1]
    """

    suffix = ".skops"
    kind: type[RandomForestClassifier] | type[ExtraTreesClassifier] = RandomForestClassifier

    def __init__(
        self,
        *,
        trees: int = 200,
        max_depth: int = 8,
        min_samples_leaf: int = 10,
        min_samples_split: int = 10,
        folds: int = 5,
        balance: bool = True,
        draws: int = 1,
        input: Input = "logits",
        extra: int = 0,
        seed: int = 42,
        jobs: int = -1,
    ) -> None:
        self.trees = trees
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.min_samples_split = min_samples_split
        self.folds = folds
        self.balance = balance
        self.draws = draws
        self.input = input
        self.extra = extra
        self.seed = seed
        self.jobs = jobs

    def fit_member(self, X: np.ndarray, y: np.ndarray, seed: int) -> Any:
        """Fit one forest."""
        forest = self.kind(
            n_estimators=self.trees,
            criterion="gini",
            max_depth=self.max_depth,
            min_samples_leaf=self.min_samples_leaf,
            min_samples_split=self.min_samples_split,
            random_state=seed,
            n_jobs=self.jobs,
        ).fit(X, y)
        # With several threads a forest sums its trees in the order in which they happen to finish.
        return forest.set_params(n_jobs=None)

    def predict_member(self, member: Any, X: np.ndarray) -> np.ndarray:
        """Return one forest's probabilities, identical to the last bit to its `predict_proba`.

        A member is a fitted forest, or the list of trees read from a file.

        Threads get blocks of rows rather than trees, whose sum would depend on the order in which
        they finish.
        """
        trees = member if isinstance(member, list) else [e.tree_ for e in member.estimators_]

        def mean_of_trees(block: np.ndarray) -> np.ndarray:
            total = np.zeros((len(block), len(self.classes_)))
            for tree in trees:
                total += tree.predict(block)
            return total / len(trees)

        blocks = [X[i : i + BLOCK] for i in range(0, max(len(X), 1), BLOCK)]
        with ThreadPoolExecutor(os.cpu_count() if self.jobs < 0 else self.jobs) as threads:
            return np.concatenate(list(threads.map(mean_of_trees, blocks)))

    def write_member(self, member: Any, path: Path) -> None:
        """Write one fitted forest as a compressed skops file."""
        _skops().dump(member, path, compression=ZIP_DEFLATED, compresslevel=1)

    def read_member(self, path: Path, classes: int, dim: int) -> Any:
        """Read and validate the trees of one forest; see `ser.stack.skops_forest`."""
        remedy = StackRecord.remedy
        try:
            return read_trees(path, self.kind.__name__, classes, dim)
        except ForeignTypeError as error:
            problem = f"it contains {error}, which no forest needs"
            raise DamagedError(path, problem, f"do not trust the file and {remedy}") from error
        except BrokenForestError as error:
            problem = f"it is not a forest with {classes} classes and {dim} inputs ({error})"
            raise DamagedError(path, problem, remedy) from error
        except (
            OSError,
            ValueError,
            BadZipFile,
            EOFError,
            NotImplementedError,
            zlib.error,
        ) as error:
            why = " ".join(str(error).split())[:200] or "it is truncated or altered"
            problem = f"not readable as a forest ({why})"
            raise DamagedError(path, problem, remedy) from error


class ExtraTreesStacker(ForestStacker):
    """The same with extremely randomised trees (Geurts et al. 2006)."""

    kind = ExtraTreesClassifier


def _skops() -> ModuleType:
    """Import skops.io without torch.

    On import skops enumerates all of scikit-learn's estimators, which imports scikit-learn's
    adapter to torch, and so torch where it is installed: seconds, and 200 MB.
    """
    adapter = "sklearn.externals.array_api_compat.torch"
    block = "skops.io" not in sys.modules and adapter not in sys.modules
    if block:
        sys.modules[adapter] = None  # type: ignore[assignment]
    try:
        import skops.io
    finally:
        if block:
            del sys.modules[adapter]
    module: ModuleType = skops.io
    return module
