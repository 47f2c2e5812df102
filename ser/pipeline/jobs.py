"""The work that a pipeline describes: the extraction of a feature, the training of its heads."""

from itertools import product
from typing import Any

from ser.cache.features import FeatureCache
from ser.cache.transcripts import TranscriptCache
from ser.corpus.manifest import Manifest
from ser.extract.run import TRANSCRIPT, Job, open_feature
from ser.heads.job import HeadsJob
from ser.heads.scaling import scaled
from ser.pipeline.file import Pipeline, cache_place, read_manifest


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
    return Job(name, options, manifest, audio, cache_place(pipeline), transcripts, changed)


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
    clips = len(manifest.utterances("train"))
    configs = {name: scaled(config, clips) for name, config in pipeline.heads.items()}
    return HeadsJob(pipeline.run, configs, manifest, features, views, pipeline.score.groups)


def _whole_view(job: Job) -> FeatureCache:
    """Open a view; raises `UserError` when it lacks a clip that did not fail in it."""
    cache = open_feature(job)
    assert isinstance(cache, FeatureCache)
    failed = set(cache.failed()["utterance"])
    cache.require([u for u in job.manifest.utterances() if u not in failed])
    return cache
