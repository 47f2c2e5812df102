"""`ser submit`: the challenge's csv files, of the stack or of one head; needs no torch, no GPU."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ser.commands.options import load_pipeline, pipeline_option, set_option

if TYPE_CHECKING:
    import polars as pl

NEEDED = {
    "emotion": "classes are not told",
    "attributes": "not all of arousal, valence and dominance are predicted",
}


@click.command()
@click.option("--split", default="test", show_default=True, help="Which split's files.")
@click.option("--head", help="Submit what one head says; the stack by default.")
@click.option(
    "--expected", type=Path, help="A csv with a column FileName, or one name a line: all files."
)
@click.option("--out", type=Path, help="A folder to write to; the run's report by default.")
@pipeline_option
@set_option
def submit(
    *,
    split: str,
    head: str | None,
    expected: Path | None,
    out: Path | None,
    path: Path,
    overrides: tuple[str, ...],
) -> None:
    """Write the challenge's submission: one csv of emotions and one of attributes."""
    from score.report import submission
    from ser.run import read_manifest, require_heads

    if out is not None and out.suffix:
        raise click.UsageError(f"--out {out}: give a folder; two files may be written.")
    pipeline = load_pipeline(path, overrides)
    if head is not None:
        require_heads(pipeline, [head])
    written = submission.submit(
        pipeline.run,
        read_manifest(pipeline),
        split,
        head=head,
        expected=expected,
        folder=out,
    )
    for file, table in written.items():
        click.echo(f"{file}: {table.height} files; {_summary(table)}")
    for task, why in NEEDED.items():
        if not any(task in file.name for file in written):
            click.echo(f"submission-{task}.csv is not written, as {why}")


def _summary(table: "pl.DataFrame") -> str:
    """Say how often each letter stands, or the range of every attribute."""
    if "EmoClass" in table.columns:
        counts = (
            table["EmoClass"].value_counts().sort(["count", "EmoClass"], descending=[True, False])
        )
        return ", ".join(f"{letter} {count}" for letter, count in counts.iter_rows())
    columns = table.columns[1:]
    lowest, highest = (table.select(columns).min().row(0), table.select(columns).max().row(0))
    ranges = zip(columns, lowest, highest, strict=True)
    return ", ".join(f"{name} {low:.2f} to {high:.2f}" for name, low, high in ranges)
