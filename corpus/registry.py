"""Parts that are chosen by name (importers, extractors, heads, losses, …): one registry for all.

A name is looked up in this order, and nothing is imported before it is needed:

1. The built-in parts, a table of where they are.
2. What a decorator has registered: modules under `plugins:`, a notebook's cells.
3. Installed packages that name a module in the entry-point group `ser.plugins`:

       [project.entry-points."ser.plugins"]
       my-parts = "my_package.parts"

   All of them are imported at the first name that is neither of the above, and for a listing. One
   that cannot be imported causes a warning, and the error for an unknown name mentions it.
"""

import inspect
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, PydanticKnownError

from ser.corpus.errors import Note, UserError, listed, nearest

GROUP = "ser.plugins"  # of entry points
NAME = re.compile(r"\w[\w.-]{0,99}")

Part = TypeVar("Part")
About = TypeVar("About")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class BuiltIn(Generic[About]):
    """A part of this package: where it is, and what is known without importing it.

    `place` is `module:name`, or the `module` alone when a decorator in it registers the part.
    """

    place: str
    summary: str
    about: About

    @property
    def module(self) -> str:
        """Return the name of the module."""
        return self.place.partition(":")[0]


@dataclass(frozen=True)
class Entry:
    """One line of a listing; `module` is where the part is defined."""

    name: str
    summary: str
    module: str
    built_in: bool


class Registry(Generic[Part, About]):
    """The parts of one kind by name, each with what can be known without importing it (`about`).

    `noun` names the kind in messages, `where` the section of pipeline.yaml that chooses among them.

        >>> colours = Registry[str, int]("colour", "paint", {})
        >>> colours.add("red", "#f00", 1)
        >>> colours.get("red"), colours.about("red"), colours.names()
        ('#f00', 1, ['red'])
    """

    def __init__(self, noun: str, where: str, built_in: Mapping[str, BuiltIn[About]]) -> None:
        self.noun, self.where, self.built_in = noun, where, built_in
        self._parts: dict[str, tuple[Part, About]] = {}

    def add(self, name: str, part: Part, about: About) -> None:
        """Register a part; replacing one that another module has registered is a warning.

        Raises `UserError` for the name of a built-in part, an unusable name, and a class that lacks
        methods of its base class.
        """
        label = f"{self.noun} '{name}' ({origin(part)})"
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UserError(f"{label}: use letters, digits, '-', '_' and '.' in its name.")
        built_in = self.built_in.get(name)
        if built_in is not None and getattr(part, "__module__", None) != built_in.module:
            raise UserError(f"{label}: this name is built in; choose another one.")
        if inspect.isabstract(part):
            lacking = " and ".join(sorted(getattr(part, "__abstractmethods__", ())))
            raise UserError(f"{label}: the class does not define {lacking}; add it.")
        if name in self._parts and origin(self._parts[name][0]) != origin(part):
            before = origin(self._parts[name][0])
            text = f"{label} replaces that of {before}; rename one of them."
            warnings.warn(text, Note, stacklevel=3)
        self._parts[name] = part, about

    def remove(self, name: str) -> None:
        """Forget a part that was added, if there is one; for tests and notebooks."""
        self._parts.pop(name, None)

    def get(self, name: str) -> Part:
        """Return a part, importing its module; raises `UserError` with the nearest name."""
        if name not in self._parts and name in self.built_in:
            built_in = self.built_in[name]
            module, attribute = import_module(built_in.module), built_in.place.partition(":")[2]
            if attribute:
                self._parts[name] = getattr(module, attribute), built_in.about
        return self._find(name)[0]

    def about(self, name: str) -> About:
        """Return what is known of a part, without importing a built-in one; raises `UserError`."""
        if name in self.built_in:
            return self.built_in[name].about
        return self._find(name)[1]

    def require(self, name: str) -> str:
        """Return a name that is known; raises `UserError` with the nearest one for any other."""
        if name not in self.built_in:
            self._find(name)
        return name

    def validate(self, name: str) -> str:
        """Return a name that is known, as a validator of pydantic: raises `ValueError`."""
        try:
            return self.require(name)
        except UserError as error:
            raise ValueError(str(error).removesuffix(".")) from error

    def names(self) -> Sequence[str]:
        """Return the names of all parts that are known so far, sorted."""
        return sorted({*self.built_in, *self._added()})

    def list(self) -> Sequence[Entry]:
        """Describe all parts, those of installed packages too, the built-in ones first."""
        if not _built_in_only.get():
            load_installed()
        built_in = [Entry(n, b.summary, b.module, True) for n, b in sorted(self.built_in.items())]
        return built_in + [
            Entry(name, _summary(part), getattr(part, "__module__", ""), False)
            for name in self._added()
            for part in [self._parts[name][0]]
        ]

    def _added(self) -> Sequence[str]:
        """Return the names of parts that are not built in, sorted; none where those are unknown."""
        if _built_in_only.get():
            return []
        return sorted(name for name in self._parts if name not in self.built_in)

    def _find(self, name: str) -> tuple[Part, About]:
        if name not in self.built_in and _built_in_only.get():
            hint = nearest(name, sorted(self.built_in))
            raise UserError(f"the {self.noun} '{name}' is not built into ser; {hint}")
        if name not in self._parts:
            load_installed()
        if name not in self._parts:
            raise self._unknown(name)
        return self._parts[name]

    def _unknown(self, name: str) -> UserError:
        place = f"{self.where}: " if self.where else ""
        names = listed(f"'{plugin}'" for plugin in failures())
        broken = f" Perhaps it is in a plugin that cannot be imported: {names}." if names else ""
        hint = nearest(name, self.names())
        return UserError(f"{place}the {self.noun} '{name}' is unknown; {hint}{broken}")


