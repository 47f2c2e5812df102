"""YAML of unknown origin, read in bounded time and memory.

A file's size, its depth and the number of its values (aliases expanded) are limited before any
value is built, so that neither deep nesting nor aliases of aliases cost more than a message. Only
plain data comes out: mappings with text keys, lists, text, numbers, booleans and null. Keys are
text as written (`04` and `no` stay what they are), dates are text, `1e-5` is a number. On request
every value stays text too (for the options of importers: the code 04 is not the number 4).
"""

import re
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.constructor import SafeConstructor
from yaml.reader import Reader
from yaml.resolver import Resolver

from ser.corpus.errors import UserError

Entry = dict[str, Any]  # a mapping of plain data
Where = tuple[str | int, ...]
TAG = "tag:yaml.org,2002:"
LARGEST = 256 * 1024  # bytes of a file
DEEPEST = 30  # levels of nesting
MOST = 20_000  # values of a file, aliases expanded
LONGEST_KEY = 200  # characters
LONGEST_NUMBER = 100  # characters
SHOWN = 60  # characters of a value in a message
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where it was built
MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
NUMBER = re.compile(r"[-+]?(0[xX][0-9a-fA-F_]+|\.?[0-9][0-9_.:]*)")


@dataclass(frozen=True)
class Yaml:
    """A document: its value, and the line of every key and list item."""

    value: Any
    lines: dict[Where, int]


@dataclass
class _Node:
    """A part of a document: its value, its line, and the lines of what is below it.

    `text` is a scalar as written. `size` and `height` are those of the tree, aliases expanded.
    """

    line: int
    value: Any
    text: str | None = None
    lines: dict[Where, int] = field(default_factory=dict)
    size: int = 1
    height: int = 0

    def add(self, place: str | int, node: "_Node", line: int) -> None:
        """Count the node whose value is at a key or index, and take its lines over."""
        self.size, self.height = self.size + node.size, max(self.height, node.height + 1)
        self.lines[place,] = line
        self.lines |= {(place, *where): below for where, below in node.lines.items()}


class _Scalars(SafeConstructor, Resolver):
    """The types of plain scalars: YAML 1.1 without dates, and with `1e-5` as a number."""

    def __init__(self) -> None:
        SafeConstructor.__init__(self)
        Resolver.__init__(self)


_Scalars.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != f"{TAG}timestamp"]
    for first, resolvers in Resolver.yaml_implicit_resolvers.items()
}
_Scalars.add_implicit_resolver(
    f"{TAG}float",
    re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path, missing: str = "write it, or correct the name") -> bytes:
    """Return the bytes of a YAML file; `missing` is the remedy where there is no such file.

    No more is read than `parse_yaml` needs to refuse a file for its size. Raises `UserError`.
    """
    try:
        if not path.is_file():
            problem = "it is not a file" if path.exists() else "there is no such file"
            raise UserError(f"{shorten(path, 300)}: {problem}; {missing}.")
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{shorten(path, 300)}: it cannot be read ({reason}); check its name and permissions."
        ) from error


def parse_yaml(
    source: str, text: str | bytes, *, numbered: bool = True, text_only: bool = False
) -> Yaml:
    """Parse one YAML document; `source` is how messages name it.

    Messages give the line unless `numbered` is False. With `text_only` every scalar stays text as
    written, and `<<` is a key like any other. Raises `UserError`, always one sentence, for
    whatever is not plain data of bounded size.
    """
    return _Parser(source, text, numbered, text_only).parse()


