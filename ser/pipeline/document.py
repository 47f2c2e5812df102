"""A YAML file of sections: the line of every key, variables, overrides, errors that name both."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ser.cache.urls import without_secrets
from ser.corpus.bounded_yaml import DEEPEST, Entry, Where, parse_yaml, read_yaml, shorten
from ser.corpus.config import VARIABLE, check_path, correction
from ser.corpus.errors import UserError, nearest

Model = TypeVar("Model", bound=BaseModel)
# what only some stages use: a variable in it that is not set is an error where it is used
LATER = (("corpus", "audio"), ("corpus", "manifest"), ("cache",))
BASELINE = "baseline"  # a switch under `heads:`, or the name of the head that it adds
LONGEST_NAME = 150  # bytes; a file system takes 255, temporary names are longer
TRIED = re.compile(r"(constrained-)?(int|float|str|bool)|\w+\[.*\]")  # pydantic's for plain types


class Document:
    """A YAML file of sections, with the line of every key.

    With `expand`, `${NAME}` in a value becomes the environment variable's value; under `LATER` one
    that is not set stays as written. Raises `UserError` for what is not
    bounded plain data (see `ser.corpus.bounded_yaml`) and for other variables that are not set.
    """

    def __init__(self, source: str, text: str | bytes, *, expand: bool = True) -> None:
        self.source = source
        parsed = parse_yaml(source, text)
        self.lines = parsed.lines
        self.overrides: dict[Where, str] = {}  # the text of `--set`, by the place it sets
        if not isinstance(parsed.value, dict):
            raise UserError(f"{source}: it has no sections; it needs at least `corpus:`.")
        self.data: Entry = self._expand(parsed.value, ()) if expand else parsed.value

    def _expand(self, value: Any, where: Where) -> Any:
        if isinstance(value, dict):
            return {k: self._expand(v, (*where, k)) for k, v in value.items()}
        if isinstance(value, list):
            return [self._expand(v, (*where, i)) for i, v in enumerate(value)]
        if not isinstance(value, str):
            return value

        def lookup(match: re.Match[str]) -> str:
            if match[1] not in os.environ:
                if where in LATER:
                    return match[0]
                raise self.error(where, f"${{{match[1]}}} is not set; export {match[1]}=…")
            return os.environ[match[1]]

        return VARIABLE.sub(lookup, value)

    def override(self, text: str) -> None:
        """Apply one `section.key=value`; the value is read as YAML, without variables."""
        key, equals, value = text.partition("=")
        *parents, last = where = tuple(key.split("."))
        option = f"--set {shorten(without_secrets(text))}"
        if not equals or not all(where) or len(where) > DEEPEST:
            raise UserError(f"{option}: give it as section.key=value.")
        place = self.data
        for parent in parents:
            if place.get(parent) is None:
                place[parent] = {}
            place = place[parent]
            if not isinstance(place, dict):
                raise UserError(f"{option}: '{parent}' is a value and has no keys below it.")
        place[last] = parse_yaml(option, value, numbered=False).value
        self.lines = {at: n for at, n in self.lines.items() if at[: len(where)] != where}
        self.overrides[where] = option

    def mapping(self, where: tuple[str, ...]) -> Entry:
        """Return the mapping at a place, {} if it is empty; raises `UserError` for other values."""
        value: object = self.data
        for key in where:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None and not isinstance(value, dict):
            raise self.error(where, "it must be a mapping (`key: value` lines).")
        return dict(value or {})

    def names(self, section: str) -> list[str]:
        """Return the names in a section; they become folders, so few characters are allowed."""
        entries = self.mapping((section,))
        if isinstance(entries.get(BASELINE), bool):  # the switch of `heads:`, and no entry
            del entries[BASELINE]
        names = [name for name in entries if name != "defaults"]
        for name in names:
            if not re.fullmatch(r"\w[\w.-]*", name) or name == "stack":
                raise self.error(
                    (section, name), "use letters, digits, '-', '_' and '.' only, and not 'stack'."
                )
            if len(name.encode()) > LONGEST_NAME:
                raise self.error(
                    (section, name), f"a name has at most {LONGEST_NAME} bytes; shorten it."
                )
        return names

    def path(self, where: Where, value: object) -> str:
        """Return a path or URL as text; raises `UserError` for any other value."""
        try:
            return str(check_path(value))
        except ValueError as error:
            raise self.error(where, f"{error}.") from error

    @contextmanager
    def at(self, where: Where) -> Iterator[None]:
        """Raise the errors of the block as errors at a place of the file."""
        try:
            yield
        except UserError as error:
            raise self.error(where, str(error)) from error

    def error(self, where: Where, problem: str) -> UserError:
        """Return an error that names the line, or the option, and the key."""
        place, key = self._place(where), shorten(dotted(where), 200)
        return UserError(f"{place}: {key}: {shorten(problem, 1000)}")

    def _place(self, where: Where) -> str:
        for n in range(len(where), 0, -1):
            if where[:n] in self.overrides:
                return self.overrides[where[:n]]
            if where[:n] in self.lines:
                return f"{self.source}:{self.lines[where[:n]]}"
        # a section that only options have
        below = [text for at, text in self.overrides.items() if at[: len(where)] == where]
        return below[-1] if below else self.source

    def unknown(self, where: Where, valid: Iterable[str]) -> UserError:
        """Return an error for a key that is not one of the valid ones."""
        return self.error(where, f"unknown key; {nearest(str(where[-1]), valid)}")

    def validate(self, where: Where, model: type[BaseModel], make: Callable[[], Model]) -> Model:
        """Call `make`; raises `UserError` with pydantic's first problem with a `model`."""
        try:
            with self.at(where):
                return make()
        except ValidationError as error:
            first = error.errors()[0]
            inner, valid = locate(model, first["loc"])
            place = (*where, *inner)
            if first["type"] == "extra_forbidden":
                raise self.unknown(place, valid) from error
            raise self.error(place, correction(first)) from error


