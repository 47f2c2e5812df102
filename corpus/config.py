"""The `corpus` section of pipeline.yaml, and the base of every other section."""

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from ser.corpus.cells import UNKNOWN
from ser.corpus.errors import CONTROL, UserError, nearest, shown

# The class order of the published systems (METHODS of the UNICAMP entry): neutral is last.
MSP_CLASSES = ("angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral")
VARIABLE = re.compile(r"\$\{(\w+)\}")  # of the environment
LONGEST_NAME, LONGEST_PATH = 255, 4096  # bytes of a file's name, and of a path: Linux's limits


def check_path(value: object) -> object:
    """Return a path, or a URL, as it is; raises `ValueError` for what can be none."""
    if not isinstance(value, str | Path):
        raise ValueError("it must be a path; give it as text")
    text = str(value)
    if not text.strip():
        raise ValueError("the path is empty; give one")
    parts = [os.fsencode(part) for part in text.split("/")]
    if "\0" in text or len(b"/".join(parts)) > LONGEST_PATH or max(map(len, parts)) > LONGEST_NAME:
        raise ValueError("no file system takes this path; shorten it")
    return value


def stays_within(path: str) -> bool:
    """Return whether a path that a corpus names can be one below a folder."""
    parts = PurePosixPath(path)
    try:
        check_path(path)
    except ValueError:
        return False
    return bool(parts.parts) and not parts.is_absolute() and ".." not in parts.parts


def require_set(path: str | Path, key: str = "corpus.audio") -> None:
    """Raise `UserError` for the path under `key` of pipeline.yaml when its variable is not set."""
    if match := VARIABLE.search(str(path)):
        raise UserError(f"{key}: {match[0]} is not set; export {match[1]}=…")


FilePath = Annotated[Path, BeforeValidator(check_path)]
NOT_EMPTY = r"\S"  # a pattern
MOST_CLASSES = 127  # a class of a row is kept as int8


def _require_one_line(name: str) -> str:
    if CONTROL.search(name):
        raise ValueError(f"'{shown(name)}' has a line break or a control character; remove it")
    return name


Name = Annotated[  # of a feature, a class, a column
    str, Field(max_length=255, pattern=NOT_EMPTY), AfterValidator(_require_one_line)
]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Width = Annotated[int, Field(ge=1, le=65_536)]  # of a layer
Rate = Annotated[float, Field(gt=0, le=1000)]  # of learning


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change after loading.

    Numbers are finite and no booleans; text has at most 4096 characters unless a field allows more.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=LONGEST_PATH
    )

    @model_validator(mode="before")
    @classmethod
    def _no_booleans(cls, data: object) -> object:
        """Refuse true and false where a number belongs, for pydantic takes them for 1 and 0."""
        if not isinstance(data, Mapping):
            return data
        error = PydanticCustomError("number", "it must be a number, not true or false")
        wrong = [
            InitErrorDetails(type=error, loc=(name,), input=data[name])
            for name in _numeric_fields(cls)
            if name in data and _holds_boolean(data[name])
        ]
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return data


PROBLEMS = {  # by pydantic's type of error: the problem and the remedy
    "missing": ("the value is missing", "give one"),
    "int_parsing_size": ("the number is too large", "give a smaller one"),
    "extra_forbidden": ("there is no such key", "remove it"),
    "string_type": ("it must be text", "write one text, in quotes"),
    **dict.fromkeys(
        ("bool_type", "bool_parsing"), ("it must be true or false", "write one of them")
    ),
    **dict.fromkeys(("empty", "string_too_short"), ("it is empty", "give a text")),
    **dict.fromkeys(
        ("dict_type", "model_type", "model_attributes_type"),
        ("it must be a mapping", "write {key: value}"),
    ),
}


def problem_of(error: ErrorDetails) -> tuple[str, str]:
    """Return what pydantic found wrong with a value, in words of a file's author, and the remedy.

    The remedy is "" where the problem is a validator's own sentence.
    """
    kind, value = error["type"], error["input"]
    if kind == "value_error":
        return error["msg"].removeprefix("Value error, "), ""
    if kind in ("tuple_type", "list_type"):
        example = f"[{value}]" if isinstance(value, str | int | float) else "[…]"
        return "it must be a list", f"write {example}"
    bounds = error.get("ctx", {})
    if kind == "too_short":
        return f"it must have at least {_entries(bounds['min_length'])}", "add what is missing"
    if kind == "too_long":
        return f"it must have at most {_entries(bounds['max_length'])}", "remove the others"
    empty = bounds.get("pattern") == NOT_EMPTY
    words = re.sub("^(Input|String|Value) should", "it must", error["msg"])
    other = words.partition(", unable to ")[0], "correct the value"  # what follows repeats it
    return PROBLEMS.get("empty" if empty else kind, other)


def correction(error: ErrorDetails) -> str:
    """Return what is wrong with a value and the remedy, as the end of a sentence."""
    problem, remedy = problem_of(error)
    if remedy:
        return f"{problem}; {remedy}."
    if problem.endswith((".", "?")):
        return problem
    return f"{problem}." if "; " in problem else f"{problem}; correct the value."


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def describe(error: ValidationError) -> str:
    """Return the first field that is not valid, and why."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])[:100]
    message, _ = problem_of(first)
    message = message[:1].lower() + message[1:]
    return re.sub(r"\s+", " ", f"'{field}' is not valid: {message}" if field else message)[:300]


Others = Literal["error", "drop", "keep-unlabelled"]


class CorpusConfig(Section):
    """The `corpus` section: the manifest, the audio folder and the emotion classes.

    `map` renames emotions of the manifest, as `{excited: happy}`; `others` is what becomes of an
    utterance whose emotion is not one of the classes: `error`, `drop` (left out of the run) or
    `keep-unlabelled` (without a class).
    """

    manifest: FilePath
    # where the manifest says, else the manifest's own folder; a variable that is not set stays as
    # written, because only extraction and fine-tuning need the audio
    audio: FilePath | None = None
    classes: tuple[Name, ...] = Field(default=MSP_CLASSES, min_length=2, max_length=MOST_CLASSES)
    map: dict[Name, Name] = Field(default_factory=dict, max_length=1000)
    others: Others = "error"

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) != len(classes):
            raise ValueError("a class is named twice; name each once")
        return classes

    @model_validator(mode="after")
    def _mapped_to_classes(self) -> "CorpusConfig":
        for emotion, name in self.map.items():
            if name not in self.classes:
                end = nearest(name, self.classes)
                raise ValueError(f"map: '{emotion}' becomes '{name}', which is not a class; {end}")
        if self.map or self.others != "error":
            for name in (*self.classes, *self.map):
                if name.lower() in UNKNOWN:
                    raise ValueError(
                        f"'{name}' is spelt like an empty cell, so it is neither mapped nor a "
                        "class beside `map` and `others`; rename it in the manifest"
                    )
        return self


@cache
def _numeric_fields(section: type[Section]) -> list[str]:
    """List the fields that are numbers and may not be true or false."""
    return [
        name
        for name, field in section.model_fields.items()
        if (kinds := _kinds(field.annotation)) & {int, float} and not kinds & {bool, Any, BaseModel}
    ]


def _kinds(annotation: object) -> frozenset[object]:
    """Return the types that an annotation is made of; any section is `BaseModel`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return frozenset({BaseModel})
    return frozenset({annotation}).union(*(_kinds(part) for part in get_args(annotation)))


def _holds_boolean(value: object) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(_holds_boolean(item) for item in value)
    return isinstance(value, bool)
