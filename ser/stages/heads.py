"""The heads stage of a pipeline: training, the list of those that failed, the table of all."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import polars as pl

from ser.corpus.atomic import clear, write_durably
from ser.corpus.errors import DamagedError, Note, UserError, first_line, listed, nearest, plural
from ser.engines.cluster import train_with_ray
from ser.engines.engine import LOCAL, Engine
from ser.engines.heads import Log, RunTraining, Training, train_runs
from ser.engines.slurm import train_with_slurm
from ser.heads.config import merged
from ser.heads.record import is_stale, read_done
from ser.heads.run import AfterEpoch, HeadReport
from ser.pipeline.file import Pipeline, write_resolved
from ser.pipeline.jobs import heads_job
from ser.score.metrics import TITLES

Trained = Literal["yes", "stale", "no", "failed", "damaged"]


@dataclass(frozen=True)
class Callbacks:
    """Functions that follow a run.

    Attributes:
        after_epoch: gets the progress of a head or a fine-tuned model after each of its epochs.
        after_head: gets the report of each head, in place of a line to the log.
        after_model: gets the name of each fine-tuned model when it is done.
    """

    after_epoch: AfterEpoch = lambda progress: None
    after_head: Callable[[HeadReport], object] | None = None
    after_model: Callable[[str], object] = lambda name: None


NO_CALLBACKS = Callbacks()


def follow(reports: Iterable[HeadReport], callbacks: Callbacks, log: Log) -> list[HeadReport]:
    """Report each head when it is done; return those that failed or are trained elsewhere."""
    left = []
    for report in reports:
        if callbacks.after_head is None:
            log(describe_head(report))
        else:
            callbacks.after_head(report)
        if report.done in ("failed", "busy"):
            left.append(report)
    return left


def head_entry(pipeline: Pipeline, name: str) -> dict[str, object]:
    """Return a head's entry of the file, over the defaults."""
    require_heads(pipeline, [name])
    section = pipeline.raw["heads"]
    entry = merged(section.get("defaults") or {}, section[name] or {})
    init = pipeline.heads[name].init  # absolute; in the entry it may be relative to the file
    return entry | ({"init": str(init)} if init is not None else {})


def require_heads(pipeline: Pipeline, names: Sequence[str]) -> None:
    """Raise `UserError` for a name that is not under `heads:`, and where that is empty."""
    if not pipeline.heads:
        raise UserError(f"{pipeline.source}: there are no heads; add some under `heads:`.")
    _require(pipeline, names, list(pipeline.heads))


def require_systems(pipeline: Pipeline, names: Sequence[str]) -> None:
    """Raise `UserError` for a name that is neither under `heads:` nor under `finetune:`."""
    _require(pipeline, names, pipeline.systems)


def _require(pipeline: Pipeline, names: Sequence[str], valid: Sequence[str]) -> None:
    for name in names:
        if name not in valid:
            raise UserError(f"{pipeline.source}: there is no head '{name}'; {nearest(name, valid)}")


def train(
    pipeline: Pipeline,
    names: Sequence[str],
    device: str = "auto",
    *,
    force: bool = False,
    in_memory: bool = False,
    engine: Engine = LOCAL,
    log: Log = lambda line: None,
    after_epoch: AfterEpoch = lambda progress: None,
) -> Iterator[HeadReport]:
    """Train the named heads, skipping those that are up to date; yield a report for each.

    With `in_memory` every feature that fits is read whole first. `log` gets a line on features that
    do not fit, and on how many heads are trained at a time. Heads that failed are listed in
    `heads/failed.csv` of the run. Raises `UserError` as `train_heads` does.
    """
    require_heads(pipeline, names)
    write_resolved(pipeline)
    job = heads_job(pipeline)
    training = Training(pipeline.origin, device, force, in_memory)
    if engine.ray:
        reports = train_with_ray(job, names, training, engine.address)
    elif engine.slurm is not None:
        reports = train_with_slurm(job, names, training, engine.jobs, engine.slurm)
    else:
        runs = [RunTraining(job, names, training)]
        reports = train_runs(runs, engine.jobs, log=log, after_epoch=after_epoch)
    return recorded(reports, {"": pipeline})


def recorded(reports: Iterable[HeadReport], runs: Mapping[str, Pipeline]) -> Iterator[HeadReport]:
    """Pass the reports on, and keep `heads/failed.csv` of each run up to date with them.

    A report's name is that of its run, a slash, and that of the head; the run without a name has no
    slash.
    """
    for report in reports:
        run, _, head = report.name.rpartition("/")
        if report.done != "busy":  # otherwise the other process records its outcome
            _record_outcome(runs[run], report, head)
        yield report


