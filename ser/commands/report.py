"""`ser report`: a run's scores as one page, markdown, LaTeX tables and figure files."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ser.commands.options import load_pipeline, pipeline_option, set_option

if TYPE_CHECKING:
    from cache.transcripts import TranscriptCache
    from corpus.manifest import Manifest
    from score.report.run import Format
    from ser.pipeline import Pipeline

FORMATS: "tuple[Format, ...]" = ("svg", "png")


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
    from corpus.errors import UserError
    from score.report.contents import gather
    from score.report.run import write_report
    from score.run import score_run
    from ser.run import failed_heads, read_manifest
    from stack.compare import top_curve

    formats = _formats(figures)
    pipeline = load_pipeline(path, overrides)
    heads = list(pipeline.heads)
    if not heads:
        raise UserError(
            f"{pipeline.source}: there are no heads to report on; add some under `heads:`."
        )
    if said := failed_heads(pipeline, heads):
        click.echo(f"ser: {pipeline.run}: {said}", err=True)
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
    from ser.run import feature_job

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
