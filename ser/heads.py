"""The heads stage of a pipeline: what its heads read, how they are trained, what became of them."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any

import polars as pl

from cache.features import FeatureCache
from cache.files import write_durably
from corpus.errors import UserError
from extract.extractor import choose_device
from extract.run import Job, open_feature
from heads.job import HeadsJob, read_done
from heads.run import AfterEpoch, HeadReport, train_heads
from ser.extraction import feature_job
from ser.pipeline import Pipeline, read_manifest, write_resolved

Say = Callable[[str], None]


def heads_job(pipeline: Pipeline) -> HeadsJob:
    """Return the training of the pipeline's heads; every feature they read must be cached."""
    manifest = read_manifest(pipeline)
    used = dict.fromkeys(f for config in pipeline.heads.values() for f in config.feature_names)
    features: dict[str, Any] = {
        name: open_feature(feature_job(pipeline, manifest, name)) for name in used
    }
    views: dict[str, dict[str, Any]] = {name: {} for name in used}
    for config in pipeline.heads.values():
        for name, view in product(config.feature_names, config.views):
            if view in pipeline.features[name].augment and view not in views[name]:
                views[name][view] = _whole_view(feature_job(pipeline, manifest, f"{name}+{view}"))
    return HeadsJob(pipeline.run, pipeline.heads, manifest, features, views)


def _whole_view(job: Job) -> FeatureCache:
    """Open a view; raises `UserError` when it lacks a clip that did not fail in it."""
    cache = open_feature(job)
    assert isinstance(cache, FeatureCache)
    failed = set(cache.failed()["utterance"])
    cache.require([u for u in job.manifest.utterances() if u not in failed])
    return cache


def head_entry(pipeline: Pipeline, name: str) -> dict[str, Any]:
    """Return what the file says of a head, defaults merged in."""
    require_heads(pipeline, [name])
    said = pipeline.raw["heads"]
    entry: dict[str, Any] = (said.get("defaults") or {}) | said[name]
    init = pipeline.heads[name].init  # which may be relative to the file
    return entry | ({"init": str(init)} if init is not None else {})


def require_heads(pipeline: Pipeline, names: Sequence[str]) -> None:
    """Raise `UserError` for a name that is not under `heads:`."""
    _require(pipeline, names, list(pipeline.heads))


def require_systems(pipeline: Pipeline, names: Sequence[str]) -> None:
    """Raise `UserError` for a name that is neither under `heads:` nor under `finetune:`."""
    _require(pipeline, names, pipeline.systems)


def _require(pipeline: Pipeline, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"{pipeline.source}: there is no head '{unknown[0]}'; known are {', '.join(known)}."
        )


def train(
    pipeline: Pipeline,
    names: Sequence[str],
    device: str = "auto",
    *,
    force: bool = False,
    in_memory: bool = False,
    say: Say = lambda line: None,
    after_epoch: AfterEpoch = lambda progress: None,
    apart: Callable[[HeadsJob], Iterator[HeadReport]] | None = None,
) -> Iterator[HeadReport]:
    """Train the named heads, skipping those that are current; yield a report each.

    With `in_memory` every feature that fits is read whole first; `say` hears of those that do not.
    `apart` trains them by other means than this process. Those that failed are listed in
    `heads/failed.csv` of the run.
    """
    require_heads(pipeline, names)
    write_resolved(pipeline)
    job = heads_job(pipeline)
    if apart is not None:
        return _recorded(pipeline, apart(job))
    if in_memory:
        load_features(job, names, say)
    reports = train_heads(job, names, choose_device(device), force, after_epoch)
    return _recorded(pipeline, reports)


def load_features(job: HeadsJob, names: Sequence[str], say: Say = lambda line: None) -> None:
    """Read what the named heads read into memory, each feature that fits."""
    features = {f: cache for name in names for f, cache in job.read_by(name).items()}
    views = [cache for f in features for cache in job.views.get(f, {}).values()]
    for cache in [*features.values(), *views]:
        if not cache.load():
            say(f"heads    {cache.name}: too large for the memory that is free, read from disk")


def _recorded(pipeline: Pipeline, reports: Iterator[HeadReport]) -> Iterator[HeadReport]:
    """Pass reports on, and keep `heads/failed.csv`: the heads whose last training failed."""
    path = pipeline.run / "heads" / "failed.csv"
    for report in reports:
        failed = _failed_rows(pipeline)
        before = dict(failed)
        failed.pop(report.name, None)
        if report.done == "failed":
            failed[report.name] = (report.error, datetime.now(UTC).isoformat(timespec="seconds"))
        if not failed:
            path.unlink(missing_ok=True)
        elif failed != before:
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [(name, *row) for name, row in failed.items()]
            frame = pl.DataFrame(rows, ["head", "error", "when"], orient="row")
            write_durably(path, frame.write_csv())
        yield report


def _failed_rows(pipeline: Pipeline) -> dict[str, tuple[str, str]]:
    path = pipeline.run / "heads" / "failed.csv"
    if not path.exists():
        return {}
    rows = pl.read_csv(path, infer_schema=False).iter_rows()
    return {name: (error, when) for name, error, when in rows if name in pipeline.heads}


def failed_heads(pipeline: Pipeline, names: Sequence[str]) -> str:
    """Say in one sentence which of these heads failed when they were last trained; "" for none."""
    failed = {name: row[0] for name, row in _failed_rows(pipeline).items() if name in names}
    if not failed:
        return ""
    (name, error), *others = failed.items()
    more = f" and {len(others)} more" if others else ""
    return (
        f"head '{name}'{more} could not be trained ({error.rstrip('.')}); mend it and run `ser "
        f"heads train {' '.join(failed)}`, or take it out of the file."
    )


def describe_head(report: HeadReport) -> str:
    """Say in one line what became of a head."""
    if report.done == "current":
        return f"heads    {report.name}: current (same config, features, labels), skipped"
    if report.done == "failed":
        return f"heads    {report.name}: failed after {report.seconds:.1f} s: {report.error}"
    score = "unknown" if report.score is None else f"{report.score:.3f}"
    return (
        f"heads    {report.name}: dev {_in_words(report.score_name)} {score}, {report.epochs} "
        f"epochs in {report.seconds:.1f} s"
    )


def _in_words(score_name: str) -> str:
    return {"macro_f1": "macro-F1", "uar": "UAR", "ccc": "CCC"}.get(score_name, score_name)


def heads_table(pipeline: Pipeline) -> pl.DataFrame:
    """List the heads: what each reads and minimises, and what the run folder holds of it."""
    rows, failed = [], _failed_rows(pipeline)
    for name, config in pipeline.heads.items():
        done = read_done(pipeline.run, name)
        score = done.get("score")
        rows.append(
            {
                "head": name,
                "features": " ".join(config.feature_names),
                "loss": "+".join(dict.fromkeys(u.name for s in config.stages for u in s.loss)),
                "sampler": "+".join(dict.fromkeys(s.sampler.name for s in config.stages)),
                "trained": "failed" if name in failed else "yes" if done else "no",
                "dev score": None
                if score is None
                else f"{score:.3f} {_in_words(config.chosen_by)}",
            }
        )
    return pl.DataFrame(rows)
