"""The extraction stage: one feature of one corpus into the cache.

1. Take the fingerprint of the options and weights; it names the folder.
2. See what is missing: not cached, or cached from audio that has changed since.
3. Plan batches over the whole corpus, sorted by size, within a budget of frames; take every n-th
   for `--shard i/n`, and of those the ones with something missing.
4. Load the model once; divide batches that the memory of a GPU cannot hold; decode ahead in
   threads; extract; stream to the cache.
5. A clip that fails is listed in failed.parquet with the reason and harms no neighbour; a batch
   that does not fit the memory is halved. What is done stays done, whatever happens next.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack

from ser.cache.feature_writer import SHARD_BYTES, FeatureWriter
from ser.cache.features import FeatureCache
from ser.cache.files import fingerprint
from ser.cache.index_file import missing
from ser.cache.transcripts import TranscriptCache, TranscriptWriter
from ser.corpus.config import VARIABLE, require_set
from ser.corpus.errors import UserError
from ser.extract.device_memory import default_frame_budget, fitted, plan
from ser.extract.devices import choose_device
from ser.extract.extractor import TRANSCRIPT, Extractor, build_extractor
from ser.extract.job import Job, full_spec, open_feature
from ser.extract.loading import load
from ser.extract.loop import Output, Report, Threads, run_batches
from ser.extract.passes import joined
from ser.extract.registry import card
from ser.extract.sources import AudioSources, Sources, TextSources, ViewSources

__all__ = ["Job", "extract", "extract_together", "open_feature"]
log = logging.getLogger("ser.extract")


def extract(
    job: Job,
    device: str = "auto",
    shard: tuple[int, int] = (0, 1),
    frame_budget: float | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Report:
    """Extract what is missing; return what was extracted, what was cached, and what failed.

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
    *,
    processes: int = 1,
) -> list[Report]:
    """Extract one feature, or Whisper's frames and words in one pass; see `passes`.

    Clips are decoded and encoded once; each result is what it would be alone, to the bit.
    `processes` is how many share the device.
    """
    started = time.monotonic()
    if jobs[0].options.kind == "imported":
        return [_imported(job) for job in jobs]
    sources = sources_of(jobs[0])
    stat_hashes = sources.stat_hashes()
    parts = [_JobState(job, sources, stat_hashes) for job in jobs]
    for part in parts:
        part.restore(device)
        part.require_input()
        log.debug("%s: %d to extract", part.report.folder, len(part.wanted))
    busy = [part for part in parts if part.wanted]
    idle = False
    if busy:
        device = _device_of(jobs[0], device)
        extractor = joined([part.extractor for part in busy])
        sizes = sources.sizes()
        batches = plan(extractor, sizes, frame_budget or default_frame_budget(device))
        wanted: set[str] = set().union(*(part.wanted for part in busy))
        mine = [batch for batch in batches[shard[0] :: shard[1]] if not wanted.isdisjoint(batch)]
        if not extractor.whole:
            mine = [[u for u in batch if u in wanted] for batch in mine]
        log.debug("%d of %d batches, in shard %d of %d", len(mine), len(batches), *shard)
        if mine:
            extractor.many_batches = len(mine) > 1
            load(extractor, busy[0].job.name, device)
            if frame_budget is None:
                mine = fitted(extractor, mine, sizes, device, processes)
            with ExitStack() as stack:
                outputs = [
                    Output(stack.enter_context(part.writer(shard_bytes)), part.wanted, part.report)
                    for part in busy
                ]
                threads = Threads.on(device)
                run_batches(extractor, sources, mine, outputs, stat_hashes, threads=threads)
        idle = bool(batches) and not mine  # a shard beyond the last batch
    for part in parts:
        part.finish(sources.unusable, time.monotonic() - started, idle)
    return [part.report for part in parts]


