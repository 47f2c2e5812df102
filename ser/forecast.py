"""What is still to be extracted of a feature, and about how large it will be."""

import math

import numpy as np

from cache.files import fingerprint
from cache.folder import missing
from corpus.errors import UserError
from extract.extractor import SAMPLE_RATE, extractor_class, weights_of
from extract.models import card
from extract.run import Job, cache_class, described, sources_of, specify


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
