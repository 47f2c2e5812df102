"""The extraction stage: one feature of one corpus into the cache.

1. Name what is asked for: options and weights make the fingerprint, the fingerprint the folder.
2. See what is missing: not cached, or cached from audio that has changed since.
3. Plan batches over the whole corpus, sorted by size, within a budget of frames; take every n-th
   for `--shard i/n`, and of those the ones with something missing.
4. Load the model once; decode ahead in threads; extract; stream to the cache.
5. A clip that fails is listed in failed.parquet with the reason and harms no neighbour; a batch
   that does not fit the memory is halved. What is done stays done, whatever happens next.
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cache.features import SHARD_BYTES, FeatureCache, FeatureWriter
from cache.files import fingerprint
from cache.folder import FeatureFolder, missing
from cache.transcripts import TranscriptCache, TranscriptWriter
from corpus.errors import UserError
from corpus.manifest import Manifest
from extract.extractor import (
    SAMPLE_RATE,
    Extractor,
    FeatureOptions,
    choose_device,
    extractor_class,
)
from extract.models import Weights, card, resolve
from extract.sources import AudioSources, Sources, TextSources, plan_batches

FRAME_BUDGET = {"cpu": 6_000, "cuda": 48_000}  # frames a batch occupies, padding included
AHEAD = 2  # batches decoded ahead of the model
DECODE_THREADS = 2
TRANSCRIPT = "transcript"  # the manifest's own column


@dataclass(frozen=True)
class Job:
    """Say what to extract: a named feature of a corpus, into a cache."""

    name: str
    options: FeatureOptions
    manifest: Manifest
    audio: Path
    cache: str | Path  # a folder, or a URL
    transcripts: TranscriptCache | None = None  # what `of:` names, for kind text


@dataclass
class Report:
    """Say what one extraction did."""

    name: str
    folder: str  # or a URL
    cached: int = 0
    extracted: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    overflowed: int = 0  # utterances kept as float32 because float16 cannot hold them
    seconds: float = 0.0


@dataclass(frozen=True)
class _Work:
    """What one worker is to do: whole batches, of which only the wanted rows are written."""

    batches: list[list[str]]
    stats: dict[str, int]
    wanted: set[str]
    report: Report


def described(job: Job) -> dict[str, Any]:
    """Return everything that changes the numbers, except for the weights.

    Options at their default are left out, so that a new option whose default is what was done
    before leaves every cache as it is; changing a default means raising the extractor's version.
    """
    spec = job.options.model_dump(exclude={"model"}, exclude_defaults=True)
    spec["version"] = extractor_class(job.options.kind).version
    if job.transcripts is not None:
        spec["transcripts"] = job.transcripts.fingerprint
    return spec


def specify(job: Job, download: bool = True) -> tuple[dict[str, Any], Weights | None]:
    """Return everything that changes the numbers, and where the weights are."""
    if not hasattr(job.options, "model"):
        return described(job), None
    weights = resolve(job.options.model, download)
    return described(job) | {"weights": weights.digest}, weights


def cache_class(options: FeatureOptions) -> type[FeatureCache] | type[TranscriptCache]:
    """Return the class of cache that a kind fills."""
    gives = extractor_class(options.kind).gives
    return TranscriptCache if gives == "transcripts" else FeatureCache


def open_feature(job: Job) -> FeatureCache | TranscriptCache:
    """Open what is cached for a job, exactly where the weights are known here, else the only one.

    A machine that trains heads needs no weights; there, the one cached folder that agrees with the
    options is the one. Raises `UserError` when there is none, or not just one.
    """
    kind = cache_class(job.options)
    try:
        spec, _ = specify(job, download=False)
    except UserError:
        return kind.open(job.cache, job.name, described(job))
    found = kind.existing(job.cache, job.name, spec)
    return kind.open(job.cache, job.name, spec) if found is None else found


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
    sources = _sources(job)
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
    known = card(str(getattr(job.options, "model", "")))
    shape = (known.dim,) if known else getattr(kind, "item_shape", None)
    if kind.gives != "frames" or shape is None or getattr(job.options, "layer", None) == "all":
        return len(wanted), None
    size = sum(size for u, size in sources.sizes().items() if u in wanted)
    frames = size / 4 if kind.reads == "text" else size / SAMPLE_RATE * (kind.frame_rate or 50)
    itemsize = np.dtype(job.options.precision).itemsize
    return len(wanted), int(frames * math.prod(shape) * itemsize)


def extract(
    job: Job,
    device: str = "auto",
    shard: tuple[int, int] = (0, 1),
    frame_budget: float | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Report:
    """Extract what is missing; returns what was done, what was there, and what failed.

    `shard` (i, n) takes every n-th batch from the i-th on: n such calls, in any order and anywhere,
    fill the same cache with the same numbers. Raises `UserError` when nothing can be done at all.
    """
    started = time.monotonic()
    device = choose_device(device)
    spec, weights = specify(job)
    kind = cache_class(job.options)
    found = kind.existing(job.cache, job.name, spec)
    if job.options.kind == "imported":
        return _imported(job, found)
    sources = _sources(job)
    stats = sources.stats()
    wanted = missing(found, stats, sources.source)
    report = Report(job.name, f"{job.cache}/{job.name}/{fingerprint(spec)}")
    report.cached = len(sources.utterances) - len(wanted) - len(sources.unusable)
    extractor = extractor_class(job.options.kind)(job.options, weights)
    batches = _plan(extractor, sources, frame_budget or FRAME_BUDGET[device]) if wanted else []
    mine = [batch for batch in batches[shard[0] :: shard[1]] if not wanted.isdisjoint(batch)]
    report.failed |= sources.unusable
    if mine:
        try:
            extractor.load(device)
        except ValueError as error:
            raise UserError(f"features.{job.name}: {error}.") from error
        found = kind.create(job.cache, job.name, spec, _about(job, extractor))
        with _writer(found, job.options, shard_bytes) as writer:
            _fill(writer, extractor, sources, _Work(mine, stats, wanted, report))
    if found is None:
        reason = next(iter(report.failed.values()), "the manifest is empty")
        raise UserError(f"features.{job.name}: no utterance can be extracted ({reason}).")
    found.record(report.failed)
    report.seconds = time.monotonic() - started
    return report


def _imported(job: Job, found: FeatureFolder | None) -> Report:
    """Report which utterances of the corpus were not imported."""
    if found is None:
        raise UserError(
            f"features.{job.name}: nothing was imported; run `ser cache import {job.name} SOURCE`."
        )
    everyone = job.manifest.utterances()
    absent = set(everyone) - set(found.index()["utterance"])
    report = Report(job.name, found.location, cached=len(everyone) - len(absent))
    report.failed = {u: "it was not imported" for u in everyone if u in absent}
    found.record(report.failed)
    return report


def _sources(job: Job) -> Sources:
    if extractor_class(job.options.kind).reads == "audio":
        return AudioSources(job.manifest, job.audio)
    utterances = job.manifest.utterances()
    of = str(getattr(job.options, "of", TRANSCRIPT))
    if job.transcripts is None:
        return TextSources(utterances, job.manifest.frame[TRANSCRIPT].to_list(), of)
    return TextSources(utterances, job.transcripts.texts(utterances), of)


def _plan(extractor: Extractor, sources: Sources, budget: float) -> list[list[str]]:
    sizes = sources.sizes()
    keys = {u: extractor.batch_key(size) for u, size in sizes.items()}
    costs = {u: extractor.cost(size) for u, size in sizes.items()}
    return plan_batches(sizes, keys, costs, budget)


def _about(job: Job, extractor: Extractor) -> dict[str, Any]:
    options = job.options
    known = card(str(getattr(options, "model", "")))
    about: dict[str, Any] = {"model": getattr(options, "model", None)}
    if extractor.gives == "frames":
        about["item_shape"] = list(extractor.item_shape)
        about["frame_rate"] = extractor.frame_rate
    if known is not None:
        about["licence"] = known.licence
        about["challenge"] = known.challenge
    return about


def _writer(folder: FeatureFolder, options: FeatureOptions, shard_bytes: int) -> Any:
    if isinstance(folder, FeatureCache):
        return folder.writer(options.precision, shard_bytes)
    assert isinstance(folder, TranscriptCache)
    return folder.writer()


def _fill(
    writer: FeatureWriter | TranscriptWriter, extractor: Extractor, sources: Sources, work: _Work
) -> None:
    report = work.report
    total = sum(len(batch) for batch in work.batches)
    with tqdm(total=total, desc=report.name, unit="utt", disable=None) as bar:
        for utterances, inputs, hashes in _decoded(sources, work):
            for utterance, result in _robustly(extractor, utterances, inputs, report.failed):
                if utterance not in work.wanted:
                    continue  # cached already; computed again only to keep its batch the same
                try:
                    writer.append(utterance, result, work.stats[utterance], hashes[utterance])
                except ValueError as error:
                    report.failed[utterance] = str(error)
                else:
                    report.extracted += 1
            bar.update(len(utterances))
    report.overflowed = len(getattr(writer, "overflowed", []))


def _decoded(
    sources: Sources, work: _Work
) -> Iterator[tuple[list[str], list[Any], dict[str, int]]]:
    """Yield each batch's inputs and content hashes, decoded ahead in threads.

    What cannot be decoded is listed as failed and left out.
    """

    def decode(utterance: str) -> tuple[Any, int]:
        return sources.load(utterance), sources.source(utterance)

    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        waiting: deque[list[tuple[str, Future[tuple[Any, int]]]]] = deque()
        for batch in [*work.batches, *[[]] * AHEAD]:
            waiting.append([(u, pool.submit(decode, u)) for u in batch])
            if len(waiting) <= AHEAD:
                continue
            utterances, inputs, hashes = [], [], {}
            for utterance, future in waiting.popleft():
                try:
                    clip, hashes[utterance] = future.result()
                except (ValueError, OSError) as error:
                    work.report.failed[utterance] = str(error)
                else:
                    utterances.append(utterance)
                    inputs.append(clip)
            yield utterances, inputs, hashes


def _robustly(
    extractor: Extractor, utterances: Sequence[str], inputs: Sequence[Any], failed: dict[str, str]
) -> Iterator[tuple[str, Any]]:
    """Extract a batch; halve it when memory runs out, and one by one find the clip that fails."""
    if not utterances:
        return
    try:
        results = extractor.extract(inputs)
    except (ValueError, RuntimeError, MemoryError) as error:
        if len(utterances) == 1:
            failed[utterances[0]] = f"{type(error).__name__}: {error}".splitlines()[0]
            return
        parts = 2 if _out_of_memory(error) else len(utterances)
        step = math.ceil(len(utterances) / parts)
        for i in range(0, len(utterances), step):
            yield from _robustly(extractor, utterances[i : i + step], inputs[i : i + step], failed)
        return
    yield from zip(utterances, results, strict=True)


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True
    return False
