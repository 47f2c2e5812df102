"""A pipeline's stages in order: fine-tune, extract, heads, stack, score.

Each stage is asked whether what it would make is current; `say` hears what was done and what was
skipped and why. Nothing here computes: the stages do.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any

import polars as pl
import yaml

import score.run
import stack.run
from cache.features import FeatureCache
from cache.files import write_durably
from cache.transcripts import TranscriptCache
from corpus.errors import UserError
from corpus.manifest import Manifest
from extract.extractor import choose_device, extractor_class
from extract.loop import Report
from extract.run import TRANSCRIPT, Job, extract_together, open_feature, passes
from heads.job import HeadsJob, read_done
from heads.run import AfterEpoch, HeadReport, train_heads
from ser.pipeline import Pipeline

Say = Callable[[str], None]


def read_manifest(pipeline: Pipeline) -> Manifest:
    """Read the pipeline's manifest with the pipeline's classes."""
    return Manifest.read(pipeline.corpus.manifest, pipeline.corpus.classes)


def feature_job(pipeline: Pipeline, manifest: Manifest, name: str) -> Job:
    """Return the extraction of a feature, or of a view of its training clips (`feature+view`).

    Transcripts that it needs must be cached.
    """
    feature, _, view = name.partition("+")
    options = pipeline.features[feature]
    if view:
        train = manifest.frame.filter(manifest.frame["split"] == "train")
        manifest = Manifest(train, manifest.classes, manifest.source, manifest.audio)
    of = getattr(options, "of", TRANSCRIPT)
    transcripts = None
    if of != TRANSCRIPT:
        cached = open_feature(feature_job(pipeline, manifest, of))
        assert isinstance(cached, TranscriptCache)
        transcripts = cached
    audio = manifest.audio_folder(pipeline.corpus.audio)
    changed = options.augment[view] if view else None
    return Job(name, options, manifest, audio, pipeline.cache, transcripts, changed)


def with_views(pipeline: Pipeline, names: Sequence[str]) -> list[str]:
    """Name features, each followed by its augmented views."""
    views = {name: [f"{name}+{view}" for view in pipeline.features[name].augment] for name in names}
    return [each for name in names for each in (name, *views[name])]


def extraction_order(pipeline: Pipeline, names: Sequence[str]) -> list[str]:
    """Return the named features, those whose transcripts they read put before them.

    Raises `UserError` for a name that is not under `features:`.
    """
    unknown = [name for name in names if name not in pipeline.features]
    if unknown:
        raise UserError(
            f"{pipeline.source}: there is no feature '{unknown[0]}'; known are "
            f"{', '.join(pipeline.features)}."
        )
    needed = [getattr(pipeline.features[name], "of", TRANSCRIPT) for name in names]
    everything = dict.fromkeys([*[of for of in needed if of != TRANSCRIPT], *names])
    order = sorted(everything, key=lambda n: extractor_class(pipeline.features[n].kind).reads)
    return with_views(pipeline, order)


def extract_features(
    pipeline: Pipeline,
    names: Sequence[str],
    device: str = "auto",
    shard: tuple[int, int] = (0, 1),
    together: Callable[[list[str]], list[Report]] | None = None,
) -> Iterator[Report]:
    """Extract the named features and what they need, in order; yield a report each.

    Frames and words of one Whisper in the same windows are one pass. `together` extracts the
    features of a pass by other means than this process.
    """
    manifest = read_manifest(pipeline)
    for group in passes(pipeline.features, extraction_order(pipeline, names)):
        if together is not None:
            yield from together(group)
        else:
            jobs = [feature_job(pipeline, manifest, name) for name in group]
            yield from extract_together(jobs, device, shard)


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


def _whole_view(job: Job) -> FeatureCache:
    """Open a view; raises `UserError` when it lacks a clip that did not fail in it."""
    cache = open_feature(job)
    assert isinstance(cache, FeatureCache)
    failed = set(cache.failed()["utterance"])
    cache.require([u for u in job.manifest.utterances() if u not in failed])
    return cache


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


def write_resolved(pipeline: Pipeline) -> None:
    """Write the pipeline as it was understood into its run folder, every path absolute.

    So it can be read from anywhere, and a run needs no other file to be asked about own audio.
    """
    pipeline.run.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(pipeline.resolved(), sort_keys=False, allow_unicode=True)
    write_durably(pipeline.run / "pipeline.yaml", f"# resolved from {pipeline.source}\n{text}")


def run_all(pipeline: Pipeline, device: str, say: Say) -> tuple[dict[str, Any], dict[str, str]]:
    """Run the whole pipeline; return the metrics and what could not be extracted or trained.

    A stage that is current is skipped, and said to be. Without a head that the stack needs there is
    no stack and no score.
    """
    from ser.finetune.stage import fine_tunings  # which needs what is here

    failed: dict[str, str] = {}
    for line in fine_tunings(pipeline, list(pipeline.finetune), device):
        say(line)
    for report in extract_features(pipeline, list(pipeline.features), device):
        say(describe_extraction(report))
        failed |= {f"{report.name}/{u}": error for u, error in report.failed.items()}
    if not pipeline.systems:
        say("heads    none in the file: nothing to train, stack or score")
        return {}, failed
    for head in train(pipeline, list(pipeline.heads), device):
        say(describe_head(head))
        failed |= {f"heads/{head.name}": head.error} if head.done == "failed" else {}
    heads = pipeline.systems
    absent = failed_heads(pipeline, heads)
    if absent:
        say(f"stack    not fitted, nor anything scored: {absent}")
        return {}, failed
    if stack.run.is_current(pipeline.run, heads, pipeline.stack):
        say(f"stack    {pipeline.stack.model}: current (same heads, same options), skipped")
    else:
        started = time.monotonic()
        stack.run.fit(pipeline.run, heads, pipeline.stack)
        say(f"stack    {pipeline.stack.model}: fitted in {time.monotonic() - started:.1f} s")
    manifest = read_manifest(pipeline)
    metrics = score.run.score_run(pipeline.run, pipeline.score, heads, manifest)
    say(f"score    {pipeline.run / 'report' / 'metrics.json'}")
    return metrics, failed


def describe_extraction(report: Report) -> str:
    """Say in one line what an extraction did."""
    if not report.extracted and not report.failed:
        return f"extract  {report.name}: current ({report.cached} cached), skipped"
    line = f"extract  {report.name}: {report.extracted} extracted, {report.cached} were cached"
    if report.overflowed:
        line += f", {report.overflowed} kept as float32 (too large for float16)"
    if report.failed:
        where = f"{report.folder}/failed.parquet"
        first = next(iter(report.failed.items()))
        line += f", {len(report.failed)} failed, see {where} (first: {first[0]}: {first[1]})"
    if report.audio_seconds and report.seconds:
        line += f"; {report.audio_seconds / report.seconds:.0f} x real time"
    return f"{line}; {report.seconds:.1f} s"


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
