"""How help is laid out: plain text of 80 columns, commands in the order of work, with examples.

Typer's own panels are boxes drawn around everything; they break `ser --help | grep`, and rich makes
the help three times slower. `rich_help_panel` keeps its meaning: the section that a command or an
option is listed under.

`command` is how every command declares itself: its parameters have their types in the signature
and their help in the docstring, as those of any function.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from ser.commands.extras import missing
from ser.commands.logs import COMMON, logging_options, start_logging
from ser.corpus.errors import UserError

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

SECTIONS = ("Start", "Corpus", "Extract", "Heads", "Stack", "Score", "Predict", "Tools")
RESUMES = "finished work is kept, and the same command resumes"
ENTRY = re.compile(r"^    (\w+)(?: \((.+?)\))?: (.+(?:\n {8}.+)*)", re.M)  # of `Args:`
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Command(TyperCommand):
    """A command whose epilog is its examples, one a line; it takes the options of logging too."""

    def __init__(self, *args: Any, params: Any = None, **settings: Any) -> None:
        super().__init__(*args, params=[*(params or ()), *logging_options()], **settings)

    def invoke(self, ctx: "Context") -> object:
        """Start logging, then run the command; raises `UserError` for what is not installed."""
        start_logging(ctx.meta, ctx.command_path)
        try:
            self._require_device(ctx.params)
            return super().invoke(ctx)
        except (ImportError, OSError) as error:
            problem = missing(error, ctx.command_path.partition(" ")[2], ctx.params)
            if problem is None:
                raise
            raise problem from error

    def _require_device(self, options: Mapping[str, object]) -> None:
        """Raise `UserError` for a GPU that this machine lacks; a cluster has its own."""
        device = options.get("device")
        if device not in (None, "auto", "cpu") and options.get("engine") not in ("ray", "slurm"):
            from ser.extract.devices import require_device

            require_device(str(device))

    def collect_usage_pieces(self, ctx: "Context") -> list[str]:
        """Return the words of the usage line; an argument is its name, without Typer's braces."""
        pieces = super().collect_usage_pieces(ctx)
        return [re.sub(r"^\{(.+)\}", r"\1", piece) for piece in pieces]

    def format_options(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        """Write the arguments, the command's own options, then those of many commands."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], COMMON: []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            names, text = record
            if param.param_type_name == "argument":
                sections["Arguments"].append((param.metavar or names.split()[0], text))
            elif names.endswith("--help"):
                sections[COMMON].append(record)
            else:
                panel = getattr(param, "rich_help_panel", None) or "Options"
                sections[panel].append((names, text))
        _write_sections(formatter, sections)

    def format_epilog(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        """Write the examples as they are, so that they can be copied."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"  {line}\n")


@contextmanager
def resumable() -> Iterator[None]:
    """Add to what ends a block that the same command resumes; of Ctrl-C make a `typer.Abort`."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise typer.Abort(RESUMES) from error
    except UserError:
        raise
    except Exception as error:
        error.add_note(RESUMES)
        raise


class Resuming(Command):
    """A command that keeps finished work when it is interrupted, unless an option is against it."""

    def invoke(self, ctx: "Context") -> object:
        """Run the command; raises `typer.Abort` when it is interrupted."""
        starts_over = ctx.params.get("force") or ctx.params.get("smoke")
        with nullcontext() if starts_over else resumable():
            return super().invoke(ctx)


class Group(TyperGroup):
    """A group that lists its commands by section; without a command it prints its help.

    It takes the options of logging as its commands do, so that their place does not matter.
    """

    def __init__(self, *args: Any, params: Any = None, **settings: Any) -> None:
        super().__init__(*args, params=[*(params or ()), *logging_options()], **settings)

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        """Parse the group's own options; print the help and exit with 2 when nothing follows."""
        if not (args or self.invoke_without_command or ctx.resilient_parsing):
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(2)
        for param in self.get_params(ctx):
            if isinstance(param, TyperOption) and param.is_flag and param.default is None:
                param.default = False  # --help and such; Typer loads pydantic to read None
        return super().parse_args(ctx, args)

    def invoke(self, ctx: "Context") -> object:
        """Start logging for the group's own action, which `ser presets` has."""
        if not ctx._protected_args:
            start_logging(ctx.meta, ctx.command_path)
        return super().invoke(ctx)

    def format_commands(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        """Write a section for each stage, in the order of work."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in SECTIONS}
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None) or "Commands"
            summary = (command.help or "").partition("\n\n")[0].replace("\n", " ")
            sections.setdefault(panel, []).append((name, summary))
        _write_sections(formatter, sections, max(len(name) for name in self.commands))


def _write_sections(
    formatter: "HelpFormatter", sections: Mapping[str, list[tuple[str, str]]], width: int = 0
) -> None:
    for section, rows in sections.items():
        if rows:
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])


def command(
    group: typer.Typer,
    examples: str,
    *,
    section: str | None = None,
    name: str | None = None,
    cls: type[Command] = Command,
) -> Callable[[Decorated], Decorated]:
    """Register a function as a command of a group, with its examples, one a line."""

    def register(function: Decorated) -> Decorated:
        settings: dict[str, Any] = {"epilog": examples, "rich_help_panel": section}
        return group.command(name, cls=cls, help=describe(function), **settings)(function)

    return register


def describe(function: Callable[..., Any]) -> str:
    """Give the parameters of a command their help of `Args:`; return the help of the command.

    Raises `KeyError` for an entry of another name.
    """
    text, _, entries = (inspect.getdoc(function) or "").partition("\n\nArgs:\n")
    for name, words, help_text in ENTRY.findall(entries):
        _describe_parameter(function, name, words.split(), " ".join(help_text.split()))
    return text


def _describe_parameter(
    function: Callable[..., Any], name: str, words: list[str], text: str
) -> None:
    """Make a parameter an argument or, behind `*`, an option, as an entry of `Args:` describes it.

    The entry is `name (--flag METAVAR): text`; the flag is left out where it is that of the name,
    and so is the METAVAR of an argument. Bounds and the like are those of its annotation.
    """
    hint, parameter = function.__annotations__[name], inspect.signature(function).parameters[name]
    is_option = parameter.kind is parameter.KEYWORD_ONLY
    base, *infos = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    info = copy(infos[0]) if infos else typer.Option() if is_option else typer.Argument()
    flags = [word.rstrip(",") for word in words if word.startswith("-")]
    if parameter.default is False:  # without it, there would be a --no-name
        flags = flags or [f"--{name.replace('_', '-')}"]
    metavar = " ".join(word for word in words if not word.startswith("-"))
    info.param_decls, info.help = flags, text
    info.metavar = metavar or (None if is_option else name.upper())
    function.__annotations__[name] = Annotated[base, info]


def option(metavar: str, text: str, *names: str, **settings: Any) -> object:
    """Return an option that several commands share; `settings` are those of Typer."""
    return typer.Option(*names, metavar=metavar, help=text, **settings)


def usage_message(error: typer.TyperException) -> str:
    """Return what is wrong with a call as one sentence, with the nearest name or where to look."""
    text = " ".join(error.format_message().split()).rstrip(".")
    text = text[:1].lower() + text[1:]
    text = text.replace(": Value error, ", ": ").replace(": Input should be", ": it must be")
    text = text.partition(", unable to parse")[0]  # the words of pydantic, which Typer validates by
    ctx = getattr(error, "ctx", None)
    options = {name for param in ctx.command.params for name in param.opts} if ctx else set()
    if getattr(error, "option_name", None) == "--json" and "--format" in options:
        return "no such option: --json; did you mean --format json?"
    if ctx and "unexpected extra argument" in text and "--pipeline" in options:
        remedy = "this command reads a pipeline: --pipeline"
        for word in text.rpartition("(")[2].rstrip(")").split():
            file = Path(word) / "pipeline.yaml"
            if file.is_file():
                return f"{text}; {remedy} {file}."
    if possible := getattr(error, "possibilities", None):
        text = f"{error.message[:1].lower()}{error.message[1:]}; did you mean "
        return f"{text}{' or '.join(sorted(possible))}?"
    if text.endswith("?"):
        return text.replace(". Did you mean", "; did you mean")
    return f"{text}; see `{ctx.command_path} --help`." if ctx else f"{text}."