def locate(model: type[BaseModel], loc: Where) -> tuple[Where, list[str]]:
    """Return where in the file pydantic's `loc` is, and the valid keys beside its last one.

    Left out are the parts by which pydantic names the types that it tried, and `architecture`,
    whose keys are written beside the head's.
    """
    place: list[str | int] = []
    types: Sequence[object] = [model]
    valid: list[str] = []
    for i, part in enumerate(loc):
        models = [t for t in types if isinstance(t, type) and issubclass(t, BaseModel)]
        valid = list(dict.fromkeys(key for m in models for key in m.model_fields))
        if part in valid:
            fields = [m.model_fields[str(part)] for m in models if part in m.model_fields]
            types = [t for field in fields for t in _types(field.annotation)]
            if part != "architecture":
                place.append(part)
            continue
        members = [m for m in _with_subclasses(models) if part == m.__name__ or part in _tags(m)]
        if members and i < len(loc) - 1:  # of a union
            types = members
        elif isinstance(part, int) or not TRIED.fullmatch(str(part)):  # an item, or a user's name
            place.append(part)
    return tuple(place), valid


def _with_subclasses(models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    """List models and all that derive from them: options whose class is chosen by name."""
    return [c for m in models for c in (m, *_with_subclasses(m.__subclasses__()))]


def _types(annotation: object) -> list[object]:
    """List a type and the types it consists of."""
    return [annotation, *(t for part in get_args(annotation) for t in _types(part))]


def _tags(model: type[BaseModel]) -> list[object]:
    """List the values of a model's literals; a union may choose the model by one of them."""
    annotations = [field.annotation for field in model.model_fields.values()]
    return [v for a in annotations if get_origin(a) is Literal for v in get_args(a)]


def dotted(where: Where) -> str:
    """Return a place in the file as section.key[0]."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def read_mapping(path: Path) -> Entry:
    """Read a YAML file of keys and values; raises `UserError` for any other."""
    value = parse_yaml(str(path), read_yaml(path)).value
    if not isinstance(value, dict):
        raise UserError(f"{path}: it must be a mapping; write `key: value` lines.")
    return value
