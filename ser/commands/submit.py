"""`ser submit`: the challenge's files of a run."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ser.commands.help import command
from ser.commands.logs import result
from ser.commands.options import PIPELINE, Overrides, PipelineFile, load_pipeline
from ser.corpus.errors import UserError

if TYPE_CHECKING:
    import polars as pl

NEEDED = {
    "emotion": "the heads do not predict classes",
    "attributes": "not all of arousal, valence and dominance are predicted",
}

app = typer.Typer()


@command(
    app,
    "ser submit --expected expected.csv\nser submit --split dev --head whisper-roberta",
    section="Score",
)
def submit(
    *,
    split: str = "test",
    head: str | None = None,
    expected: Path | None = None,
    out: Path | None = None,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> None:
    """Write the challenge's submission.

    One CSV file of emotions and one of attributes.

    Args:
        split (NAME): Split whose files are submitted.
        head (NAME): Submit the predictions of one head; by default the stack's.
        expected (FILE): List of the files to submit: a CSV file with a column FileName, or a name
            on each line; by default all files of the split.
        out (FOLDER): Folder to write to; by default the run's report.
    """
    from ser.pipeline.file import read_manifest
    from ser.score.report import submission
    from ser.stages.heads import require_systems

    if out is not None and out.suffix:
        raise UserError(f"--out {out}: give a folder; two files may be written.")
    pipeline = load_pipeline(path, overrides)
    if head is not None:
        require_systems(pipeline, [head])
    written = submission.submit(
        pipeline.run, read_manifest(pipeline), split, head=head, expected=expected, folder=out
    )
    for file, table in written.items():
        result(f"{file}: {table.height} files; {_summary(table)}")
    for task, reason in NEEDED.items():
        if not any(task in file.name for file in written):
            result(f"submission-{task}.csv is not written: {reason}")


def _summary(table: "pl.DataFrame") -> str:
    """Count each letter, or give the range of every attribute."""
    if "EmoClass" in table.columns:
        counts = (
            table["EmoClass"].value_counts().sort(["count", "EmoClass"], descending=[True, False])
        )
        return ", ".join(f"{letter} {count}" for letter, count in counts.iter_rows())
    columns = table.columns[1:]
    lowest, highest = (table.select(columns).min().row(0), table.select(columns).max().row(0))
    ranges = zip(columns, lowest, highest, strict=True)
    return ", ".join(f"{name} {low:.2f} to {high:.2f}" for name, low, high in ranges)
