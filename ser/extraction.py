"""The extraction stage of a pipeline: its features in order, and what is still to come of them."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cache.files import fingerprint
from cache.folder import missing
from cache.transcripts import TranscriptCache
from corpus.errors import UserError
from corpus.manifest import Manifest
from extract.extractor import SAMPLE_RATE, extractor_class, weights_of
from extract.loop import Report
from extract.models import card
from extract.run import (
    TRANSCRIPT,
    Job,
    cache_class,
    described,
    extract_together,
    open_feature,
    passes,
    sources_of,
    specify,
)
from ser.pipeline import Pipeline, read_manifest


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


def fingerprints(job: Job) -> list[str]:
    """Name the fingerprint of a job; where its weights are not here, every one that fits it."""
    try:
        return [fingerprint(specify(job, download=False)[0])]
    except UserError:
        return cache_class(job.options).fitting(job.cache, job.name, described(job))


def forecast(job: Job) -> tuple[int, int | None]:
    """Return how many utterances are still to be extracted, and about how many bytes they take.

    From the headers of the audio alone, or four characters a token; the bytes are None where the
    shape of a frame is known to the model only.
    """
    sources = sources_of(job)
    try:
        spec, _ = specify(job, download=False)
        found = cache_class(job.options).existing(job.cache, job.name, spec)
    except UserError:  # weights that are not here are not extracted with either
        found = None
    if job.options.kind == "imported":
        there = set(found.index()["utterance"]) if found else set()
        return len(set(job.manifest.utterances()) - there), None
    wanted = missing(found, sources.stats(), sources.source)
    kind = extractor_class(job.options.kind)
    known = card(str(weights_of(job.options)))
    shape = (known.dim,) if known else getattr(kind, "item_shape", None)
    if kind.gives != "frames" or shape is None or getattr(job.options, "layer", None) == "all":
        return len(wanted), None
    size = sum(size for u, size in sources.sizes().items() if u in wanted)
    frames = size / 4 if kind.reads == "text" else size / SAMPLE_RATE * (kind.frame_rate or 50)
    itemsize = np.dtype(job.options.precision).itemsize
    return len(wanted), int(frames * math.prod(shape) * itemsize)
