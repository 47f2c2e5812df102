"""The options of an importer from the command line: text, converted by its type annotations."""

import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from ser.corpus.bounded_yaml import parse_yaml
from ser.corpus.cells import UNKNOWN
from ser.corpus.config import problem_of
from ser.corpus.errors import CONTROL, UserError, shown
from ser.corpus.rows import BLANKS


def typed_options(function: Callable[..., object], values: Mapping[str, str]) -> dict[str, object]:
    """Convert option values from the command line to the types of a function's parameters.

    A parameter annotated as text gets the text unchanged; for a mapping or a list the text is
    parsed as YAML whose keys and values stay text (04 is not 4); any other type is converted.
    Values of unknown names are returned unchanged. Raises `UserError` for a value of the wrong
    type.
    """
    parameters = inspect.signature(function).parameters
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # names that exist for type checkers only
        hints = {}
    typed: dict[str, object] = dict(values)
    for name, text in values.items():
        if name in parameters:
            default = parameters[name].default
            fallback = str if default in (None, inspect.Parameter.empty) else type(default)
            typed[name] = _typed(name, text, hints.get(name, fallback))
    return typed


def class_mapping(option: str, value: object) -> dict[str, str | None]:
    """Check a mapping of cells to names; a name that means unknown becomes None.

    Raises `UserError` for anything else, and for a name that is empty or a number.
    """
    if not isinstance(value, Mapping) or not value:
        raise UserError(
            f"option {option} is '{value}', not a mapping of cells to names; write it as "
            f"{option}={{A: angry, S: sad}}."
        )
    mapping: dict[str, str | None] = {}
    for key, name in value.items():
        cell = str(key).strip(BLANKS)
        if not isinstance(name, str) or not name.strip(BLANKS) or name.strip().isdigit():
            raise UserError(
                f"option {option} maps '{shown(cell)}' to '{name}', which is not a name; write "
                f"cell: name, with a space after the colon, as in {option}={{A: angry, S: sad}}."
            )
        if CONTROL.search(name):
            raise UserError(
                f"option {option} maps '{shown(cell)}' to '{shown(name)}', which has a line break "
                "or a control character; remove it."
            )
        label = name.strip(BLANKS)
        mapping[cell] = None if label.lower() in UNKNOWN else label
    return mapping


def _typed(option: str, text: str, annotation: Any) -> object:
    kinds = _kinds(annotation)
    classes = [kind for kind in kinds if isinstance(kind, type)]
    structured = any(issubclass(c, Collection) and not issubclass(c, str | bytes) for c in classes)
    plain = str in kinds or Any in kinds
    if plain and not (structured and text.lstrip()[:1] in ("{", "[")):
        return text
    try:
        if structured:
            if not text.strip():
                raise UserError(f"option {option} is empty; write it as {{A: angry, S: sad}}.")
            values = parse_yaml(f"option {option}", text, numbered=False, text_only=True).value
            return TypeAdapter(annotation).validate_python(values)
        return TypeAdapter(annotation).validate_strings(text.strip())
    except PydanticUserError:  # a class that pydantic does not know
        return text
    except ValidationError as error:
        first = error.errors()[0]
        problem, _ = problem_of(first)
        where = "".join(f" at {part}" for part in first["loc"] if str(part) in text)
        example = "; write it as {A: angry, S: sad}" if dict in kinds or Mapping in kinds else ""
        raise UserError(f"option {option} is '{text}'{where}: {problem}{example}.") from error


def _kinds(annotation: object) -> list[object]:
    """List the classes of an annotation; of a union, those of all its members."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [kind for part in typing.get_args(annotation) for kind in _kinds(part)]
    return [typing.get_origin(annotation) or annotation]
