"""All stages of a pipeline in order: fine-tune, extract, heads, stack, score, report.

Each stage is skipped where its result is up to date; `log` gets a line on what was done, skipped or
left out, and why.
"""

import shlex
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import ser.stack.run
from ser.corpus.synthetic import scores_note
from ser.engines.engine import LOCAL, Engine
from ser.engines.heads import Log
from ser.extract.check import check_features
from ser.extract.extractor import FeatureOptions
from ser.heads.run import HeadReport
from ser.pipeline.file import Pipeline, read_manifest
from ser.score.scores import Metrics
from ser.stages.finetune import fine_tunings
from ser.stages.heads import NO_CALLBACKS, Callbacks, failed_heads, follow, train
from ser.stages.score import (
    check_groups,
    is_report_current,
    report_contents,
    score_pipeline,
    synthetic_share,
)
from ser.stages.subruns import extract_once
from ser.version import install

REPORT_PACKAGES = ("plotly", "jinja2", "kaleido")


def run_all(
    pipeline: Pipeline,
    device: str,
    log: Log,
    *,
    engine: Engine = LOCAL,
    callbacks: Callbacks = NO_CALLBACKS,
    report: bool = False,
) -> tuple[Metrics, dict[str, str]]:
    """Run the whole pipeline; return the metrics and what could not be extracted or trained.

    Without a head that the stack needs there is no stack and no score.

    Args:
        pipeline: what to run.
        device: auto, cpu or cuda.
        log: gets a line for each step.
        engine: where heads are trained, and on a cluster also where features are extracted.
        callbacks: what else follows the run.
        report: also write the report page, where its packages are installed.
    """
    check_groups(pipeline)
    if pipeline.corpus.others != "error":
        for remark in read_manifest(pipeline).notes:
            log(f"corpus   {remark}")
    if pipeline.finetune:  # features are checked before the models that others are made of
        check_features(_ready(pipeline), device, weights=not engine.elsewhere)
    for line in fine_tunings(pipeline, list(pipeline.finetune), device, callbacks=callbacks):
        log(line)
    failed = extract_once([pipeline], device, log, engine if engine.elsewhere else LOCAL)
    if not pipeline.systems:
        log("heads    none in the file: nothing to train, stack or score")
        return {}, failed
    left = _train(pipeline, device, engine, callbacks, log)
    failed |= {f"heads/{head.name}": head.error for head in left}
    if problem := _unfinished(pipeline, left):
        log(f"stack    not fitted, and nothing scored: {problem}")
        return {}, failed
    _fit_stack(pipeline, log)
    metrics = score_pipeline(pipeline)
    log(f"score    {pipeline.run / 'report' / 'metrics.json'}")
    if report:
        _write_report(pipeline, metrics, log)
    if note := scores_note(synthetic_share(pipeline)):
        log(f"score    {note}")
    return metrics, failed


def _ready(pipeline: Pipeline) -> dict[str, FeatureOptions]:
    """Return the features whose model is not one that is yet to be fine-tuned."""
    folder = (pipeline.run / "finetuned").resolve()
    return {
        name: options
        for name, options in pipeline.features.items()
        if folder not in Path(options.pretrained or "").parents
    }


def next_commands(run: Path) -> list[str]:
    """Return the two commands one would type after a run."""
    below = run.resolve().is_relative_to(Path.cwd())
    folder = shlex.quote(str(run.resolve().relative_to(Path.cwd()) if below else run))
    return [f"ser predict CLIP.wav --run {folder}", f"ser serve --run {folder}"]


def _train(
    pipeline: Pipeline, device: str, engine: Engine, callbacks: Callbacks, log: Log
) -> list[HeadReport]:
    """Train the heads; return those that failed or are trained elsewhere."""
    heads, after_epoch = list(pipeline.heads), callbacks.after_epoch
    if not heads:
        return []
    reports = train(pipeline, heads, device, engine=engine, log=log, after_epoch=after_epoch)
    return follow(reports, callbacks, log)


def _unfinished(pipeline: Pipeline, left: Sequence[HeadReport]) -> str:
    """Return why there can be no stack yet, "" where all heads are trained."""
    if busy := [head.name for head in left if head.done == "busy"]:
        return f"another process trains {', '.join(busy)}; when it is done, run this again."
    return failed_heads(pipeline, pipeline.systems)


def _fit_stack(pipeline: Pipeline, log: Log) -> None:
    if ser.stack.run.is_current(pipeline.run, pipeline.stacked, pipeline.stack):
        log(f"stack    {pipeline.stack.model}: up to date, skipped")
        return
    started = time.monotonic()
    record = ser.stack.run.fit(pipeline.run, pipeline.stacked, pipeline.stack)
    model = record.model
    name = model if model == pipeline.stack.model else f"{pipeline.stack.model} ({model})"
    log(f"stack    {name}: fitted in {time.monotonic() - started:.1f} s")


def _write_report(pipeline: Pipeline, metrics: Metrics, log: Log) -> None:
    """Write the report page; figure files, which need a browser, are left to `ser report`."""
    page = pipeline.run / "report" / "report.html"
    if any(find_spec(package) is None for package in REPORT_PACKAGES):
        log(f"report   not written; `{install('report')}` adds it")
    elif is_report_current(pipeline):
        log(f"report   {page}: up to date, skipped")
    else:
        from ser.score.report.run import write_report

        write_report(report_contents(pipeline, metrics), formats=())
        log(f"report   {page}")
