"""The extraction stage of a pipeline: its features, the transcripts that others read first."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ser.corpus.errors import UserError, nearest
from ser.engines.cluster import extract_with_ray
from ser.engines.engine import LOCAL, Engine
from ser.engines.shards import extract_with_jobs
from ser.engines.slurm import extract_with_slurm
from ser.extract.check import check_features, warn_of_labels, warn_of_languages
from ser.extract.extractor import EXTRACTORS
from ser.extract.loop import Report
from ser.extract.passes import FeatureView, passes
from ser.extract.registry import card
from ser.extract.run import extract_together
from ser.pipeline.file import Pipeline, read_manifest
from ser.pipeline.jobs import feature_job


def features_of_model(pipeline: Pipeline, model: str | None, kind: str | None) -> list[str]:
    """Name the pipeline's features of a model (short name, hub id or folder), of a kind, or both.

    Raises `UserError` when there is none.
    """
    identity = None if model is None else _identity(model)
    names = [
        name
        for name, options in pipeline.features.items()
        if (identity is None or _identity(str(options.pretrained)) == identity)
        and (kind is None or options.kind == kind)
    ]
    if names:
        return names
    models = dict.fromkeys(m for o in pipeline.features.values() if (m := o.pretrained))
    wanted = " and ".join(f"{k} '{v}'" for k, v in (("model", model), ("kind", kind)) if v)
    raise UserError(
        f"{pipeline.source}: no feature has {wanted} (models of the file: "
        f"{', '.join(models) or 'none'}); add one under `features:`, or give a corpus with "
        "`--manifest`."
    )


def _identity(model: str) -> str:
    """Return the hub id or the folder that every name of one model leads to."""
    listed = card(model)
    if listed is not None:
        return listed.hub
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def with_views(pipeline: Pipeline, names: Sequence[str]) -> list[FeatureView]:
    """Return the features, each followed by its augmented views."""
    return [FeatureView(n, view) for n in names for view in ("", *pipeline.features[n].augment)]


def extraction_order(pipeline: Pipeline, names: Sequence[str]) -> list[str]:
    """Return the named features, and before them the transcripts they read.

    Raises `UserError` for a name that is not under `features:`.
    """
    for name in names:
        if name not in pipeline.features:
            raise UserError(
                f"{pipeline.source}: there is no feature '{name}'; "
                f"{nearest(name, pipeline.features)}"
            )
    words = [of for name in names if (of := pipeline.features[name].transcripts) is not None]
    needed = dict.fromkeys([*words, *names])
    return sorted(needed, key=lambda n: EXTRACTORS.get(pipeline.features[n].kind).reads)


def extract_features(
    pipeline: Pipeline,
    names: Sequence[str],
    device: str = "auto",
    shard: tuple[int, int] = (0, 1),
    engine: Engine = LOCAL,
) -> Iterator[Report]:
    """Extract the named features and the transcripts they read, in order; yield a report for each.

    Frames and words of one Whisper in the same windows are one pass. `shard` (i, n) extracts every
    n-th batch, in this process only. All features are checked before the first is extracted. Raises
    `UserError` as `check_features` and `extract_together` do.
    """
    manifest, order = read_manifest(pipeline), extraction_order(pipeline, names)
    chosen = {name: pipeline.features[name] for name in order}
    check_features(chosen, device, weights=not engine.elsewhere)
    warn_of_languages(chosen, manifest.frame["language"])
    if not engine.elsewhere:
        warn_of_labels(chosen)
    groups: list[list[FeatureView]] = []
    for together in passes(pipeline.features, order):
        groups.append([FeatureView(name) for name in together])
        groups += [[view] for view in with_views(pipeline, together) if view.view]
    origin, at_once = pipeline.origin, engine.jobs or 1
    for group in groups:
        caches = [view.name for view in group]
        if engine.ray:
            yield from extract_with_ray(origin, caches, device, engine.address)
        elif engine.slurm is not None:
            yield from extract_with_slurm(origin, caches, device, at_once, engine.slurm)
        elif engine.is_local:
            jobs = [feature_job(pipeline, manifest, *view) for view in group]
            yield from extract_together(jobs, device, shard)
        else:
            yield from extract_with_jobs(origin, caches, at_once, device)


def describe_extraction(report: Report) -> str:
    """Return a line on the outcome of an extraction."""
    if not report.extracted and not report.failed:
        return f"extract  {report.name}: up to date ({report.cached} cached), skipped"
    line = f"extract  {report.name}: {report.extracted} extracted, {report.cached} already cached"
    if report.overflowed:
        line += f", {report.overflowed} stored as float32 (too large for float16)"
    if report.failed:
        utterance, error = next(iter(report.failed.items()))
        line += f", {len(report.failed)} failed, see {report.folder}/failed.parquet "
        line += f"(first: {utterance}: {error})"
    if report.doubtful:
        utterance, problem = next(iter(report.doubtful.items()))
        line += f", {len(report.doubtful)} doubtful, see `ser corpus check` "
        line += f"(first: {utterance}: {problem.rstrip('.')})"
    if report.audio_seconds and report.seconds:
        line += f"; {report.audio_seconds / report.seconds:.0f} x real time"
    return f"{line}; {report.seconds:.1f} s"
