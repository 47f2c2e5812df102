"""The work that an extraction still has: utterances and bytes, from the audio's headers alone."""

import math

import numpy as np

from ser.cache.files import fingerprint
from ser.cache.index_file import missing
from ser.corpus.errors import UserError
from ser.extract.extractor import SAMPLE_RATE
from ser.extract.registry import card
from ser.extract.run import Job, full_spec, sources_of


def fingerprints(job: Job) -> list[str]:
    """Return the fingerprint of a job; without its weights, every one that its options fit."""
    try:
        return [fingerprint(full_spec(job, download=False)[0])]
    except UserError:
        return job.cache_class.fitting(job.cache, job.name, job.spec)


def forecast(job: Job) -> tuple[int, int | None]:
    """Return how many utterances are still to be extracted, and about how many bytes they take.

    From the headers of the audio alone, or four characters a token; the bytes are None where the
    shape of a frame is only known to the model.
    """
    sources = sources_of(job)
    try:
        spec, _ = full_spec(job, download=False)
        cache = job.cache_class.existing(job.cache, job.name, spec)
    except UserError:  # without weights nothing is cached under their digest
        cache = None
    if job.options.kind == "imported":
        cached = set(cache.index()["utterance"]) if cache else set()
        return len(set(job.manifest.utterances()) - cached), None
    pending = missing(cache, sources.stat_hashes(), sources.content_hash)
    kind, listed = job.extractor, card(str(job.options.weights))
    of_kind = listed is not None and listed.kind == job.options.kind  # a classifier has others
    shape = (listed.dim,) if listed and of_kind else getattr(kind, "item_shape", None)
    if kind.gives != "frames" or shape is None or job.options.layers == "all":
        return len(pending), None
    size = sum(size for u, size in sources.sizes().items() if u in pending)
    rate = (listed.frame_rate if listed and of_kind else kind.frame_rate) or 50
    frames = size / 4 if kind.reads == "text" else size / SAMPLE_RATE * rate
    itemsize = np.dtype(job.options.precision).itemsize
    return len(pending), int(frames * math.prod(shape) * itemsize)