def shorten(value: object, longest: int = SHOWN) -> str:
    """Return a value as one line of a message, cut where it is long."""
    line = " ".join(str(value).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


class _Parser:
    """A parser of one document: events to nodes, which are counted, to values."""

    def __init__(self, source: str, text: str | bytes, numbered: bool, text_only: bool) -> None:
        self._source = source
        self._numbered = numbered
        self._text_only = text_only
        self._text = self._decoded(text)
        self._scalars: Any = _Scalars()  # PyYAML's methods have no types
        self._anchors: dict[str, _Node | None] = {}  # None while it is still open
        self._read = 0  # values so far, aliases expanded

    def parse(self) -> Yaml:
        try:
            root = self._root()
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or str(error)
            self._refuse(
                mark.line + 1 if mark else 0,
                f"not valid YAML ({shorten(problem, 200)})",
                "correct the line, or quote the value",
            )
        except (ValueError, OverflowError) as error:  # "\U99999999", %YAML 1.<5,000 digits>
            self._refuse(0, f"not valid YAML ({shorten(error, 200)})")
        return Yaml(None, {}) if root is None else Yaml(root.value, root.lines)

    def _decoded(self, text: str | bytes) -> str:
        if len(text) > LARGEST:
            self._refuse(0, f"it is larger than {LARGEST // 1024} KiB", "shorten it")
        if isinstance(text, bytes):
            for mark, name in MARKS.items():
                if text.startswith(mark):
                    self._refuse(0, f"it is {name} text", "save it as UTF-8")
            try:
                text = text.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                line = error.object.count(b"\n", 0, error.start) + 1
                self._refuse(line, "it is not UTF-8 text", "save it as UTF-8")
        if (match := Reader.NON_PRINTABLE.search(text)) is not None:
            line = text.count("\n", 0, match.start()) + 1
            self._refuse(line, f"it contains the character U+{ord(match[0]):04X}", "remove it")
        return text

    def _root(self) -> _Node | None:
        self._events: Iterator[Any] = yaml.parse(self._text, Loader=LOADER)
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        root = self._node(next(self._events), 0)
        next(self._events)  # the document's end
        end: Any = next(self._events)
        if not isinstance(end, yaml.StreamEndEvent):
            self._refuse(end.start_mark.line + 1, "a second document begins (`---`)", "keep one")
        return root

    def _node(self, event: Any, depth: int) -> _Node:
        """Build the node that begins with an event, within the bounds on size and depth."""
        line: int = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            node = self._alias(str(event.anchor), line)
            self._bound(node.size, depth + node.height, line)
            return node
        self._bound(1, depth, line)
        if event.anchor is not None:
            if event.anchor in self._anchors:
                self._refuse(line, f"the anchor &{shorten(event.anchor)} is given twice")
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, line, depth)
        else:
            node = self._mapping(event, line, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _bound(self, nodes: int, depth: int, line: int) -> None:
        self._read += nodes
        if depth > DEEPEST:
            self._refuse(line, f"it is nested deeper than {DEEPEST} levels", "flatten it")
        if self._read > MOST:
            self._refuse(line, f"it has more than {MOST:,} values, aliases expanded", "shorten it")

    def _alias(self, anchor: str, line: int) -> _Node:
        node = self._anchors.get(anchor)
        if node is None:
            problem = "contains itself" if anchor in self._anchors else "has no anchor before it"
            self._refuse(line, f"the alias *{shorten(anchor)} {problem}")
        return replace(node, value=deepcopy(node.value))  # no two places share one

    def _sequence(self, event: Any, line: int, depth: int) -> _Node:
        self._require_tag(event.tag, ("seq",), line)
        whole = _Node(line, [])
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item = self._node(event, depth + 1)
            whole.add(len(whole.value), item, item.line)
            whole.value.append(item.value)
        return whole

    def _mapping(self, event: Any, line: int, depth: int) -> _Node:
        self._require_tag(event.tag, ("map",), line)
        own, merged, keys = _Node(line, {}), _Node(line, {}), set[str]()
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            plain = isinstance(event, yaml.ScalarEvent) and event.implicit[0]
            key = self._node(event, depth + 1)
            if key.text is None:
                self._refuse(key.line, "a key is a list or a mapping", "write it as one word")
            if len(key.text) > LONGEST_KEY:
                self._refuse(key.line, f"a key has {len(key.text):,} characters", "shorten it")
            if key.text in keys:
                self._refuse(key.line, f"'{shorten(key.text)}' appears twice", "keep one of them")
            keys.add(key.text)
            node = self._node(next(self._events), depth + 1)
            if plain and key.text == "<<" and not self._text_only:
                merged = self._merged(node, key.line)
            else:
                own.add(key.text, node, key.line)
                own.value[key.text] = node.value
        return replace(
            own,
            value=merged.value | own.value,
            lines=merged.lines | own.lines,
            size=merged.size - 1 + own.size,
            height=max(merged.height, own.height),
        )

    def _merged(self, node: _Node, line: int) -> _Node:
        """Return the keys that `<<` takes over; of several mappings the first one wins."""
        several = isinstance(node.value, list)
        sources = node.value if several else [node.value]
        if not all(isinstance(source, dict) for source in sources):
            self._refuse(line, "`<<` takes a mapping, or a list of them")
        merged = _Node(line, {}, size=1 + node.size, height=node.height + 1)
        for source in reversed(sources):
            merged.value |= source
        for where, below in node.lines.items():
            if place := where[several:]:
                merged.lines.setdefault(place, below)
        return merged

    def _scalar(self, event: Any, line: int) -> _Node:
        text, tag = event.value, event.tag
        if (match := CONTROL.search(text)) is not None:
            self._refuse(line, f"a value contains the control character U+{ord(match[0]):04X}")
        if self._text_only:
            self._require_tag(tag, ("str",), line)
            return _Node(line, text, text)
        if tag in (None, "!"):
            if event.implicit[0] and len(text) > LONGEST_NUMBER and NUMBER.fullmatch(text):
                self._refuse(line, f"a number has {len(text):,} characters", "shorten it")
            tag = self._scalars.resolve(yaml.ScalarNode, text, event.implicit)
        if tag == f"{TAG}merge":
            return _Node(line, text, text)
        self._require_tag(tag, ("str", "int", "float", "bool", "null"), line)
        if tag != f"{TAG}str" and len(text) > LONGEST_NUMBER:  # a long text tagged `!!int`
            self._refuse(line, f"a number has {len(text):,} characters", "shorten it")
        try:
            value = self._scalars.construct_object(yaml.ScalarNode(tag, text))
        except (ValueError, KeyError, IndexError, OverflowError):
            kind = tag.removeprefix(TAG)
            self._refuse(line, f"'{shorten(text)}' is not of the type {kind}", "quote it")
        return _Node(line, value, text)

    def _require_tag(self, tag: str | None, allowed: Iterable[str], line: int) -> None:
        if tag not in (None, "!", *(TAG + name for name in allowed)):
            shown = shorten(str(tag).replace(TAG, "!!"))
            self._refuse(line, f"the tag {shown} is not allowed here", "remove it")

    def _refuse(self, line: int, problem: str, remedy: str = "correct it") -> NoReturn:
        place = f":{line}" if line and self._numbered else ""
        raise UserError(f"{self._source}{place}: {problem}; {remedy}.")