_built_in_only = ContextVar("built_in_only", default=False)


@contextmanager
def built_in_only() -> Iterator[None]:
    """Make every other part unknown while the context lasts, so that no plugin's code runs."""
    token = _built_in_only.set(True)
    try:
        yield
    finally:
        _built_in_only.reset(token)


_failures: dict[str, str] | None = None  # of installed plugins; None before they are loaded


def load_installed() -> None:
    """Import the modules that installed packages name in the group `ser.plugins`, once a process.

    One that cannot be imported is a `Note` that names its package, and the others are used.
    """
    global _failures  # noqa: PLW0603  a process has one set of installed packages
    if _failures is not None:
        return
    from importlib.metadata import entry_points  # costs milliseconds that most commands save

    _failures = {}
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except (Exception, SystemExit) as error:
            package = point.dist.name if point.dist is not None else point.module
            _failures[point.name] = (
                f"the plugin '{point.name}' of the package '{package}' cannot be imported "
                f"({reason(error)}); update the package or uninstall it."
            )
            warnings.warn(_failures[point.name], Note, stacklevel=2)


def failures() -> Mapping[str, str]:
    """Return a sentence for each installed plugin that could not be imported, by its name."""
    return _failures or {}


def validate_as(options: type[Model], values: object) -> Model:
    """Validate the options of a part whose class depends on its name.

    The class's name becomes the first part of an error's place, as in a union of classes, so that
    whoever reports the error knows which keys are valid there.
    """
    try:
        return options.model_validate(values)
    except ValidationError as error:
        details = [
            InitErrorDetails(
                type=_type_of(e),
                loc=(options.__name__, *e["loc"]),
                input=e["input"],
                ctx=e.get("ctx", {}),
            )
            for e in error.errors()
        ]
        raise ValidationError.from_exception_data(options.__name__, details) from error


def _type_of(error: ErrorDetails) -> str | PydanticCustomError:
    """Return an error's type; one of our own, which pydantic does not know, with its message."""
    try:
        PydanticKnownError(error["type"], error.get("ctx"))  # type: ignore[arg-type]
    except KeyError:
        # typed as literals, which they need not be
        return PydanticCustomError(cast(Any, error["type"]), cast(Any, error["msg"]))
    return error["type"]


def require_options(noun: str, name: str, options: object, base: type) -> None:
    """Raise `UserError` when the options of a part are not a subclass of `base`."""
    if not (isinstance(options, type) and issubclass(options, base)):
        raise UserError(
            f"{noun} '{name}': its options ({origin(options)}) are not a subclass of "
            f"{base.__name__}; derive them from {base.__module__}.{base.__name__}."
        )


def require_call(
    noun: str, name: str, part: object, arguments: str, count: int, *names: str
) -> None:
    """Raise `UserError` when a part cannot be called with so many arguments and these by name."""
    label = f"{noun} '{name}' ({origin(part)})"
    if not callable(part):
        raise UserError(f"{label}: it cannot be called; register a function or a class.")
    try:
        inspect.signature(part).bind(*[None] * count, **dict.fromkeys(names))
    except TypeError as error:
        raise UserError(f"{label}: {error}; its arguments must be {arguments}.") from error
    except ValueError:  # a builtin without a signature
        return


def origin(part: object) -> str:
    """Return the module and name of a class or a function, for messages."""
    name = getattr(part, "__qualname__", None)
    return f"{part.__module__}.{name}" if name else f"of type {type(part).__name__}"


def reason(error: BaseException) -> str:
    """Return the type and the first line of what a user's code raised, for messages.

    A `UserError` is a sentence for the user already, so its type is left out.
    """
    line = (str(error).strip().splitlines() or [""])[0][:200].rstrip(".")
    if isinstance(error, UserError):
        return line
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _summary(part: object) -> str:
    return (inspect.getdoc(part) or "").partition("\n")[0]
