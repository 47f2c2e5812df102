"""The text of a pipeline.yaml: its lines, its variables, and mistakes in one sentence each."""

import os
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from corpus.errors import UserError

Model = TypeVar("Model", bound=BaseModel)
Where = tuple[str | int, ...]
TRIED = re.compile(r"(constrained-)?(int|float|str|bool)|\w+\[.*\]")  # pydantic's for plain types


class Document:
    """Hold a YAML file with the line of every key."""

    def __init__(self, source: str, text: str) -> None:
        self.source = source
        self.lines: dict[Where, int] = {}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            self._walk(node, ())
            self.data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or str(error)
            raise UserError(
                f"{source}{line}: not valid YAML ({problem}); mend the line, or quote the value."
            ) from error
        if not isinstance(self.data, dict):
            raise UserError(f"{source}: it holds no sections; it needs at least `corpus:`.")
        self.data = self._expand(self.data, ())

    def _walk(self, node: yaml.Node | None, where: Where) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*where, key.value)
                if here in self.lines:
                    line = key.start_mark.line + 1
                    raise UserError(
                        f"{self.source}:{line}: '{dotted(here)}' stands twice; keep one of them."
                    )
                self.lines[here] = key.start_mark.line + 1
                self._walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                self.lines[*where, i] = value.start_mark.line + 1
                self._walk(value, (*where, i))

    def _expand(self, value: Any, where: Where) -> Any:
        if isinstance(value, dict):
            return {k: self._expand(v, (*where, k)) for k, v in value.items()}
        if isinstance(value, list):
            return [self._expand(v, (*where, i)) for i, v in enumerate(value)]
        if not isinstance(value, str):
            return value

        def lookup(match: re.Match[str]) -> str:
            if match[1] not in os.environ:
                raise self.error(where, f"${{{match[1]}}} is not set; export {match[1]}=…")
            return os.environ[match[1]]

        return re.sub(r"\$\{(\w+)\}", lookup, value)

    def override(self, text: str) -> None:
        """Apply one `section.key=value`; the value is read as YAML."""
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UserError(f"--set {text}: it is not of the form section.key=value.")
        *parents, last = key.split(".")
        place = self.data
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"--set {text}: '{parent}' is a value and has no keys below it.")
        place[last] = yaml.safe_load(value)

    def mapping(self, where: Where) -> dict[str, Any]:
        """Return the mapping at a place, {} where there is nothing; raises `UserError`."""
        value: Any = self.data
        for key in where:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None and not isinstance(value, dict):
            raise self.error(where, "it must be a mapping (`key: value` lines).")
        return dict(value or {})

    def names(self, section: str) -> list[str]:
        """Return the names in a section; they become folder names, so they are plain."""
        names = [str(name) for name in self.mapping((section,)) if name != "defaults"]
        for name in names:
            if not re.fullmatch(r"\w[\w.-]*", name) or name == "stack":
                raise self.error(
                    (section, name), "use letters, digits, '-', '_' and '.' only, and not 'stack'."
                )
        return names

    def error(self, where: Where, problem: str) -> UserError:
        """Return an error that names the line and the key."""
        known = [where[:n] for n in range(len(where), 0, -1) if where[:n] in self.lines]
        line = f":{self.lines[known[0]]}" if known else ""
        return UserError(f"{self.source}{line}: {dotted(where)}: {problem}")

    def unknown(self, where: Where, valid: Iterable[str]) -> UserError:
        """Return an error for a key that is not one of the valid ones."""
        valid = list(valid)
        near = get_close_matches(str(where[-1]), valid, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"valid are {', '.join(valid)}."
        return self.error(where, f"unknown key; {hint}")

    def validate(self, where: Where, model: type[BaseModel], make: Callable[[], Model]) -> Model:
        """Call `make`, turning what pydantic finds wrong with a `model` into one sentence."""
        try:
            return make()
        except UserError as error:
            raise self.error(where, str(error)) from error
        except ValidationError as error:
            first = error.errors()[0]
            inner, valid = locate(model, first["loc"])
            place = (*where, *inner)
            if first["type"] == "extra_forbidden":
                raise self.unknown(place, valid) from error
            if first["type"] == "missing":
                raise self.error(place, "it is missing; give it a value.") from error
            message = first["msg"].removeprefix("Value error, ")
            # our own validators may have said the remedy already
            end = "" if message.endswith("?") else "; correct the value."
            raise self.error(place, f"{message}{end}") from error


def locate(model: type[BaseModel], loc: Where) -> tuple[Where, list[str]]:
    """Return where in the file pydantic's `loc` is, and the valid keys beside its last one.

    Left out are the parts that pydantic puts in to say which one of several types it tried, and
    `architecture`, whose keys stand beside the head's.
    """
    place: list[str | int] = []
    types: list[Any] = [model]
    valid: list[str] = []
    for i, part in enumerate(loc):
        models = [t for t in types if isinstance(t, type) and issubclass(t, BaseModel)]
        valid = list(dict.fromkeys(key for m in models for key in m.model_fields))
        tried = [m for m in models if part == m.__name__ or part in _tags(m)]
        if part in valid:
            inner = [m.model_fields[str(part)].annotation for m in models if part in m.model_fields]
            types = [t for annotation in inner for t in _types(annotation)]
            place += [] if part == "architecture" else [part]
        elif tried and i < len(loc) - 1:
            types = tried
        elif not TRIED.fullmatch(str(part)) or isinstance(part, int):
            place.append(part)
    return tuple(place), valid


def _types(annotation: Any) -> list[Any]:
    """List a type and all that it is made of."""
    return [annotation, *(t for part in get_args(annotation) for t in _types(part))]


def _tags(model: type[BaseModel]) -> list[Any]:
    """List the values of a model's literals, by one of which a union may choose it."""
    annotations = [field.annotation for field in model.model_fields.values()]
    return [v for a in annotations if get_origin(a) is Literal for v in get_args(a)]


def dotted(where: Where) -> str:
    """Return a place in the file as section.key[0]."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file of keys and values; raises `UserError` for any other."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; write it, or correct the name.")
    return dict(Document(str(path), path.read_text(encoding="utf-8")).data)
