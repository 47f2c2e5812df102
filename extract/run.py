"""The extraction stage: one feature of one corpus into the cache.

1. Name what is asked for: options and weights make the fingerprint, the fingerprint the folder.
2. See what is missing: not cached, or cached from audio that has changed since.
3. Plan batches over the whole corpus, sorted by size, within a budget of frames; take every n-th
   for `--shard i/n`, and of those the ones with something missing.
4. Load the model once; decode ahead in threads; extract; stream to the cache.
5. A clip that fails is listed in failed.parquet with the reason and harms no neighbour; a batch
   that does not fit the memory is halved. What is done stays done, whatever happens next.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.features import SHARD_BYTES, FeatureCache
from cache.files import fingerprint
from cache.folder import missing
from cache.transcripts import TranscriptCache
from corpus.augment import View
from corpus.errors import UserError
from corpus.manifest import Manifest
from extract.extractor import (
    Extractor,
    FeatureOptions,
    choose_device,
    extractor_class,
    weights_of,
)
from extract.loop import Output, Report, run_batches
from extract.models import Weights, card, resolve
from extract.sources import AudioSources, Sources, TextSources, ViewSources, plan_batches

FRAME_BUDGET = {"cpu": 6_000, "cuda": 48_000}  # frames a batch occupies, padding included
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
    view: View | None = None  # extract changed clips instead


def described(job: Job) -> dict[str, Any]:
    """Return everything that changes the numbers, except for the weights.

    Options at their default are left out, so that a new option whose default is what was done
    before leaves every cache as it is; changing a default means raising the extractor's version.
    """
    spec = described_options(job.options, getattr(job.transcripts, "fingerprint", None))
    if job.view is not None:
        spec["view"] = job.view.spec()
    return spec


def described_options(options: FeatureOptions, transcripts: str | None = None) -> dict[str, Any]:
    """Return what `described` does of a clean feature; `transcripts` is their fingerprint."""
    spec = options.model_dump(exclude=set(options.unnamed), exclude_defaults=True)
    spec["version"] = extractor_class(options.kind).version
    return spec | ({"transcripts": transcripts} if transcripts is not None else {})


def specify(job: Job, download: bool = True) -> tuple[dict[str, Any], Weights | None]:
    """Return everything that changes the numbers, and where the weights are."""
    model = weights_of(job.options)
    if model is None:
        return described(job), None
    weights = resolve(model, download)
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
    return extract_together([job], device, shard, frame_budget, shard_bytes)[0]


def extract_together(
    jobs: Sequence[Job],
    device: str = "auto",
    shard: tuple[int, int] = (0, 1),
    frame_budget: float | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> list[Report]:
    """Extract one feature, or Whisper's frames and words in one pass; see `same_pass`.

    Clips are decoded and encoded once; each result is what it would be alone, to the bit.
    """
    started = time.monotonic()
    device = "cpu" if jobs[0].options.remote else choose_device(device)
    if jobs[0].options.kind == "imported":
        return [_imported(job) for job in jobs]
    sources = sources_of(jobs[0])
    stats = sources.stats()
    parts = [_Part(job, sources, stats) for job in jobs]
    busy = [part for part in parts if part.wanted]
    idle = False
    if busy:
        extractor = joined([part.extractor for part in busy])
        batches = plan(extractor, sources.sizes(), frame_budget or FRAME_BUDGET[device])
        wanted: set[str] = set().union(*(part.wanted for part in busy))
        mine = [batch for batch in batches[shard[0] :: shard[1]] if not wanted.isdisjoint(batch)]
        if not extractor.whole:
            mine = [[u for u in batch if u in wanted] for batch in mine]
        if mine:
            load(extractor, busy[0].job.name, device)
            with ExitStack() as stack:
                outputs = [
                    Output(stack.enter_context(part.writer(shard_bytes)), part.wanted, part.report)
                    for part in busy
                ]
                run_batches(extractor, sources, mine, outputs, stats)
        idle = bool(batches) and not mine  # a shard beyond the last batch
    for part in parts:
        part.finish(sources.unusable, time.monotonic() - started, idle)
    return [part.report for part in parts]


def same_pass(features: FeatureOptions, words: FeatureOptions) -> bool:
    """Tell whether these are frames and words of one Whisper in the same windows."""
    if (features.kind, words.kind) != ("whisper", "asr"):
        return False
    mine, theirs = (options.model_dump() for options in (features, words))
    same = ["model", "window"] + (["silence"] if mine["window"] == "trim" else [])
    return all(mine[key] == theirs[key] for key in same)


def passes(features: Mapping[str, FeatureOptions], names: Sequence[str]) -> list[list[str]]:
    """Group the features that share one pass of their model, in order."""
    clean = {name: features[name] for name in names if "+" not in name}
    groups: dict[str, list[str]] = {name: [name] for name in names}
    for frames, options in clean.items():
        for words, other in clean.items():
            if same_pass(options, other) and len(groups.get(frames, ())) == 1 and words in groups:
                groups[frames].append(words)
                del groups[words]
    order = {name: i for i, name in enumerate(names)}
    return sorted(groups.values(), key=lambda group: min(order[name] for name in group))


class _Part:
    """Hold one job of an extraction: what is cached of it, what is wanted, where it goes."""

    def __init__(self, job: Job, sources: Sources, stats: dict[str, int]) -> None:
        self.job = job
        self.spec, weights = specify(job)
        self.kind = cache_class(job.options)
        self.found = self.kind.existing(job.cache, job.name, self.spec)
        self.wanted = missing(self.found, stats, sources.source)
        self.report = Report(job.name, f"{job.cache}/{job.name}/{fingerprint(self.spec)}")
        self.report.cached = len(sources.utterances) - len(self.wanted) - len(sources.unusable)
        self.extractor = extractor_class(job.options.kind)(job.options, weights)

    def writer(self, shard_bytes: int) -> Any:
        """Open the writer, making the folder; the extractor is loaded and knows its shape."""
        job = self.job
        about = _about(job, self.extractor)
        self.found = self.kind.create(job.cache, job.name, self.spec, about)
        if isinstance(self.found, FeatureCache):
            return self.found.writer(job.options.precision, shard_bytes)
        return self.found.writer()

    def finish(self, unusable: dict[str, str], seconds: float, idle: bool) -> None:
        """List what failed beside what was extracted."""
        self.report.failed = unusable | self.report.failed
        self.report.seconds = seconds
        if self.found is None:
            if idle:
                return
            reason = next(iter(self.report.failed.values()), "the manifest is empty")
            raise UserError(f"features.{self.job.name}: no utterance can be extracted ({reason}).")
        self.found.record(self.report.failed)


def joined(extractors: Sequence[Extractor]) -> Extractor:
    """Return the one extractor, or that of the frames and the words of one Whisper."""
    if len(extractors) == 1:
        return extractors[0]
    from extract.kinds.whisper import Asr, FramesAndWords, WhisperFeatures

    frames, words = extractors
    assert isinstance(frames, WhisperFeatures) and isinstance(words, Asr)
    return FramesAndWords(frames, words)


def load(extractor: Extractor, name: str, device: str) -> None:
    """Load the model of a named feature; raises `UserError` when its options do not fit it."""
    try:
        extractor.load(device)
    except ValueError as error:
        raise UserError(f"features.{name}: {error}.") from error


def _imported(job: Job) -> Report:
    """Report which utterances of the corpus were not imported."""
    found = FeatureCache.existing(job.cache, job.name, described(job))
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


def sources_of(job: Job) -> Sources:
    """Return what a job reads: clips, or texts."""
    if extractor_class(job.options.kind).reads == "audio":
        if job.view is not None:
            return ViewSources(job.manifest, job.audio, job.view)
        return AudioSources(job.manifest, job.audio)
    utterances = job.manifest.utterances()
    of = str(getattr(job.options, "of", TRANSCRIPT))
    if job.transcripts is None:
        return TextSources(utterances, job.manifest.frame[TRANSCRIPT].to_list(), of)
    return TextSources(utterances, job.transcripts.texts(utterances), of)


def plan(extractor: Extractor, sizes: Mapping[str, int], budget: float) -> list[list[str]]:
    """Pack inputs of these sizes, by id, into batches within a budget of frames."""
    keys = {u: extractor.batch_key(size) for u, size in sizes.items()}
    costs = {u: extractor.cost(size) for u, size in sizes.items()}
    return plan_batches(sizes, keys, costs, budget)


def _about(job: Job, extractor: Extractor) -> dict[str, Any]:
    options = job.options
    known = card(str(weights_of(options)))
    about: dict[str, Any] = {"model": getattr(options, "model", None)}
    if extractor.gives == "frames":
        about["item_shape"] = list(extractor.item_shape)
        about["frame_rate"] = extractor.frame_rate
    if known is not None:
        about["licence"] = known.licence
        about["challenge"] = known.challenge
    return about
