"""A classifier without a writer of its own, kept by skops: data, and no code that runs on loading.

Older versions of ser kept forests so, too. Neither skops nor scikit-learn loads such a file: both
build objects before anything can be checked. Here the zip is read within limits, `schema.json` is
parsed as data, and each tree is two arrays: its nodes and their class shares. `ser.stack.trees`
checks them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from ser.cache.json_file import parse_object
from ser.corpus.errors import DamagedError, UserError
from ser.stack.npz import BrokenFileError, read_array, read_member, require_size
from ser.stack.record import StackRecord
from ser.stack.trees import Tree

TRUSTED = ("sklearn", "numpy", "scipy")  # packages whose types a file may contain
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError)
SCHEMA = "schema.json"
LARGEST_SCHEMA = 1 << 26  # bytes: about 4,000 trees
MOST_TREES = 100_000
PACKAGES = ("builtins", "numpy", "sklearn")
FIELDS = {"left_child": "<i8", "right_child": "<i8", "feature": "<i8", "threshold": "<f8"}


def write(classifier: object, path: Path) -> None:
    """Write a fitted classifier."""
    import skops.io

    skops.io.dump(classifier, path)


def read(path: Path, package: str) -> Any:
    """Read what `write` wrote.

    Raises `UserError` for types that are neither of `TRUSTED` nor of `package`, the one that the
    classifier comes from, and for a damaged file.
    """
    import skops.io

    try:
        kinds = skops.io.get_untrusted_types(file=path)
        foreign = [k for k in kinds if k.partition(".")[0] not in (*TRUSTED, package)]
        classifier = None if foreign else skops.io.load(path, trusted=kinds)
    except UNREADABLE as error:
        problem = f"skops cannot read it ({type(error).__name__})"
        raise DamagedError(path, problem, StackRecord.remedy) from error
    if foreign:
        raise UserError(
            f"{path}: it contains types from packages other than scikit-learn and the "
            f"meta-model's own ({foreign[0][:100]}); derive the meta-model from "
            "ser.stack.folds.FoldedClassifier and write its files there."
        )
    return classifier


class ForeignTypeError(ValueError):
    """The file names types that no forest contains."""


def read_forest(path: Path, kind: str) -> list[Tree]:
    """Read the trees of a forest of scikit-learn's class `kind`.

    Raises `BrokenFileError` and `ForeignTypeError`; OSError and BadZipFile for a file that is not a
    readable zip.
    """
    with ZipFile(path) as archive:
        require_size(archive, path.stat().st_size)
        schema = _schema(archive, path)
        foreign = sorted({name for name in _types(schema) if name.split(".")[0] not in PACKAGES})
        if foreign:
            raise ForeignTypeError(", ".join(foreign[:5]))
        try:
            if schema["__class__"] != kind:
                raise BrokenFileError(f"it is not a {kind}")
            members = schema["content"]["content"]["estimators_"]["content"]
            states = [m["content"]["content"]["tree_"]["content"]["content"] for m in members]
            files = [(state["nodes"]["file"], state["values"]["file"]) for state in states]
        except (KeyError, TypeError, IndexError) as error:
            raise BrokenFileError("it has no trees") from error
        if not 0 < len(files) <= MOST_TREES:
            raise BrokenFileError(f"it has {len(files)} trees")
        return [_tree(read_array(archive, n), read_array(archive, v)) for n, v in files]


def _schema(archive: ZipFile, path: Path) -> dict[str, Any]:
    try:
        data = read_member(archive, SCHEMA, LARGEST_SCHEMA)
        if data.count(b"{") + data.count(b"[") > len(data) // 20:
            raise BrokenFileError("its schema is not that of a forest")
        return parse_object(path, data, "")
    except DamagedError as error:
        raise BrokenFileError(error.problem) from error


def _types(schema: dict[str, object]) -> Iterator[str]:
    level: list[object] = [schema]
    while level:
        value = level.pop()
        if isinstance(value, dict):
            if "__class__" in value:
                yield f"{value.get('__module__')}.{value['__class__']}"
            level.extend(value.values())
        elif isinstance(value, list):
            level.extend(value)


def _tree(nodes: np.ndarray, values: np.ndarray) -> Tree:
    fields: Any = nodes.dtype.fields or {}
    if nodes.ndim != 1 or any(fields.get(name, [None])[0] != t for name, t in FIELDS.items()):
        raise BrokenFileError("a tree has no nodes, or they come from another version")
    if values.dtype != np.float64 or values.ndim != 3 or values.shape[:2] != (len(nodes), 1):
        raise BrokenFileError("a tree does not have one output")
    left, right, feature, threshold = (nodes[name] for name in FIELDS)
    return Tree(left, right, feature, threshold, values[:, 0])
