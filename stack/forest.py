"""The published meta-model, a random forest a fold, and extremely randomised trees; skops files.

A skops file is data, never code that runs on loading. scikit-learn walks a tree's node indices
without bounds checks, so they are checked here before a loaded tree is asked anything.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZIP_DEFLATED

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from corpus.errors import UserError
from stack.folds import FoldedClassifier, Input

TREE = "sklearn.tree._tree.Tree"  # the one type outside skops's own list that a forest needs
BLOCK = 8192  # rows a thread asks every tree about: their logits stay in its cache


class ForestStacker(FoldedClassifier):
    """Average random forests fitted on the folds of a balanced subset (UNICAMP, section 4.2).

    Usable alone, on any features `(rows, dim)`. The number of `jobs` (-1: all cores) changes no
    number.
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
        # Asked by several threads, a forest adds its trees up in the order they happen to finish.
        return forest.set_params(n_jobs=None)

    def ask_member(self, member: Any, X: np.ndarray) -> np.ndarray:
        """Return one forest's probabilities, to the last bit those of its `predict_proba`.

        Blocks of rows go to the threads, and not trees, whose sum would hang on which one finishes
        first.
        """
        trees = [estimator.tree_ for estimator in member.estimators_]

        def ask(block: np.ndarray) -> np.ndarray:
            total = np.zeros((len(block), len(self.classes_)))
            for tree in trees:
                total += tree.predict(block)
            return total / len(trees)

        blocks = [X[i : i + BLOCK] for i in range(0, max(len(X), 1), BLOCK)]
        with ThreadPoolExecutor(os.cpu_count() if self.jobs < 0 else self.jobs) as threads:
            return np.concatenate(list(threads.map(ask, blocks)))

    def write_member(self, member: Any, path: Path) -> None:
        """Write one forest as a compressed skops file."""
        _skops().dump(member, path, compression=ZIP_DEFLATED, compresslevel=1)

    def read_member(self, path: Path, classes: int, dim: int) -> Any:
        """Read one forest; only scikit-learn's and numpy's types are let in."""
        skops = _skops()
        try:
            forest = skops.load(path, trusted=[TREE])
        except skops.exceptions.UntrustedTypesFoundException as error:
            foreign = sorted(set(skops.get_untrusted_types(file=path)) - {TREE})
            raise UserError(
                f"{path}: it holds {', '.join(foreign)}, which no forest needs; do not trust the "
                "file and fit the stack again with `ser stack fit`."
            ) from error
        except Exception as error:  # skops lets through whatever zip, json and numpy raise
            raise UserError(
                f"{path}: not readable as a forest ({str(error).splitlines()[0]}); fit the stack "
                "again with `ser stack fit`."
            ) from error
        if not (isinstance(forest, self.kind) and _is_sound(forest, classes, dim)):
            raise UserError(
                f"{path}: it is not a forest of {classes} classes over {dim} logits, or it is "
                "damaged; fit the stack again with `ser stack fit`."
            )
        return forest


class ExtraTreesStacker(ForestStacker):
    """Do the same with extremely randomised trees (Geurts et al. 2006)."""

    kind = ExtraTreesClassifier


def _is_sound(forest: Any, classes: int, dim: int) -> bool:
    trees = [member.tree_ for member in forest.estimators_]
    return bool(trees) and all(
        tree.n_features == dim and tree.value.shape[1:] == (1, classes) and _is_walkable(tree)
        for tree in trees
    )


def _is_walkable(tree: Any) -> bool:
    inner = np.flatnonzero(tree.children_left != -1)
    children = np.stack([tree.children_left[inner], tree.children_right[inner]])
    feature = tree.feature[inner]
    # A child always lies behind its parent, which also means that every walk ends.
    return bool(
        tree.node_count > 0
        and np.all((children > inner) & (children < tree.node_count))
        and np.all((feature >= 0) & (feature < tree.n_features))
    )


def _skops() -> ModuleType:
    """Import skops.io without torch.

    On import skops lists all of scikit-learn's estimators, and that walk imports
    scikit-learn's adapter to torch, hence torch where it is installed: seconds, and 200 MB.
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
