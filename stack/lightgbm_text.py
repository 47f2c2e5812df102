"""The text of a LightGBM model, validated before LightGBM reads it.

LightGBM trusts its own files: a truncated or altered one crashes the process (SIGABRT, SIGFPE,
SIGSEGV) without an exception that could be caught.

1. The header must be that of a multiclass model with these numbers of classes and inputs.
2. Each tree must be valid: arrays of the lengths that its leaves require, every node and leaf with
   exactly one parent that precedes it, known features, finite numbers, no categories, no linear
   leaves.
3. LightGBM gets a text rebuilt from the validated lines, with sizes counted here. Nothing else from
   the file reaches it.
"""

import math
import re
from collections.abc import Mapping, Sequence

LARGEST = 1 << 28  # bytes of a file
MOST_LEAVES = 1 << 14
LONGEST_NUMBER = 40
INTEGER = re.compile(r"-?\d{1,18}")
REAL = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
THRESHOLD = re.compile(rf"{REAL.pattern}|inf")  # infinite where only NaN goes the other way
NAME = re.compile(r"\w[\w.-]{0,199}", re.ASCII)
RANGE = re.compile(r"none|\[-?\d[\d.e+-]{0,39}:-?\d[\d.e+-]{0,39}\]")
NUMERIC_DECISIONS = {"0", "2", "4", "6", "8", "10"}  # an odd one is of categories
NODE_ARRAYS = {
    "split_feature": INTEGER,
    "split_gain": REAL,
    "threshold": THRESHOLD,
    "decision_type": INTEGER,
    "left_child": INTEGER,
    "right_child": INTEGER,
    "internal_value": REAL,
    "internal_weight": REAL,
    "internal_count": INTEGER,
}
LEAF_ARRAYS = {"leaf_value": REAL, "leaf_weight": REAL, "leaf_count": INTEGER}
ORDER = (  # of the lines of a tree
    *("num_leaves", "num_cat", "split_feature", "split_gain", "threshold", "decision_type"),
    *("left_child", "right_child", "leaf_value", "leaf_weight", "leaf_count", "internal_value"),
    *("internal_weight", "internal_count", "is_linear", "shrinkage"),
)
NEEDED = ("split_feature", "threshold", "decision_type", "left_child", "right_child", "leaf_value")
TAIL = "end of trees\n\nfeature_importances:\n\nparameters:\n\nend of parameters\n"
LAST_LINE = "pandas_categorical:null"


class BrokenModelError(ValueError):
    """The text is not a model that LightGBM can read safely."""


class OtherModelError(BrokenModelError):
    """The model has another number of classes or inputs."""


def checked(data: bytes, classes: int, dim: int) -> str:
    """Return a text of exactly the same model that is safe to pass to LightGBM.

    Raises `BrokenModelError` for a file that is damaged or not a multiclass model,
    `OtherModelError` for a model without `classes` classes and `dim` inputs.
    """
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise BrokenModelError("it is not plain text") from error
    if "\0" in text or "\r" in text:
        raise BrokenModelError("it is not plain text")
    head, *blocks = re.split(r"\n{2,}", text.rstrip("\n"))
    header = _header(head, classes, dim)
    end = next((i for i, block in enumerate(blocks) if not block.startswith("Tree=")), len(blocks))
    trees = [_tree(block, number, dim) for number, block in enumerate(blocks[:end])]
    if blocks[end : end + 1] != ["end of trees"] or blocks[-1] != LAST_LINE:
        raise BrokenModelError("it is truncated, or altered after its trees")
    if not trees or len(trees) % classes:
        raise BrokenModelError(f"it has {len(trees)} trees for {classes} classes")
    sizes = _words(header["tree_sizes"])
    if sizes != [str(len(tree)) for tree in trees]:
        raise BrokenModelError("'tree_sizes' does not match the trees")
    lines = ["tree", *(f"{key}={value}" for key, value in header.items())]
    return "\n".join([*lines, "", "".join(trees) + TAIL, LAST_LINE, ""])