class _JobState:
    """One job of an extraction: what is cached of it, what is missing, where it is written."""

    def __init__(self, job: Job, sources: Sources, stat_hashes: dict[str, int]) -> None:
        self.job = job
        self.spec, weights = full_spec(job)
        self.kind = job.cache_class
        self.opened = self.kind.existing(job.cache, job.name, self.spec)
        self.sources, self.stat_hashes = sources, stat_hashes
        self.report = Report(job.name, f"{job.cache}/{job.name}/{fingerprint(self.spec)}")
        self.extractor = build_extractor(job.options, weights)
        self._count()

    def _count(self) -> None:
        """See what is cached, and what is missing of what can be extracted.

        A cached clip whose audio cannot be read now (it was moved, a disk is not mounted) stays
        cached: training needs the frames alone.
        """
        index = None if self.opened is None else self.opened.index(ordered=False)
        self.wanted = missing(index, self.stat_hashes, self.sources.content_hash)
        stored = set() if index is None else set(index["utterance"])
        self.cached = stored.intersection(self.sources.utterances) - self.wanted
        self.cached -= self.sources.damaged.keys()
        self.report.cached = len(self.cached)

    def require_input(self) -> None:
        """Raise `UserError` when what is missing cannot be read.

        That is audio of a folder whose variable is not set, or transcripts of a file that does not
        exist.
        """
        audio = self.extractor.reads == "audio" and VARIABLE.search(str(self.job.audio))
        if not audio and self.extractor.reads != "file":
            return
        failed = set() if self.opened is None else set(self.opened.failed()["utterance"])
        complete = self.cached.union(failed).issuperset(self.sources.utterances)
        self.sources.require_file(self.job.name, self.cached, complete)
        if audio and not complete:
            require_set(self.job.audio)

    def restore(self, device: str) -> None:
        """Write the feature.json of shards that have lost theirs, so that they count again."""
        job = self.job
        if self.opened is None and self.kind.has_lost_record(job.cache, job.name, self.spec):
            load(self.extractor, job.name, _device_of(job, device))
            self._create()
            self._count()

    def _create(self) -> FeatureCache | TranscriptCache:
        """Make the folder; the extractor is loaded and knows the shape of a frame."""
        metadata = _metadata(self.job, self.extractor)
        self.opened = self.kind.create(self.job.cache, self.job.name, self.spec, metadata)
        return self.opened

    def writer(self, shard_bytes: int) -> AbstractContextManager[FeatureWriter | TranscriptWriter]:
        """Open the writer, making the folder."""
        cache = self._create()
        if isinstance(cache, FeatureCache):
            return cache.writer(self.job.options.precision, shard_bytes)
        return cache.writer()

    def finish(self, unusable: dict[str, str], seconds: float, idle: bool) -> None:
        """List what failed beside what was extracted."""
        failed = unusable | self.report.failed
        self.report.failed = {u: error for u, error in failed.items() if u not in self.cached}
        self.report.seconds = seconds
        if self.opened is None:
            if idle:
                return
            reason = next(iter(self.report.failed.values()), "the manifest is empty")
            raise UserError(f"features.{self.job.name}: no utterance can be extracted ({reason}).")
        self.opened.clean()
        self.opened.record(self.report.failed, self.cached)


def _device_of(job: Job, device: str) -> str:
    """Return where a job runs; `auto` imports torch."""
    return "cpu" if job.options.remote else choose_device(device)


def _imported(job: Job) -> Report:
    """Report which utterances of the corpus were not imported."""
    imported = FeatureCache.existing(job.cache, job.name, job.spec)
    if imported is None:
        raise UserError(
            f"features.{job.name}: nothing was imported; run `ser cache import {job.name} SOURCE`."
        )
    everyone = job.manifest.utterances()
    absent = set(everyone) - set(imported.index(ordered=False)["utterance"])
    report = Report(job.name, imported.location, cached=len(everyone) - len(absent))
    report.failed = {u: "it was not imported" for u in everyone if u in absent}
    imported.record(report.failed)
    return report


def sources_of(job: Job) -> Sources:
    """Return the sources of a job: clips, texts, or the transcripts of a file."""
    if job.extractor.reads == "file":
        from ser.extract.kinds.imported import FileSources

        return FileSources(job.manifest, job.options)
    if job.extractor.reads == "audio":
        if job.view is not None:
            return ViewSources(job.manifest, job.audio, job.view)
        return AudioSources(job.manifest, job.audio)
    utterances = job.manifest.utterances()
    feature = job.options.words_of or TRANSCRIPT
    own = job.manifest.frame[TRANSCRIPT].to_list()
    texts = own if job.transcripts is None else job.transcripts.texts(utterances)
    return TextSources(utterances, texts, feature)


def _metadata(job: Job, extractor: Extractor) -> dict[str, object]:
    listed = card(str(job.options.weights))
    metadata: dict[str, object] = {"model": job.options.pretrained}
    if extractor.gives == "frames":
        metadata["item_shape"] = list(extractor.item_shape)
        metadata["frame_rate"] = extractor.frame_rate
    if listed is not None:
        metadata["licence"] = listed.licence
        metadata["challenge"] = listed.challenge
    return metadata
