"""`ser score` and `ser report`: a run in numbers; no torch, no GPU."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser.commands.help import command
from ser.commands.logs import log, result
from ser.commands.options import (
    PIPELINE,
    CrossValidated,
    Json,
    Overrides,
    PipelineFile,
    load_pipeline,
    require_trained,
)
from ser.commands.output import console, print_json
from ser.corpus.errors import UserError
from ser.corpus.text_table import print_table, text_table

if TYPE_CHECKING:
    from rich.table import Table

    from ser.score.comparison import Comparison
    from ser.score.external_scores import ExternalScores
    from ser.score.report.run import Format
    from ser.score.scores import Metrics
    from ser.score.thresholds import Threshold

FORMATS: "tuple[Format, ...]" = ("svg", "png")

app = typer.Typer()


@command(
    app,
    "ser score\nser score --cv speaker --json > scores.json\nser score --risk 0.1\n"
    "ser score --predictions other.csv\n"
    "ser score --predictions other.csv --manifest data/mine.parquet",
    section="Score",
)
def score(
    *,
    predictions: list[Path] | None = None,
    manifest: Path | None = None,
    partial: bool = False,
    risk: Annotated[float | None, typer.Option(min=0.0, max=1.0)] = None,
    as_json: Json = False,
    cv: CrossValidated = None,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Score every head and the stack on dev and test.

    Writes metrics.json and predictions.csv to the run's report folder. Exit code 1 when a head
    failed, or when the folder cannot be written.

    The scores of --predictions are printed beside those of the run, and with --manifest alone; they
    are not written. Further tables are compared with the first, or with the run's best system.

    Args:
        predictions (FILE): Table of another tool's predictions to score too, with the columns
            utterance and prediction (repeatable); none by default.
        manifest (FILE): Manifest to score --predictions against, without a run; by default the
            pipeline's.
        partial: Score --predictions also where some utterances have none.
        risk (SHARE): Share of wrong predictions to keep to by abstaining: the threshold is chosen
            on dev. By default none is.
    """
    if partial and not predictions:
        raise UserError("--partial: it is an option of --predictions; give that too.")
    if manifest is not None:
        if not predictions or risk is not None:
            raise UserError("--manifest: give --predictions with it, and no --risk.")
        return _score_alone(predictions, manifest, partial, as_json, overrides)
    from ser.corpus.synthetic import scores_note
    from ser.pipeline.file import write_resolved
    from ser.score.run import NotWrittenError
    from ser.stages.score import choose_thresholds, score_files, score_pipeline, synthetic_share

    pipeline = load_pipeline(path, overrides, cv)
    require_trained(pipeline)
    write_resolved(pipeline)
    try:
        metrics = score_pipeline(pipeline)
    except NotWrittenError as error:
        _print_metrics(error.metrics, as_json)
        raise
    others = score_files(pipeline, predictions, partial=partial) if predictions else None
    thresholds = None if risk is None else choose_thresholds(pipeline, risk)
    _print_metrics(metrics, as_json, others, thresholds)
    if note := scores_note(synthetic_share(pipeline)):
        if as_json:
            log.warning(note)
        else:
            result(note)
    return 0


def _score_alone(
    files: list[Path], path: Path, partial: bool, as_json: bool, overrides: list[str] | None
) -> int:
    """Score tables of predictions against a manifest; the options are those of `--set score.…`."""
    from ser.corpus.manifest import Manifest
    from ser.corpus.synthetic import scores_note
    from ser.pipeline.sections import read_overrides, read_section
    from ser.score.config import ScoreConfig
    from ser.score.external_scores import score_alone

    config = read_section(read_overrides(overrides or ()), "score", ScoreConfig)
    manifest = Manifest.read(path)
    _print_metrics({}, as_json, score_alone(files, manifest, config, partial=partial))
    if note := scores_note(manifest.synthetic_share(manifest.utterances())):
        log.warning(note)
    return 0


def _print_metrics(
    metrics: "Metrics",
    as_json: bool,
    others: "ExternalScores | None" = None,
    thresholds: "list[Threshold] | None" = None,
) -> None:
    """Print the scores of a run, of other tools' predictions beside them, and thresholds."""
    from ser.commands.runs import print_comparison
    from ser.score.external_scores import with_classes
    from ser.score.run import render
    from ser.score.scores import plain_values

    comparisons: list[Comparison] = []
    if others is not None:
        comparisons = others.comparisons
        metrics = {
            split: {n: with_classes(s, others.classes) for n, s in metrics.get(split, {}).items()}
            | others.metrics.get(split, {})
            for split in dict.fromkeys((*metrics, *others.metrics))
        }
        for note in others.notes:
            log.warning(note)
    if as_json:
        further: dict[str, object] = {}
        if others is not None:
            further["comparisons"] = [asdict(comparison) for comparison in comparisons]
        if thresholds is not None:
            further["thresholds"] = [asdict(threshold) for threshold in thresholds]
        print_json(plain_values(metrics) | further)
        return
    render(metrics, console())
    for comparison in comparisons:
        print_comparison(comparison, console(80))
    if thresholds is not None:
        print_table(_thresholds_table(thresholds), console())
        result("thresholds are chosen on dev; use one as `ser predict --min-confidence`")


def _thresholds_table(thresholds: "list[Threshold]") -> "Table":
    numbers = ["min. confidence", "dev coverage", "risk", "test coverage", "risk"]
    table = text_table(["system"], numbers)
    for chosen in thresholds:
        # rounded down, so that the last row that it predicts still reaches it
        lowest = None if chosen.threshold is None else math.floor(1e4 * chosen.threshold) / 1e4
        cells = ["none" if lowest is None else f"{lowest:.4f}"]
        for at in (chosen.dev, chosen.test):
            cells.append("-" if at is None else f"{at.coverage:.1%}")
            cells.append("-" if at is None or at.risk is None else f"{at.risk:.1%}")
        table.add_row(chosen.system, *cells)
    return table


@command(app, "ser report\nser report --figures none", section="Score")
def report(
    *,
    figures: str | None = None,
    cv: CrossValidated = None,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Score the run and write its report.

    The report is a page, markdown, LaTeX tables and figures. Exit code 1 when a head failed, or
    when figure files that --figures names cannot be drawn.

    Args:
        figures (svg,png|none): Figure files to write beside the page; by default both svg and png.
    """
    from ser.corpus.synthetic import scores_note
    from ser.score.report.run import write_report
    from ser.stages.score import report_contents, score_pipeline

    formats = _formats(figures)
    pipeline = load_pipeline(path, overrides, cv)
    require_trained(pipeline)
    contents = report_contents(pipeline, score_pipeline(pipeline))
    problem = write_report(contents, formats)
    result(f"{pipeline.run / 'report' / 'report.html'}")
    if note := scores_note(contents.synthetic):
        log.warning(note)
    if problem is not None:
        log.warning(f"{problem}.")
    return int(problem is not None and figures is not None)


def _formats(figures: str | None) -> "tuple[Format, ...]":
    """Read --figures."""
    if figures is None:
        return FORMATS
    if figures == "none":
        return ()
    wanted = figures.split(",")
    if not set(wanted) <= set(FORMATS):
        raise UserError(f"--figures {figures}: give it as svg, png, svg,png or none.")
    return tuple(form for form in FORMATS if form in wanted)