def _header(block: str, classes: int, dim: int) -> dict[str, str]:
    first, *lines = block.split("\n")
    values = _pairs(lines)
    if first != "tree" or values.get("version") not in ("v3", "v4"):
        raise BrokenModelError("it does not start like a LightGBM model of version v3 or v4")
    counts = {"num_class": classes, "num_tree_per_iteration": classes, "max_feature_idx": dim - 1}
    for key, value in counts.items():
        if values.get(key) != str(value):
            raise OtherModelError(f"'{key}' is not {value}")
    expected = {
        "version",
        *counts,
        *("label_index", "objective", "feature_names", "feature_infos", "tree_sizes"),
    }
    if set(values) != expected:
        wrong = sorted(set(values) ^ expected)[0]
        raise BrokenModelError(f"'{wrong[:40]}' is missing or unexpected")
    if values["objective"] != f"multiclass num_class:{classes}":
        raise BrokenModelError(f"'objective' is not multiclass with {classes} classes")
    if values["label_index"] != "0":
        raise BrokenModelError("'label_index' is not 0")
    for key, pattern in {"feature_names": NAME, "feature_infos": RANGE}.items():
        words = _words(values[key])
        if len(words) != dim or not all(pattern.fullmatch(word) for word in words):
            raise BrokenModelError(f"'{key}' does not describe {dim} inputs")
    return values


def _tree(block: str, number: int, dim: int) -> str:
    """Return the text of one tree, as LightGBM writes it."""
    first, *lines = block.split("\n")
    values = _pairs(lines)
    where = f"tree {number}: "
    if first != f"Tree={number}":
        raise BrokenModelError(f"{where}it is out of order")
    count = values.get("num_leaves", "")
    if not INTEGER.fullmatch(count):
        raise BrokenModelError(f"{where}num_leaves is not an integer")
    leaves = int(count)
    if not 1 <= leaves <= MOST_LEAVES:
        raise BrokenModelError(f"{where}it has {leaves} leaves")
    if values.get("num_cat") != "0" or values.get("is_linear", "0") != "0":
        raise BrokenModelError(f"{where}categories and linear leaves are not supported")
    if not {"shrinkage", *NEEDED} <= set(values) <= set(ORDER):
        raise BrokenModelError(f"{where}a line is missing or unexpected")
    _require_numbers([values["shrinkage"]], 1, REAL, where + "shrinkage")
    for keys, length in ((NODE_ARRAYS, leaves - 1), (LEAF_ARRAYS, leaves)):
        for key, pattern in keys.items():
            words = _words(values.get(key, ""))
            # a single leaf has neither weight nor, in older files, count
            if key in values and (words or leaves > 1 or key == "leaf_value"):
                _require_numbers(words, length, pattern, where + key)
    if leaves > 1:
        _require_tree(values, leaves, dim, where)
    lines = [f"{key}={values[key]}" for key in ORDER if key in values]
    return "\n".join([first, *lines, "", "", ""])


def _require_tree(values: Mapping[str, str], leaves: int, dim: int, where: str) -> None:
    """Require exactly one preceding parent for each node, and features that exist."""
    if not set(_words(values["decision_type"])) <= NUMERIC_DECISIONS:
        raise BrokenModelError(f"{where}'decision_type' is not numerical")
    if not all(0 <= int(word) < dim for word in _words(values["split_feature"])):
        raise BrokenModelError(f"{where}'split_feature' names an unknown feature")
    children = set()
    for key in ("left_child", "right_child"):
        for parent, child in enumerate(map(int, _words(values[key]))):
            # node i is i, leaf i is -1 - i
            if child in children or not (parent < child < leaves - 1 or -leaves <= child < 0):
                raise BrokenModelError(f"{where}'{key}' does not form a tree")
            children.add(child)


def _pairs(lines: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals or key in values:
            raise BrokenModelError(f"the line '{line[:40]}' is damaged, or appears twice")
        values[key] = value
    return values


def _words(value: str) -> list[str]:
    return value.split(" ") if value else []


def _require_numbers(
    words: Sequence[str], count: int, pattern: re.Pattern[str], where: str
) -> None:
    if len(words) != count:
        raise BrokenModelError(f"{where} has {len(words)} numbers, not {count}")
    bound = 2.0**31 if pattern is INTEGER else math.inf
    for word in words:
        fits = len(word) <= LONGEST_NUMBER and pattern.fullmatch(word)
        if not fits or (word != "inf" and abs(float(word)) >= bound):
            raise BrokenModelError(f"{where} contains something that is not a number in range")
