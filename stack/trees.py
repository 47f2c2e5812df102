"""The trees of a forest as plain arrays: joined, checked, and walked over all trees at once.

scikit-learn follows a tree's indices without bounds checks, so every file is checked before it is
walked. A row takes the same way through a tree as in scikit-learn, which compares a float32 input
with a float64 threshold: it is at most the threshold just when it is at most the largest float32
that is not above the threshold.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self
from zipfile import ZipFile

import numpy as np

from ser.stack.npz import BrokenFileError, read_array, require_size, write_arrays

LEAF = -1
DEEPEST = 10_000  # levels of a tree
CELLS = 1 << 16  # rows times trees that are walked at once: few enough for the CPU cache
DTYPES = {"roots": "<i8", "feature": "<i8", "threshold": "<f4", "children": "<i8", "share": "<f8"}


class Tree(NamedTuple):
    """One tree: the nodes' children (`LEAF` for none), inputs, thresholds and class shares."""

    left: np.ndarray  # (nodes,)
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray  # float64
    share: np.ndarray  # (nodes, classes) float64


@dataclass(frozen=True)
class Trees:
    """All trees of a forest, one after the other, the root of each first.

    Attributes:
        roots: the node at which each tree begins, `(trees,)`.
        feature: the input that a node compares, `(nodes,)`; 0 in a leaf.
        threshold: the largest value that goes to the first child, `(nodes,)` float32; infinite in a
            leaf.
        children: two later nodes, `(nodes, 2)`; of a leaf, twice the leaf itself.
        share: the shares of the classes in a leaf, `(nodes, classes)` float64; 0 in other nodes.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    children: np.ndarray
    share: np.ndarray

    @classmethod
    def join(cls, trees: Sequence[Tree], classes: int, dim: int) -> Self:
        """Join trees; raises `BrokenFileError` where they are not valid for `dim` inputs."""
        sizes = [len(tree.left) for tree in trees]
        roots = np.cumsum([0, *sizes[:-1]])
        first = np.repeat(roots, sizes)
        left, right, feature, threshold, share = (
            np.concatenate(a) for a in zip(*trees, strict=True)
        )
        leaf, own = left == LEAF, np.arange(len(left))
        if np.any(right[leaf] != LEAF):
            raise BrokenFileError("its nodes do not form a tree")
        children = np.where(leaf, own, np.stack([left, right]) + first).T
        joined = cls(
            roots=roots,
            feature=np.where(leaf, 0, feature),
            threshold=np.where(leaf, np.float32(np.inf), narrow_thresholds(threshold)),
            children=np.ascontiguousarray(children),
            share=np.where(leaf[:, None], share, 0),
        )
        return joined.checked(classes, dim)

    def checked(self, classes: int, dim: int) -> Self:
        """Return the trees; raises `BrokenFileError` unless rows of `dim` inputs can walk them."""
        feature, children = self.feature, self.children
        count = len(feature)
        own = np.arange(count)
        if not count or {feature.shape, self.threshold.shape, children.shape[:1]} != {(count,)}:
            raise BrokenFileError("a tree has no nodes")
        if self.share.shape != (count, classes):
            raise BrokenFileError(f"a tree does not have {classes} classes")
        leaf = children[:, 0] == own
        inner, others = np.flatnonzero(~leaf), np.setdiff1d(own, self.roots)
        below = children[inner]
        # Children come after their parent, so every path ends; all nodes but roots have one parent.
        if (
            np.any(children[leaf, 1] != own[leaf])
            or np.any(below <= inner[:, None])
            or not np.array_equal(np.sort(below, axis=None), others)
            or len(others) + len(self.roots) != count
        ):
            raise BrokenFileError("its nodes do not form a tree")
        if np.any((feature < 0) | (feature >= dim)) or not np.isfinite(self.threshold[inner]).all():
            raise BrokenFileError(f"a tree does not take {dim} inputs")
        sums = self.share.sum(axis=1)
        if not (self.share >= 0).all() or not np.allclose(sums, leaf, rtol=0, atol=1e-6):
            raise BrokenFileError("a tree's shares of the classes do not sum to 1")
        if self.depth > DEEPEST:
            raise BrokenFileError(f"a tree has more than {DEEPEST} levels")
        return self

    @cached_property
    def depth(self) -> int:
        """The most steps from a root to a leaf, at most one more than `DEEPEST`."""
        node, depth = self.roots, 0
        while depth <= DEEPEST and len(node := node[self.children[node, 0] != node]):
            node, depth = self.children[node].ravel(), depth + 1
        return depth

    def write(self, path: Path) -> None:
        """Write the arrays as npz; the shares are those of the leaves alone."""
        arrays = {name: getattr(self, name) for name in DTYPES}
        arrays["share"] = self.share[self.children[:, 0] == np.arange(len(self.feature))]
        write_arrays(path, {name: arrays[name].astype(dtype) for name, dtype in DTYPES.items()})

    @classmethod
    def read(cls, path: Path, classes: int, dim: int) -> Self:
        """Read what `write` wrote; raises `BrokenFileError` for anything else.

        Raises OSError and BadZipFile for a file that is not a readable zip.
        """
        with ZipFile(path) as archive:
            require_size(archive, path.stat().st_size)
            arrays = {name: read_array(archive, f"{name}.npy") for name in DTYPES}
        if any(array.dtype != DTYPES[name] for name, array in arrays.items()):
            raise BrokenFileError("its arrays are of other types")
        children = arrays["children"]
        if children.shape[1:] != (2,) or arrays["roots"].ndim != 1:
            raise BrokenFileError("its nodes do not form a tree")
        leaf = children[:, 0] == np.arange(len(children))
        if arrays["share"].shape != (leaf.sum(), classes):
            raise BrokenFileError(f"a tree does not have {classes} classes")
        share = np.zeros((len(children), classes))
        share[leaf] = arrays["share"]
        return cls(**arrays | {"share": share}).checked(classes, dim)

    def mean(self, X: np.ndarray, jobs: int = -1) -> np.ndarray:
        """Return the mean shares of the leaves that rows `(rows, dim)` float32 reach.

        Float64 `(rows, classes)`, summed tree after tree as scikit-learn does on one thread: to the
        last bit the same on any number of threads, each of which takes blocks of rows. -1 is all
        cores.
        """
        rows = max(1, CELLS // len(self.roots))
        blocks = [X[i : i + rows] for i in range(0, max(len(X), 1), rows)]
        if len(blocks) == 1:
            return self._mean(X)
        with ThreadPoolExecutor(os.cpu_count() if jobs < 0 else jobs) as threads:
            return np.concatenate(list(threads.map(self._mean, blocks)))

    def _mean(self, X: np.ndarray) -> np.ndarray:
        values, first = np.ascontiguousarray(X).ravel(), np.arange(len(X)) * X.shape[1]
        children = self.children.ravel()
        node = np.repeat(self.roots[:, None], len(X), axis=1)  # (trees, rows)
        for _ in range(self.depth):
            place = self.feature.take(node)
            place += first
            second = values.take(place) > self.threshold.take(node)
            node *= 2
            node += second
            node = children.take(node)
        total = np.zeros((len(X), self.share.shape[1]))
        for reached in node:
            total += self.share.take(reached, axis=0)
        return total / len(self.roots)


def narrow_thresholds(thresholds: np.ndarray) -> np.ndarray:
    """Return the largest float32 that is not above each float64 threshold."""
    with np.errstate(over="ignore"):
        narrow = thresholds.astype(np.float32)
    above = narrow > thresholds
    narrow[above] = np.nextafter(narrow[above], np.float32(-np.inf))
    return narrow
