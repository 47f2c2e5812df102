"""The work that a pipeline describes: the extraction of a feature, the training of its heads."""

from itertools import product

from ser.cache.features import FeatureCache
from ser.cache.transcripts import TranscriptCache
from ser.corpus.manifest import Manifest
from ser.extract.job import Job, open_feature
from ser.extract.passes import FeatureView
from ser.heads.job import HeadsJob
from ser.heads.scaling import scaled
from ser.pipeline.file import Pipeline, cache_place, read_manifest


def feature_job(pipeline: Pipeline, manifest: Manifest, feature: str, view: str = "") -> Job:
    """Return the extraction of a feature, or of a view of its training clips.

    Transcripts that it needs must be cached.
    """
    options, name = pipeline.features[feature], FeatureView(feature, view).name
    if view:
        train = manifest.frame.filter(manifest.frame["split"] == "train")
        manifest = Manifest(train, manifest.classes, manifest.source, manifest.audio)
    words = options.transcripts
    transcripts = None if words is None else open_transcripts(pipeline, manifest, words)
    audio = manifest.audio_folder(pipeline.corpus.audio)
    changed = options.augment[view] if view else None
    return Job(name, options, manifest, audio, cache_place(pipeline), transcripts, changed)


def heads_job(pipeline: Pipeline) -> HeadsJob:
    """Return the training of the pipeline's heads; every feature they read must be cached."""
    manifest = read_manifest(pipeline)
    used = dict.fromkeys(f for config in pipeline.heads.values() for f in config.feature_names)
    features = {name: _frames(feature_job(pipeline, manifest, name)) for name in used}
    views: dict[str, dict[str, FeatureCache]] = {name: {} for name in used}
    for config in pipeline.heads.values():
        for name, view in product(config.feature_names, config.views):
            if view in pipeline.features[name].augment and view not in views[name]:
                views[name][view] = _whole_view(feature_job(pipeline, manifest, name, view))
    clips = len(manifest.utterances("train"))
    configs = {name: scaled(config, clips) for name, config in pipeline.heads.items()}
    return HeadsJob(pipeline.run, configs, manifest, features, views, pipeline.score.groups)


def open_transcripts(pipeline: Pipeline, manifest: Manifest, feature: str) -> TranscriptCache:
    """Open the cached transcripts of a feature."""
    cache = open_feature(feature_job(pipeline, manifest, feature))
    assert isinstance(cache, TranscriptCache)
    return cache


def _frames(job: Job) -> FeatureCache:
    cache = open_feature(job)
    assert isinstance(cache, FeatureCache)
    return cache


def _whole_view(job: Job) -> FeatureCache:
    """Open a view; raises `UserError` when it lacks a clip that did not fail in it."""
    cache = _frames(job)
    failed = set(cache.failed()["utterance"])
    cache.require([u for u in job.manifest.utterances() if u not in failed])
    return cache
