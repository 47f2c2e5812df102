"""The scoring stage of a pipeline: its numbers and its report, with or without the manifest.

`logits.h5` holds labels, ratings, speakers and the groups that were under `score.groups` when its
head was trained. So a run copied to another machine is scored there without the manifest; only
words and audio of the report's clips come from the manifest alone.
"""

import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ser.cache.features import FeatureCache
from ser.cache.logits import HeadLogits
from ser.cache.transcripts import TranscriptCache
from ser.cache.urls import is_url
from ser.corpus.config import VARIABLE
from ser.corpus.errors import Note, UserError, nearest
from ser.corpus.manifest import Manifest
from ser.extract.job import open_feature
from ser.heads.record import read_done
from ser.heads.saved import layer_weights
from ser.pipeline.file import Pipeline, read_manifest
from ser.pipeline.jobs import feature_job
from ser.pipeline.sections import transcribers
from ser.score.external_scores import ExternalScores, score_external
from ser.score.heads import read_heads
from ser.score.pairs import read_system
from ser.score.record import has_stack
from ser.score.report.contents import Contents, gather
from ser.score.report.exploration import Exploration, explore
from ser.score.run import STACK, of_head, score_run
from ser.score.scores import Metrics
from ser.score.thresholds import Threshold, threshold_for
from ser.score.truth import ground_truth, manifest_truth, missing_groups, require_groups
from ser.stack.compare import top_curve

Cache = TypeVar("Cache", FeatureCache, TranscriptCache)


def score_pipeline(pipeline: Pipeline) -> Metrics:
    """Score heads and stack, write metrics.json and predictions.csv; return the metrics.

    Warns with a `Note` where the manifest is not on this machine. Raises as `score_run` does.
    """
    manifest = manifest_if_present(pipeline)
    if manifest is None:
        warnings.warn(_without_manifest(pipeline), Note, stacklevel=2)
    systems = pipeline.systems
    return score_run(pipeline.run, pipeline.score, systems, manifest, pipeline.baseline)


def score_files(
    pipeline: Pipeline, files: Sequence[Path], *, partial: bool = False
) -> ExternalScores:
    """Score other tools' predictions of the run's utterances; compare them with its best system.

    That is the stack, or without one the head that is best on dev. Raises `UserError` as
    `ser.score.external.read_external` does.
    """
    manifest = manifest_if_present(pipeline)
    best = read_system(pipeline.run, manifest=manifest)
    if manifest is not None:
        truth = manifest_truth(manifest, pipeline.score.groups, pipeline.score.secondary_votes)
    else:
        logits = read_heads(pipeline.run / "heads", pipeline.systems)
        truth = ground_truth(logits, None, pipeline.score.groups)
        split = of_head(next(iter(logits.values()))).select("utterance", "split")
        truth = truth.join(split, "utterance")
    return score_external(
        files, truth, best.classes, pipeline.score, reference=best, partial=partial
    )


def choose_thresholds(pipeline: Pipeline, risk: float) -> list[Threshold]:
    """Choose on dev the confidence threshold of every system that keeps to a risk."""
    manifest = manifest_if_present(pipeline)
    names = [*pipeline.systems, *([STACK] if has_stack(pipeline.run) else [])]
    chosen = [threshold_for(read_system(pipeline.run, name, manifest), risk) for name in names]
    return [threshold for threshold in chosen if threshold is not None]


def report_contents(pipeline: Pipeline, metrics: Metrics) -> Contents:
    """Gather what the report of a scored run shows."""
    manifest, heads = manifest_if_present(pipeline), pipeline.systems
    words = transcribers(pipeline.features)
    audio = None if manifest is None else manifest.audio_folder(pipeline.corpus.audio)
    cache = _first_cached(pipeline, manifest, words, TranscriptCache)
    return replace(
        gather(pipeline.run, metrics, heads, manifest, audio=audio, transcripts=cache),
        top=top_curve(pipeline.run / "heads", heads, pipeline.stack, pipeline.score.resamples),
        synthetic=synthetic_share(pipeline),
        exploration=_explore(pipeline, manifest),
    )


