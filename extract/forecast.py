"""The work that an extraction still has: utterances and bytes, from the audio's headers alone."""

import math
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ser.cache.files import fingerprint
from ser.cache.index_file import missing
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest, evenly_spaced
from ser.extract.extractor import SAMPLE_RATE
from ser.extract.job import Job, full_spec
from ser.extract.registry import card
from ser.extract.run import sources_of
from ser.extract.sources import Sources

LOOKED_AT = 10_000  # cached clips, and as many that are not
MEASURED = 1_000  # clips whose lengths are read


def fingerprints(job: Job) -> list[str]:
    """Return the fingerprint of a job; without its weights, every one that its options fit."""
    try:
        return [fingerprint(full_spec(job, download=False)[0])]
    except UserError:
        return job.cache_class.fitting(job.cache, job.name, job.spec)


@dataclass(frozen=True)
class Forecast:
    """What an extraction still has to do.

    `utterances` are those still to be extracted, `nbytes` about the bytes they take, None where the
    shape of a frame is only known to the model. Of the `expected` clips or texts of the corpus,
    `looked_at` were compared with the cache; where those are fewer, the figures are estimates.
    """

    utterances: int
    nbytes: int | None
    looked_at: int
    expected: int


def forecast(job: Job) -> Forecast:
    """Estimate what is still to be extracted, from the headers of the audio.

    Of those that are cached and of those that are not, `LOOKED_AT` each are looked at, evenly
    spaced; a smaller corpus is counted exactly. A text is taken to have four characters a token.
    """
    index, everyone = _index(job), job.manifest.frame
    names = pl.Series([], dtype=pl.String) if index is None else index["utterance"]
    if job.options.kind == "imported":
        count = everyone.join(names.to_frame("utterance"), on="utterance", how="anti").height
        return Forecast(count, None, len(everyone), len(everyone))
    cached = everyone["utterance"].is_in(names.implode())
    if job.view is None:
        parts = [_forecast(job, index, rows.arg_true().to_numpy()) for rows in (cached, ~cached)]
    else:  # what it mixes in is drawn from all clips
        parts = [_forecast(job, index, np.arange(len(everyone)))]
    sizes = [part.nbytes for part in parts if part.nbytes is not None]
    return Forecast(
        sum(part.utterances for part in parts),
        sum(sizes) if len(sizes) == len(parts) else None,
        sum(part.looked_at for part in parts),
        len(everyone),
    )


def _index(job: Job) -> pl.DataFrame | None:
    try:
        spec, _ = full_spec(job, download=False)
        cache = job.cache_class.existing(job.cache, job.name, spec)
    except UserError:  # without weights nothing is cached under their digest
        return None
    return None if cache is None else cache.index(ordered=False)


def _forecast(job: Job, index: pl.DataFrame | None, rows: np.ndarray) -> Forecast:
    """Forecast these rows of the manifest."""
    most = LOOKED_AT if job.view is None else len(rows)
    sample = job.manifest.frame[rows[evenly_spaced(len(rows), most)]]
    sources = _sources(job, sample)
    pending = missing(index, sources.stat_hashes(), sources.content_hash)
    count = round(len(pending) * len(rows) / max(1, sample.height))
    waiting = sample.filter(pl.col("utterance").is_in(list(pending)))
    return Forecast(count, _nbytes(job, waiting, count), sample.height, len(rows))


def _nbytes(job: Job, rows: pl.DataFrame, count: int) -> int | None:
    """Return about the bytes of `count` utterances like these rows."""
    kind, listed = job.extractor, card(str(job.options.weights))
    of_kind = listed is not None and listed.kind == job.options.kind  # a classifier has others
    shape = (listed.dim,) if listed and of_kind else getattr(kind, "item_shape", None)
    if kind.gives != "frames" or shape is None or job.options.layers == "all":
        return None
    measured = rows[evenly_spaced(rows.height, MEASURED)]
    size = sum(_sources(job, measured).sizes().values()) * count / max(1, measured.height)
    rate = (listed.frame_rate if listed and of_kind else kind.frame_rate) or 50
    frames = size / 4 if kind.reads == "text" else size / SAMPLE_RATE * rate
    return int(frames * math.prod(shape) * np.dtype(job.options.precision).itemsize)


def _sources(job: Job, rows: pl.DataFrame) -> Sources:
    manifest = job.manifest
    part = Manifest(rows, manifest.classes, manifest.source, manifest.audio)
    return sources_of(replace(job, manifest=part))
