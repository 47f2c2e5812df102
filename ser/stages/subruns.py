"""Runs below a run: other splits or seeds of one pipeline, on one cache.

    <folder>/<corpus>.parquet   the pipeline's manifest with other splits
    <folder>/pipeline.yaml      the pipeline with that manifest, and the folder as its run

Every command works on such a folder. Features do not depend on splits, so that all runs read the
same ones; the heads of all runs are trained as one list, by `ser.engines.heads`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import polars as pl
import yaml

import ser.stack.run
from ser.corpus import parquet
from ser.corpus.atomic import write_if_changed
from ser.corpus.bounded_yaml import Entry
from ser.corpus.errors import UserError
from ser.corpus.manifest import AUDIO, Manifest, corpus_name
from ser.corpus.rotations import slug
from ser.engines.engine import LOCAL, Engine
from ser.engines.heads import Log, RunTraining, Training, train_runs
from ser.pipeline.file import Pipeline, read_manifest
from ser.pipeline.jobs import heads_job
from ser.score.run import score_run
from ser.stack.config import AUTO
from ser.stages.extract import describe_extraction, extract_features
from ser.stages.heads import NO_CALLBACKS, Callbacks, follow, recorded, require_heads
from ser.stages.score import check_groups, is_newer

SEED_STEP = 100  # between the seeds of a head; presets number theirs 1, 2, 3


def require_rotatable(pipeline: Pipeline) -> None:
    """Raise `UserError` without heads, for a model to fine-tune, and as `check_groups`."""
    require_heads(pipeline, [])
    check_groups(pipeline)
    if pipeline.finetune:
        raise UserError(
            f"{pipeline.source}: finetune: a fine-tuned model has seen the speakers that other "
            "rotations test; leave the section out, or fine-tune in the run of each rotation."
        )


def write_subrun(
    pipeline: Pipeline,
    folder: Path,
    manifest: Manifest,
    split: pl.Series,
    *,
    classes: Sequence[str] | None = None,
    seed: int = 0,
) -> Pipeline:
    """Write the manifest and the pipeline.yaml of a run in `folder`; return its pipeline.

    Args:
        pipeline: the pipeline of the corpus.
        folder: the run's folder.
        manifest: the corpus, with the pipeline's classes.
        split: the split of each row.
        classes: those of this run, by default the pipeline's; rows of others have no emotion.
        seed: the number of the repetition; each adds `SEED_STEP` to the seed of every head.

    Files that would not change are not written.
    """
    classes = list(classes or pipeline.corpus.classes)
    emotion = pl.when(pl.col("emotion").is_in(classes)).then("emotion")
    frame = manifest.frame.with_columns(split, emotion.alias("emotion"))
    audio = {AUDIO: str(manifest.audio_folder(None).resolve())}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{slug(corpus_name(Path(manifest.source)))}.parquet"  # reports show the name
    write_if_changed(file, parquet.encode(frame, audio))
    raw = _raw(pipeline, file.resolve(), classes, seed)
    text = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)
    path = folder / "pipeline.yaml"
    write_if_changed(path, f"# resolved from {pipeline.source}\n{text}")
    return Pipeline.load(path)


def _raw(
    pipeline: Pipeline, manifest: Path, classes: Sequence[str], seed: int
) -> dict[str, object]:
    raw: Entry = pipeline.resolved()
    audio = {} if pipeline.corpus.audio is None else {"audio": raw["corpus"]["audio"]}
    raw["corpus"] = {"manifest": str(manifest), **audio, "classes": list(classes)}
    raw["run"] = str(manifest.parent)
    raw.pop("cv", None)
    for name, options in pipeline.features.items():
        own = getattr(options, "classes", None)  # part of the feature, not of the run
        if own is not None:
            raw["features"][name]["classes"] = list(own)
    for name, config in pipeline.heads.items():
        if seed:
            entry = raw["heads"][name] or {}
            raw["heads"][name] = entry | {"seed": config.seed + SEED_STEP * seed}
    return raw


def run_subruns(
    runs: Mapping[str, Pipeline],
    device: str,
    jobs: int | None,
    log: Log,
    callbacks: Callbacks = NO_CALLBACKS,
) -> tuple[bool, dict[str, str]]:
    """Run every stage of every run; what is up to date is skipped.

    Return whether stacks were fitted and scored, and what could not be extracted or trained.
    Without a head that a stack needs nothing is fitted.
    """
    failed = extract_once(list(runs.values()), device, log)
    trainings = [
        RunTraining(heads_job(p), list(p.heads), Training(p.origin, device), f"{name}/")
        for name, p in runs.items()
    ]
    reports = train_runs(trainings, jobs, log=log, after_epoch=callbacks.after_epoch)
    left = follow(recorded(reports, runs), callbacks, log)
    failed |= {f"heads/{head.name}": head.error for head in left}
    if not left:
        _fit_stacks(runs, log)
        _score(runs)
    return not left, failed


def extract_once(
    runs: Sequence[Pipeline], device: str, log: Log, engine: Engine = LOCAL
) -> dict[str, str]:
    """Extract the features of all runs; return what failed.

    Features do not depend on splits, so those of the first run are those of all; only augmented
    views, which are of training clips, are extracted for every run.
    """
    failed: dict[str, str] = {}
    views = any(options.augment for options in runs[0].features.values())
    for pipeline in runs if views else runs[:1]:
        for report in extract_features(pipeline, list(pipeline.features), device, engine=engine):
            log(describe_extraction(report))
            failed |= {f"{report.name}/{u}": error for u, error in report.failed.items()}
    return failed


def _fit_stacks(runs: Mapping[str, Pipeline], log: Log) -> None:
    """Fit the stack of every run that is not up to date."""
    fitted = 0
    for pipeline in runs.values():
        if not _is_current(pipeline):
            ser.stack.run.fit(pipeline.run, pipeline.stacked, pipeline.stack)
            fitted += 1
    model = next(iter(runs.values())).stack.model
    if model == AUTO:
        chosen = Counter(ser.stack.run.fitted_model(pipeline.run) for pipeline in runs.values())
        counts = ", ".join(f"{name} {count}" for name, count in chosen.most_common())
        model = f"{AUTO} ({counts})"
    log(f"stack    {model}: {fitted} fitted, {len(runs) - fitted} up to date")


def _is_current(pipeline: Pipeline) -> bool:
    with suppress(UserError):
        return ser.stack.run.is_current(pipeline.run, pipeline.stacked, pipeline.stack)
    return False


def _score(runs: Mapping[str, Pipeline]) -> None:
    """Score every run whose metrics.json is older than what it is made from."""
    for pipeline in runs.values():
        run, systems = pipeline.run, pipeline.systems
        sources = [run / "pipeline.yaml", run / "stack" / "stack.json"]
        sources += [run / "heads" / name / "logits.h5" for name in systems]
        if not is_newer(run / "report" / "metrics.json", sources):
            manifest = read_manifest(pipeline)
            score_run(run, pipeline.score, systems, manifest, pipeline.baseline)