def _explore(pipeline: Pipeline, manifest: Manifest | None) -> Exploration:
    """Gather what the corpus is like; a part that cannot be read is left out, with a `Note`."""
    layers: dict[str, dict[str, list[float]]] = {}
    try:
        weights = {name: layer_weights(pipeline.run, name) for name in pipeline.systems}
        layers = {name: by_feature for name, by_feature in weights.items() if by_feature}
    except ModuleNotFoundError:  # safetensors, where no head is trained
        pass
    except UserError as error:
        warnings.warn(f"the report has no layer weights: {error}", Note, stacklevel=2)
    feature = None if manifest is None else _frames(pipeline, manifest)
    try:
        return explore(manifest, feature, layers)
    except UserError as error:
        warnings.warn(f"the report has no map of embeddings: {error}", Note, stacklevel=2)
        return explore(manifest, None, layers)


def _frames(pipeline: Pipeline, manifest: Manifest) -> FeatureCache | None:
    """Open the feature that the map shows; None where it is not cached on this machine."""
    if is_url(pipeline.cache):  # nothing is downloaded for a figure
        return None
    wanted = pipeline.score.map
    if wanted is not None and wanted not in pipeline.features:
        raise UserError(
            f"score.map: '{wanted}' is not a feature of the pipeline; "
            f"{nearest(wanted, pipeline.features)}"
        )
    names = [name for name, options in pipeline.features.items() if not hasattr(options, "of")]
    return _first_cached(pipeline, manifest, names if wanted is None else [wanted], FeatureCache)


def check_groups(pipeline: Pipeline) -> None:
    """Raise `UserError` for a group to score by that is not a column of the manifest."""
    manifest = manifest_if_present(pipeline) if pipeline.score.groups else None
    if manifest is not None:
        require_groups(manifest, pipeline.score.groups)


def manifest_if_present(pipeline: Pipeline) -> Manifest | None:
    """Read the manifest; None where its file is not on this machine."""
    path = pipeline.corpus.manifest
    if VARIABLE.search(str(path)) or not path.exists():
        return None
    return read_manifest(pipeline)


def synthetic_share(pipeline: Pipeline) -> float:
    """Return the share of synthetic speech in the corpus, 0 to 1.

    Without the manifest it is the share stored with the logits, or with the head (of its training
    clips) where a run of an earlier version was copied; 0 where neither is known.
    """
    manifest = manifest_if_present(pipeline)
    if manifest is not None:
        return manifest.synthetic_share(manifest.utterances())
    stored = [header.synthetic for header in _headers(pipeline)]
    records = (read_done(pipeline.run, name) for name in pipeline.systems)
    stored += [record.synthetic for record in records if record is not None]
    return max((share for share in stored if share is not None), default=0.0)


def _without_manifest(pipeline: Pipeline) -> str:
    """Return the sentence on scores without the manifest, and on what they lack."""
    missing = missing_groups(_headers(pipeline), pipeline.score.groups)
    sentence = (
        f"corpus.manifest: {pipeline.corpus.manifest} is not on this machine; labels and speakers "
        "are those stored with the logits"
    )
    if not missing:
        return f"{sentence}."
    return (
        f"{sentence}. The logits do not store {' or '.join(missing)}: to score by group, copy the "
        "manifest there, or train the heads again with `ser heads train-all --force` where it is."
    )


def _headers(pipeline: Pipeline) -> list[HeadLogits]:
    folder = pipeline.run / "heads"
    return [HeadLogits.read_header(folder / name / "logits.h5") for name in pipeline.systems]


def _first_cached(
    pipeline: Pipeline, manifest: Manifest | None, names: Sequence[str], kind: type[Cache]
) -> Cache | None:
    """Open the first of these features that is cached on this machine; None where none is."""
    if manifest is None:
        return None
    for name in names:
        with suppress(UserError):  # not extracted yet, or not on this machine
            cached = open_feature(feature_job(pipeline, manifest, name))
            if isinstance(cached, kind):
                return cached
    return None


def is_report_current(pipeline: Pipeline) -> bool:
    """Return whether the report page is newer than all that it shows."""
    run = pipeline.run
    shown = [run / "stack" / "stack.json", run / "report" / "metrics.json"]
    shown += [run / "heads" / name / "logits.h5" for name in pipeline.systems]
    return is_newer(run / "report" / "report.html", shown)


def is_newer(file: Path, sources: Iterable[Path]) -> bool:
    """Return whether a file exists and is at least as new as those of its sources that do."""
    newest = max((source.stat().st_mtime for source in sources if source.exists()), default=0.0)
    return file.is_file() and file.stat().st_mtime >= newest
