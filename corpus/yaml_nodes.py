"""The nodes of a YAML document between its events and its values, and the types of its scalars."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

TAG = "tag:yaml.org,2002:"


class Scalars(SafeConstructor, Resolver):
    """The types of plain scalars: YAML 1.1 without dates, and with `1e-5` as a number."""

    def __init__(self) -> None:
        SafeConstructor.__init__(self)
        Resolver.__init__(self)


Scalars.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != f"{TAG}timestamp"]
    for first, resolvers in Resolver.yaml_implicit_resolvers.items()
}
Scalars.add_implicit_resolver(
    f"{TAG}float",
    re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


@dataclass(frozen=True)
class Node:
    """A scalar, a list (`items`) or a mapping (`pairs`), with its line.

    `text` is a scalar as written. `size` and `height` are those of the tree, aliases expanded.
    """

    line: int
    value: Any = None
    text: str | None = None
    items: Sequence["Node"] | None = None
    pairs: Sequence["Pair"] | None = None
    size: int = 1
    height: int = 0


@dataclass(frozen=True)
class Pair:
    """A key of a mapping and its node."""

    key: str
    merge: bool  # whether it is `<<`, whose value's keys are taken over
    line: int
    node: Node


def extent(nodes: Iterable[Node]) -> tuple[int, int]:
    """Return the size and height of a node with these children."""
    size, height = 1, 0
    for node in nodes:
        size, height = size + node.size, max(height, node.height + 1)
    return size, height
