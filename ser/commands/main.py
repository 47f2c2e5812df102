"""The command line. Every command imports what it needs when it runs, so that `--help` is instant.

Exit codes: 0 done; 1 finished, with failures listed, or stopped by the machine (a full or read-only
disk, a permission) or by another process that makes the same; 2 a usage or configuration error,
with a one-sentence message; 130 interrupted by Ctrl-C, 143 by SIGTERM; 141, without a message,
where the reader of its output closed the pipe, as `head -1` does.
"""

import os
import sys
import warnings
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

from ser.commands.help import RESUMES, Group, usage_message
from ser.commands.logs import NOTE, log, start_logging
from ser.corpus.machine import limit_threads
from ser.version import __version__

INTERRUPTED, TERMINATED, PIPE_CLOSED = 130, 143, 141
STARTS_OVER = "the same command starts over"
GROUPS = (  # modules of commands, in the order of the help
    *("presets", "run", "schema", "corpus", "extract", "heads", "finetune", "stack", "score"),
    *("cv", "runs", "submit", "cite", "predict", "pack", "serve", "cache"),
)

cli = typer.Typer(
    name="ser",
    cls=Group,
    rich_markup_mode=None,  # why: ser.commands.help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in GROUPS:
    cli.add_typer(import_module(f"ser.commands.{group}").app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ser, version {__version__}")
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Speech emotion recognition: extract features, train heads, stack them, score."""


def open_standard_streams() -> None:
    """Open the null device for those that are closed, so that no other file takes their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115


def prepare_process() -> None:
    """Set the threads and the warnings of the libraries, before any is loaded; start logging."""
    open_standard_streams()
    limit_threads()
    # printed once a batch by libraries, about what we mask or check ourselves
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    warnings.filterwarnings("ignore", message="Segment too short")
    # transformers prints loading bars and advice that no user of ours can act upon
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "0" if sys.stderr.isatty() else "1")
    warnings.showwarning = print_warning
    start_logging()


def main() -> NoReturn:
    """Run the command line; turn what a user can correct into one sentence."""
    from ser.corpus.errors import UserError
    from ser.corpus.termination import is_requested
    from ser.engines.machine import machine_problem

    prepare_process()
    next_time = STARTS_OVER
    try:
        code = cli(prog_name="ser", standalone_mode=False) or 0
    except UserError as error:
        stop(str(error), error.exit_code)
    except typer.TyperException as error:
        stop(usage_message(error), 2)
    except (typer.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):  # a bug, which Typer takes for an answer
            raise error.__cause__ from None
        code, next_time = INTERRUPTED, str(error) or STARTS_OVER
    except SystemExit as end:  # Typer and rich exit with 1 where standard output is closed
        if isinstance(end.__context__, BrokenPipeError):
            sys.exit(PIPE_CLOSED)
        raise
    except Exception as error:
        kept = RESUMES in getattr(error, "__notes__", ())
        problem = machine_problem(error, kept=kept)
        if problem is None:
            log.debug("the command failed", exc_info=error)
            raise
        stop(str(problem), problem.exit_code)
    if code == INTERRUPTED:
        code = TERMINATED if is_requested() else INTERRUPTED
        stop(f"interrupted; {next_time}.", code)
    sys.exit(code)


def print_warning(message: Warning | str, category: type[Warning], *place: Any, **_: Any) -> None:
    """Print a `Note` as one line, unless the command is quiet, and any other warning as Python."""
    from ser.corpus.errors import Note

    if issubclass(category, Note):
        log.log(NOTE, "%s", message)
    else:
        typer.echo(warnings.formatwarning(message, category, *place[:2]), err=True, nl=False)


def stop(message: str, code: int) -> NoReturn:
    """Print one sentence on standard error and exit."""
    from ser.corpus.errors import one_line

    log.error("%s", one_line(message))
    sys.exit(code)
