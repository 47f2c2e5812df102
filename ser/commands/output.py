"""What commands print: tables, JSON, and their exit codes."""

import json
import shutil
import sys
from pathlib import Path
from textwrap import wrap
from typing import IO, TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console


LONG = 500  # rows


def console(least: int = 0, file: IO[str] | None = None) -> "Console":
    """Return a console that prints tables, to a file or to stdout.

    Elsewhere than in a terminal it is `least` columns wide or more. Text is printed as it is: a
    class may be called `[/noise]` or `:smile:`.
    """
    from rich.console import Console

    printer = Console(soft_wrap=False, markup=False, emoji=False, file=file)
    if not printer.is_terminal and printer.width < least:
        printer.width = least
    return printer


def print_frame(frame: "pl.DataFrame", cut: str = "") -> None:
    """Print a polars frame as a table; `cut` is the column whose cells may be cut for the width.

    A table of more than `LONG` rows is not fitted to the width.
    """
    from ser.corpus.text_table import long_table, print_table, text_table

    if frame.height > LONG:
        rows = (["" if v is None else str(v) for v in row] for row in frame.iter_rows())
        right = [dtype.is_numeric() for dtype in frame.dtypes]
        typer.echo("\n".join(long_table(frame.columns, rows, right)))
        return
    table = text_table([])
    for name, dtype in frame.schema.items():
        table.add_column(name, justify="right" if dtype.is_numeric() else "left")
    for row in frame.iter_rows():
        table.add_row(*("" if v is None else str(v) for v in row))
    print_table(table, console(), cut)


def write_csv(frame: "pl.DataFrame", path: Path | None) -> None:
    """Write a table to a CSV file, whose folder is made; None for none."""
    from ser.corpus.atomic import write_durably

    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, frame.write_csv())


def print_line(text: str, indent: int) -> None:
    """Print a line; a terminal's is wrapped between words, and indented from the second one on."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        lines = wrap(
            text,
            width,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=False,
        )
        text = "\n".join(line.rstrip() for line in lines)
    typer.echo(text)


def print_json(value: object) -> None:
    """Print a value as JSON; what is not a finite number is null."""
    typer.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False))


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value


def exit_code(failed: object) -> int:
    """Return 1 when something failed and was listed, else 0."""
    return 1 if failed else 0