def _record_outcome(pipeline: Pipeline, report: HeadReport, head: str) -> None:
    path = pipeline.run / "heads" / "failed.csv"
    before = _failed_rows(pipeline)
    failed = {name: row for name, row in before.items() if name != head}
    if report.done == "failed":
        failed[head] = (report.error, datetime.now(UTC).isoformat(timespec="seconds"))
    if not failed and path.exists():
        clear(path)
    elif failed and failed != before:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [(name, *row) for name, row in failed.items()]
        frame = pl.DataFrame(rows, ["head", "error", "when"], orient="row")
        write_durably(path, frame.write_csv())


def _failed_rows(pipeline: Pipeline) -> dict[str, tuple[str, str]]:
    path = pipeline.run / "heads" / "failed.csv"
    if not path.exists():
        return {}
    try:
        table = pl.read_csv(path, infer_schema=False).select("head", "error", "when")
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f"{path}: it is damaged ({first_line(error)}); delete it and run `ser heads train-all`."
        ) from error
    rows = table.fill_null("").iter_rows()
    return {name: (error, when) for name, error, when in rows if name in pipeline.heads}


def failed_heads(pipeline: Pipeline, names: Sequence[str]) -> str:
    """Return a sentence on those of the heads whose last training failed; "" for none."""
    failed = {name: row[0] for name, row in _failed_rows(pipeline).items() if name in names}
    if not failed:
        return ""
    (name, error), *others = failed.items()
    more = f" and {len(others)} more" if others else ""
    return (
        f"head '{name}'{more} could not be trained ({error.rstrip('.')}); correct the cause and "
        f"run `ser heads train {' '.join(failed)}`, or remove it from the file."
    )


def note_stale(pipeline: Pipeline, names: Sequence[str]) -> None:
    """Warn with a `Note` of those of the heads that are stale; see `is_stale`."""
    stale = []
    for name in names:
        with suppress(DamagedError):  # reported by who needs the record
            record, config = read_done(pipeline.run, name), pipeline.heads.get(name)
            if record and config and is_stale(record, config, pipeline.corpus.classes):
                stale.append(name)
    if stale:
        problem = (
            f"{pipeline.run}: trained with other options or classes than {pipeline.source} gives: "
            f"{listed(stale)}; to update them, run `ser heads train-all`."
        )
        warnings.warn(problem, Note, stacklevel=2)


def describe_head(report: HeadReport) -> str:
    """Return a line on the outcome of a head."""
    if report.done == "current":
        return f"heads    {report.name}: up to date, skipped"
    if report.done == "busy":
        return f"heads    {report.name}: skipped: {report.error}"
    if report.done == "failed":
        return f"heads    {report.name}: failed after {report.seconds:.1f} s: {report.error}"
    score = "no dev score"
    if report.score is not None:
        name = TITLES.get(report.score_name, report.score_name)
        score = f"dev {name} {report.score:.3f}"
    epochs = f"{plural(report.epochs, 'epoch')} " if report.epochs else ""  # none of a solved head
    return f"heads    {report.name}: {score}, {epochs}in {report.seconds:.1f} s"


@dataclass(frozen=True)
class ListedHead:
    """A row of `ser heads list`; `metric` names the dev score, and `stale` is as in `is_stale`.

    `error` is the sentence on a damaged record, None for others.
    """

    head: str
    features: Sequence[str]
    loss: str
    sampler: str
    trained: Trained
    dev_score: float | None
    metric: str
    error: str | None = None


def list_heads(pipeline: Pipeline) -> Iterator[ListedHead]:
    """Yield each head of the pipeline."""
    failed = _failed_rows(pipeline)
    for name, config in pipeline.heads.items():
        record, error = None, None
        try:
            record = read_done(pipeline.run, name)
        except DamagedError as damage:
            error = str(damage)
        trained: Trained = "no" if record is None else "yes"
        if error is not None:
            trained = "damaged"
        elif name in failed:
            trained = "failed"
        elif record is not None and is_stale(record, config, pipeline.corpus.classes):
            trained = "stale"
        yield ListedHead(
            head=name,
            features=config.feature_names,
            loss="+".join(dict.fromkeys(u.name for s in config.stages for u in s.loss)),
            sampler="+".join(dict.fromkeys(s.sampler.name for s in config.stages)),
            trained=trained,
            dev_score=None if record is None else record.score,
            metric=config.chosen_by,
            error=error,
        )


def heads_table(heads: Iterable[ListedHead]) -> pl.DataFrame:
    """Return heads as a table of text."""
    rows = [
        {
            "head": row.head,
            "features": " ".join(row.features),
            "loss": row.loss,
            "sampler": row.sampler,
            "trained": row.trained,
            "dev score": None
            if row.dev_score is None
            else f"{row.dev_score:.3f} {TITLES.get(row.metric, row.metric)}",
        }
        for row in heads
    ]
    return pl.DataFrame(rows, infer_schema_length=None)
