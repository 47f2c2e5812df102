"""The trees of a forest in a skops file, read as plain arrays and validated.

Neither skops nor scikit-learn loads the file: both build objects before anything can be checked,
and scikit-learn follows a tree's indices without bounds checks. Here the zip is read within limits,
`schema.json` is parsed as data, and each tree is built from two validated arrays: its nodes and
their class shares.
"""

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from sklearn.tree._tree import NODE_DTYPE, Tree

from ser.cache.json_file import parse_object
from ser.corpus.errors import DamagedError

SCHEMA = "schema.json"
LARGEST_SCHEMA = 1 << 26  # bytes: about 4,000 trees
LARGEST = 1 << 30  # bytes, all members decompressed
INFLATION = 100  # times the file's size; a real forest's is about 4
MOST_TREES = 100_000
PACKAGES = ("builtins", "numpy", "sklearn")
LEAF = -1


class BrokenForestError(ValueError):
    """The file is damaged, or not a forest with these classes and inputs."""


class ForeignTypeError(ValueError):
    """The file names types that no forest contains."""


def read_trees(path: Path, kind: str, classes: int, dim: int) -> list[Tree]:
    """Read the trees of a forest of scikit-learn's class `kind`.

    Raises `BrokenForestError` and `ForeignTypeError`; OSError and BadZipFile for a file that is not
    a readable zip.
    """
    with ZipFile(path) as archive:
        _require_size(archive, path.stat().st_size)
        schema = _schema(archive, path)
        foreign = sorted({name for name in _types(schema) if name.split(".")[0] not in PACKAGES})
        if foreign:
            raise ForeignTypeError(", ".join(foreign[:5]))
        try:
            if schema["__class__"] != kind:
                raise BrokenForestError(f"it is not a {kind}")
            members = schema["content"]["content"]["estimators_"]["content"]
            states = [m["content"]["content"]["tree_"]["content"]["content"] for m in members]
            files = [(state["nodes"]["file"], state["values"]["file"]) for state in states]
        except (KeyError, TypeError, IndexError) as error:
            raise BrokenForestError("it has no trees") from error
        if not 0 < len(files) <= MOST_TREES:
            raise BrokenForestError(f"it has {len(files)} trees")
        return [
            _tree(_array(archive, nodes), _array(archive, values), classes, dim)
            for nodes, values in files
        ]


def _require_size(archive: ZipFile, size: int) -> None:
    infos = archive.infolist()
    if len({info.filename for info in infos}) != len(infos):
        raise BrokenForestError("a member appears twice")
    if any(info.compress_type not in (ZIP_STORED, ZIP_DEFLATED) for info in infos):
        raise BrokenForestError("a member uses an unsupported compression")
    inflated = sum(info.file_size for info in infos)
    if inflated > min(LARGEST, INFLATION * size + (1 << 20)):
        raise BrokenForestError(f"it decompresses to {inflated} bytes, too many for its size")


def _schema(archive: ZipFile, path: Path) -> dict[str, Any]:
    try:
        data = _member(archive, SCHEMA, LARGEST_SCHEMA)
        if data.count(b"{") + data.count(b"[") > len(data) // 20:
            raise BrokenForestError("its schema is not that of a forest")
        return parse_object(path, data, "")
    except DamagedError as error:
        raise BrokenForestError(error.problem) from error


def _types(schema: dict[str, Any]) -> Iterator[str]:
    level: list[Any] = [schema]
    while level:
        value = level.pop()
        if isinstance(value, dict):
            if "__class__" in value:
                yield f"{value.get('__module__')}.{value['__class__']}"
            level.extend(value.values())
        elif isinstance(value, list):
            level.extend(value)


def _member(archive: ZipFile, name: Any, largest: int) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise BrokenForestError(f"it has no member {str(name)[:50]!r}") from error
    if info.file_size > largest:
        raise BrokenForestError(f"its member {name!r} has {info.file_size} bytes")
    with archive.open(info) as member:
        return member.read(largest + 1)


def _array(archive: ZipFile, name: Any) -> np.ndarray:
    """Read an npy member whose header matches its size."""
    data = _member(archive, name, LARGEST)
    file = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise BrokenForestError(f"its member {name!r} has an unsupported npy version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except BrokenForestError:
        raise
    except Exception as error:  # numpy passes on whatever Python's parser and tokenizer raise
        raise BrokenForestError(f"its member {name!r} is not an array") from error
    at = file.tell()
    if dtype.hasobject or fortran or math.prod(shape) * dtype.itemsize != len(data) - at:
        raise BrokenForestError(
            f"its member {name!r} does not have the size that its header states"
        )
    return np.frombuffer(data, dtype, offset=at).reshape(shape)


def _tree(nodes: np.ndarray, values: np.ndarray, classes: int, dim: int) -> Tree:
    """Build a tree that is valid for rows of `dim` inputs."""
    if nodes.dtype != NODE_DTYPE or nodes.ndim != 1 or not len(nodes):
        raise BrokenForestError(
            "a tree has no nodes, or they come from another version of scikit-learn"
        )
    if values.dtype != np.float64 or values.shape != (len(nodes), 1, classes):
        raise BrokenForestError(f"a tree does not have {classes} classes")
    left, right, count = nodes["left_child"], nodes["right_child"], len(nodes)
    inner = np.flatnonzero(left != LEAF)
    children = np.concatenate([left[inner], right[inner]])
    # Children come after their parent, so every path ends; all nodes but the first have one parent.
    if (
        np.any(children <= np.tile(inner, 2))
        or not np.array_equal(np.sort(children), np.arange(1, count))
        or np.any(right[left == LEAF] != LEAF)
    ):
        raise BrokenForestError("its nodes do not form a tree")
    feature = nodes["feature"][inner]
    if np.any((feature < 0) | (feature >= dim)) or not np.isfinite(nodes["threshold"]).all():
        raise BrokenForestError(f"a tree does not take {dim} inputs")
    if not (values >= 0).all() or not np.allclose(values.sum(axis=2), 1, rtol=0, atol=1e-6):
        raise BrokenForestError("a tree's shares of the classes do not sum to 1")
    tree = Tree(dim, np.array([classes], np.intp), 1)
    tree.__setstate__(
        # prediction does not use max_depth
        {"max_depth": 0, "node_count": count, "nodes": nodes.copy(), "values": values.copy()}
    )
    return tree
