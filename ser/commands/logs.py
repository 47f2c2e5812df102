"""Where the lines of a command go.

    details    logging.DEBUG     standard error, with --verbose
    progress   logging.INFO      standard output; not with --quiet
    notes      NOTE              standard error, as `ser: …`; not with --quiet
    results    RESULT            standard output
    warnings   logging.WARNING   standard error, as `ser: …`; errors likewise

With `--log-file` all of them are also appended to a file, with the time and the logger's name.
What a command was asked to list (a table, JSON) is printed and not logged.
"""

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from typer._click import Context, Parameter

COMMON = "Common options"  # the help's section
RESULT = (logging.INFO + logging.WARNING) // 2
NOTE = logging.INFO + 1
logging.addLevelName(RESULT, "RESULT")
logging.addLevelName(NOTE, "NOTE")
log = logging.getLogger("ser")


def _keep(ctx: typer.Context, param: typer.CallbackParam, value: object) -> object:
    """Keep a given value where all commands of the call find it."""
    if value:
        ctx.meta[param.name] = value
    return value


def _keep_text(ctx: "Context", value: object) -> object:
    """Keep --log-file as it is; Typer would load pydantic to read it, for every --help."""
    if value:
        ctx.meta["log_file"] = value
    return value


@cache
def logging_options() -> "list[Parameter]":
    """Return the three options as Typer makes them of a signature."""
    option = partial(typer.Option, callback=_keep, expose_value=False, rich_help_panel=COMMON)
    details = "Also print details of each step, to standard error."
    results = "Print results, warnings and errors only, no progress and no notes."
    lines = "Append every line of --verbose, with its time, to this file; none by default."
    template = typer.Typer(add_completion=False)

    @template.command()
    def options(
        verbose: Annotated[bool, option("--verbose", "-v", help=details)] = False,
        quiet: Annotated[bool, option("--quiet", "-q", help=results)] = False,
        log_file: Annotated[str | None, option(help=lines, metavar="FILE")] = None,
    ) -> None:
        pass

    params = typer.main.get_command(template).params
    params[-1].process_value = _keep_text  # type: ignore[method-assign]
    return params


class Terminal(logging.Handler):
    """A handler that prints records where the module's table says."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record; a closed pipe is an error of the command, as with `print`."""
        from ser.corpus.errors import plain_lines

        text = plain_lines(self.format(record))
        if record.levelno >= logging.WARNING or record.levelno == NOTE:
            typer.echo(f"ser: {text}", err=True)
        elif record.levelno >= logging.INFO:
            typer.echo(text)
        else:
            typer.echo(f"{record.name}: {text}", err=True)


class LogFileHandler(logging.FileHandler):
    """A handler that writes to the file of `--log-file` until the first error, named once."""

    failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless one before it could not be written."""
        if not self.failed:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Warn of a file that cannot be written (a full disk) and close it; the command runs on."""
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.failed = True
        with suppress(OSError):  # what is left in the buffer cannot be written either
            self.close()
        log.warning(
            "--log-file %s: it cannot be written (%s); the command continues without it.",
            self.baseFilename,
            error.strerror,
        )


def result(line: str) -> None:
    """Print what came of a command, also with --quiet."""
    log.log(RESULT, line)


def _bar(items: Any, label: str, total: int | None = None, **how: Any) -> Any:
    """Draw a bar of long work, in a terminal only."""
    from tqdm import tqdm

    return tqdm(items, label, total, disable=None, **how)


def start_logging(options: Mapping[str, object] = {}, command: str = "") -> None:
    """Set the level of `ser`'s loggers and their handlers; raises `UserError` for a bad file."""
    from ser.corpus.errors import UserError
    from ser.corpus.progress import show_progress

    if options.get("verbose") and options.get("quiet"):
        raise UserError("--verbose and --quiet: give one of them.")
    level = logging.INFO
    if options.get("verbose"):
        level = logging.DEBUG
    elif options.get("quiet"):
        level = RESULT
    show_progress(None if level == RESULT else _bar)
    for handler in [h for h in log.handlers if isinstance(h, Terminal | logging.FileHandler)]:
        log.removeHandler(handler)
        handler.close()
    terminal = Terminal(level)
    log.addHandler(terminal)
    log.propagate = False
    log.setLevel(level)
    if file := options.get("log_file"):
        try:
            handler = LogFileHandler(str(file), encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UserError(
                f"--log-file {file}: it cannot be written ({error.strerror}); give another file."
            ) from error
        line = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        handler.setFormatter(logging.Formatter(line))
        log.addHandler(handler)
        log.setLevel(logging.DEBUG)
        log.debug("%s, called as: %s", command, " ".join(sys.argv[1:]))
