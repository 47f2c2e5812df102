"""What the commands share: their common options, and how options are read and tables printed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from ser.pipeline import Pipeline

pipeline_option = click.option(
    "--pipeline", "path", type=Path, default=Path("pipeline.yaml"), show_default=True
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a value."
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu or cuda."
)


def load_pipeline(path: Path, overrides: tuple[str, ...]) -> "Pipeline":
    """Read the pipeline a command was given."""
    from ser.pipeline import Pipeline

    return Pipeline.load(path, overrides)


def trained_systems(pipeline: "Pipeline", wanted: Sequence[str] | None = None) -> list[str] | None:
    """Name the heads and fine-tuned models; None, and said why, when one of the wanted failed."""
    from corpus.errors import UserError
    from ser.heads import failed_heads

    if not pipeline.systems:
        raise UserError(
            f"{pipeline.source}: there are no heads to stack or score; add some under `heads:`."
        )
    said = failed_heads(pipeline, wanted or pipeline.systems)
    if said:
        click.echo(f"ser: {pipeline.run}: {said}", err=True)
    return None if said else pipeline.systems


def console(least: int = 0) -> "Console":
    """Return a console that prints tables; into files and pipes at least so many columns wide."""
    from rich.console import Console

    found = Console(soft_wrap=False)
    if not found.is_terminal and found.width < least:
        found.width = least
    return found


def exit_code(failed: object) -> int:
    """Return 1 when something failed and was listed, else 0."""
    return 1 if failed else 0


def key_values(texts: tuple[str, ...]) -> dict[str, Any]:
    """Read KEY=VALUE options; values are YAML."""
    import yaml

    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--option {text}: give it as KEY=VALUE")
        pairs[key.replace("-", "_")] = yaml.safe_load(value)
    return pairs


def parse_shard(text: str) -> tuple[int, int]:
    """Read I/N with 0 <= I < N."""
    i, slash, n = text.partition("/")
    if not (slash and i.isdigit() and n.isdigit() and int(i) < int(n)):
        raise click.UsageError(f"--shard {text}: give it as I/N with I from 0 to N-1, as 0/4")
    return int(i), int(n)


def print_frame(frame: Any) -> None:
    """Print a polars frame as a table."""
    from rich.table import Column, Table

    first, *rest = frame.columns
    table = Table(Column(first, no_wrap=True), *(Column(c, overflow="fold") for c in rest))
    for row in frame.iter_rows():
        table.add_row(*("" if v is None else str(v) for v in row))
    console().print(table)
