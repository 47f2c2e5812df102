"""`ser score`, `ser report`, `ser submit`: what a run says in numbers; no torch, no GPU."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ser.commands.options import (
    console,
    load_pipeline,
    pipeline_option,
    set_option,
    trained_systems,
)

if TYPE_CHECKING:
    import polars as pl

    from cache.transcripts import TranscriptCache
    from corpus.manifest import Manifest
    from score.report.run import Format
    from ser.pipeline import Pipeline

FORMATS: "tuple[Format, ...]" = ("svg", "png")
NEEDED = {
    "emotion": "classes are not told",
    "attributes": "not all of arousal, valence and dominance are predicted",
}


@click.command()
@pipeline_option
@set_option
def score(path: Path, overrides: tuple[str, ...]) -> int:
    """Score every head and the stack on dev and test; write the report folder.

    Exits with 1 when a head failed.
    """
    from score.run import render, score_run
    from ser.pipeline import read_manifest, write_resolved

    pipeline = load_pipeline(path, overrides)
    heads = trained_systems(pipeline)
    if heads is None:
        return 1
    write_resolved(pipeline)
    manifest = read_manifest(pipeline)
    render(score_run(pipeline.run, pipeline.score, heads, manifest), console())
    return 0


@click.command()
@click.option(
    "--figures",
    metavar="svg,png|none",
    help="Which figure files are written beside the page; both by default.",
)
@pipeline_option
@set_option
def report(figures: str | None, path: Path, overrides: tuple[str, ...]) -> int:
    """Score the run and write its report: a page, markdown, LaTeX tables and figures.

    Exits with 1 when a head failed, and when figure files were asked for that cannot be drawn.
    """
    from score.report.contents import gather
    from score.report.run import write_report
    from score.run import score_run
    from ser.pipeline import read_manifest
    from stack.compare import top_curve

    formats = _formats(figures)
    pipeline = load_pipeline(path, overrides)
    heads = trained_systems(pipeline)
    if heads is None:
        return 1
    manifest = read_manifest(pipeline)
    metrics = score_run(pipeline.run, pipeline.score, heads, manifest)
    contents = gather(
        pipeline.run,
        metrics,
        heads,
        manifest,
        audio=manifest.audio_folder(pipeline.corpus.audio),
        transcripts=_transcripts(pipeline, manifest),
        top=top_curve(pipeline.run / "heads", heads, pipeline.stack, pipeline.score.resamples),
    )
    problem = write_report(contents, formats)
    click.echo(pipeline.run / "report" / "report.html")
    if problem is not None:
        click.echo(f"ser: {problem}.", err=True)
    return int(problem is not None and figures is not None)


def _formats(figures: str | None) -> "tuple[Format, ...]":
    """Read --figures."""
    if figures is None:
        return FORMATS
    if figures == "none":
        return ()
    wanted = figures.split(",")
    if not set(wanted) <= set(FORMATS):
        raise click.UsageError(f"--figures {figures}: give it as svg, png, svg,png or none")
    return tuple(form for form in FORMATS if form in wanted)


def _transcripts(pipeline: "Pipeline", manifest: "Manifest") -> "TranscriptCache | None":
    """Open the words of the first transcriber of the pipeline that has cached some."""
    from cache.transcripts import TranscriptCache
    from corpus.errors import UserError
    from extract.run import open_feature
    from ser.extraction import feature_job

    for name, options in pipeline.features.items():
        if options.kind != "asr":
            continue
        try:
            cached = open_feature(feature_job(pipeline, manifest, name))
        except UserError:  # not extracted yet, or not on this machine
            continue
        if isinstance(cached, TranscriptCache):
            return cached
    return None


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
    from ser.heads import require_systems
    from ser.pipeline import read_manifest

    if out is not None and out.suffix:
        raise click.UsageError(f"--out {out}: give a folder; two files may be written.")
    pipeline = load_pipeline(path, overrides)
    if head is not None:
        require_systems(pipeline, [head])
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
