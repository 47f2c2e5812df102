"""The moving part of extraction: decode ahead, run the model, write behind.

1. Threads decode the next batches while the model works on this one, and one thread (several for a
   GPU) turns the very next into the model's inputs. Several batches run at once where that pays:
   some models on a CPU, and a GPU, for its copies (`ser.extract.gpu`).
2. A bad clip is listed with its reason and harms no neighbour (`ser.extract.batch`).
3. One thread casts, checks and writes what the model gave, so that the model never waits for disk.

Bounded on both sides: memory holds a few batches, whatever the size of the corpus.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ser.cache.feature_writer import FeatureWriter
from ser.cache.transcripts import TranscriptWriter
from ser.corpus.errors import AudioError, UserError
from ser.corpus.lookahead import ahead, batches_ahead
from ser.corpus.machine import cores
from ser.corpus.progress import is_shown, steps
from ser.extract.batch import describe, described, prepared, robustly
from ser.extract.devices import device_type
from ser.extract.extractor import SAMPLE_RATE, Extractor
from ser.extract.sources import Sources

MOST_THREADS = 8
AHEAD = 2  # batches decoded ahead of the model
READY = 1  # batches of the model's inputs ahead of it, a thread that prepares them
BEHIND = 2  # batches waiting to be written
_Results = list[tuple[str, Any, int]]  # utterance, frames or transcript, content hash


@dataclass
class Report:
    """The result of one extraction; seconds are of wall time."""

    name: str
    folder: str  # or a URL
    cached: int = 0
    extracted: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    doubtful: dict[str, str] = field(default_factory=dict)  # extracted, and hardly speech
    overflowed: int = 0  # utterances kept as float32 because float16 cannot hold them
    seconds: float = 0.0
    model_seconds: float = 0.0
    audio_seconds: float = 0.0  # of what was extracted; 0 for text


@dataclass(frozen=True)
class Threads:
    """How many threads decode, and how many prepare a batch each."""

    decode: int = 2
    prepare: int = 1

    @classmethod
    def on(cls, device: str) -> "Threads":
        """Return those of a device.

        A GPU takes clips faster than one thread computes their log-mels.
        """
        if device_type(device) != "cuda":
            return cls()
        count = min(MOST_THREADS, cores())
        return cls(max(2, count), count)


@dataclass(frozen=True)
class Output:
    """Where one result of an extractor is written, and for which utterances."""

    writer: FeatureWriter | TranscriptWriter
    wanted: set[str]
    report: Report


def run_batches(
    extractor: Extractor,
    sources: Sources,
    batches: Sequence[Sequence[str]],
    outputs: Sequence[Output],
    stat_hashes: Mapping[str, int],
    *,
    threads: Threads = Threads(),
) -> None:
    """Run every batch whole and write the wanted rows, all in the order of `batches`.

    With several outputs the extractor gives a tuple an utterance. An utterance that fails is listed
    in each report that wants it. Raises what the disk or the network raises.
    """
    wanted: set[str] = set().union(*(output.wanted for output in outputs))
    failed: dict[str, str] = {}
    proven = len(outputs) > 1 or extractor.gives != "frames" or outputs[0].report.cached > 0

    def computed() -> Iterator[_Results]:
        nonlocal proven
        run = _run(extractor, sources, batches, wanted, failed, threads=threads)
        for batch, results, seconds in run:
            if not proven:
                proven = _require_frames(extractor, [result for _, result in results])
            # others of the batch were computed again only to keep the batch the same
            yield [(u, result, batch.hashes[u]) for u, result in results if u in wanted]
            clock.done(batch, seconds)

    write = partial(_write, outputs, stat_hashes)
    with (
        closing(_Clock(outputs, sum(map(len, batches)))) as clock,
        closing(ahead(write, computed(), 1, BEHIND, finishes=True)) as written,
    ):
        for _ in written:
            pass
    for output in outputs:
        output.report.failed |= {u: e for u, e in failed.items() if u in output.wanted}
        output.report.doubtful |= {u: d for u, d in sources.doubts.items() if u in output.wanted}
        output.report.overflowed = len(getattr(output.writer, "overflowed", ()))


def _write(outputs: Sequence[Output], stat_hashes: Mapping[str, int], results: _Results) -> None:
    for utterance, result, content_hash in results:
        for output, part in zip(outputs, result if len(outputs) > 1 else (result,), strict=True):
            if utterance not in output.wanted:
                continue
            try:
                output.writer.append(utterance, part, stat_hashes[utterance], content_hash)
            except ValueError as error:  # other frames or words than this feature has
                output.report.failed[utterance] = str(error)
            else:
                output.report.extracted += 1


class _Clock:
    """Show one live line: clips/s, times real time, share of time in the model, what is written."""

    def __init__(self, outputs: Sequence[Output], total: int) -> None:
        self._outputs = outputs
        self._started = time.monotonic()
        label = " + ".join(output.report.name for output in outputs)
        self._bar: Any = steps((), label, total, unit="clip") if is_shown() else None

    def close(self) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.close()

    def done(self, batch: "_Batch", seconds: float) -> None:
        """Count one batch, and the seconds of the model for it."""
        for output in self._outputs:
            output.report.audio_seconds += batch.seconds
            output.report.model_seconds += seconds
        if self._bar is None:
            return
        report, elapsed = self._outputs[0].report, time.monotonic() - self._started
        nbytes = sum(getattr(output.writer, "nbytes", 0) for output in self._outputs)
        self._bar.set_postfix_str(
            f"{report.audio_seconds / elapsed:.0f} x real time, "
            f"{report.model_seconds / elapsed:.0%} in the model, {nbytes / 1e9:.2f} GB",
            refresh=False,
        )
        self._bar.update(len(batch.hashes))


@dataclass(frozen=True)
class _Batch:
    """Utterances with their inputs, and of all that were decoded the hashes and the seconds."""

    utterances: list[str]
    inputs: list[object]
    hashes: dict[str, int]
    seconds: float


def _run(
    extractor: Extractor,
    sources: Sources,
    batches: Sequence[Sequence[str]],
    wanted: set[str],
    failed: dict[str, str],
    *,
    threads: Threads,
) -> Iterator[tuple[_Batch, list[tuple[str, object]], float]]:
    """Yield each batch in order, its results, and the seconds of the model, shared by its threads.

    A batch of which nothing that is wanted can be decoded has no results.
    """

    def prepare(batch: _Batch) -> _Batch:
        if wanted.isdisjoint(batch.utterances):
            return replace(batch, utterances=[], inputs=[], seconds=0.0)
        utterances, inputs = prepared(extractor, batch.utterances, batch.inputs, failed)
        return replace(batch, utterances=utterances, inputs=inputs)

    def compute(batch: _Batch) -> tuple[_Batch, list[tuple[str, object]], float]:
        started = time.monotonic()
        results = list(robustly(extractor, batch.utterances, batch.inputs, failed))
        return batch, results, (time.monotonic() - started) / at_once

    at_once = extractor.batches_at_once
    decoded = _decoded(sources, batches, failed, threads.decode)
    preparing = threads.prepare if extractor.prepares_at_once else 1
    ready = ahead(prepare, decoded, preparing, preparing * READY)
    yield from map(compute, ready) if at_once == 1 else ahead(compute, ready, at_once, at_once)


def _decoded(
    sources: Sources, batches: Sequence[Sequence[str]], failed: dict[str, str], threads: int
) -> Iterator[_Batch]:
    """Yield each batch, decoded ahead in threads.

    What cannot be decoded is listed as failed and left out.
    """

    def decode(utterance: str) -> tuple[object, int] | str:
        try:
            return sources.load(utterance), sources.content_hash(utterance)
        except (AudioError, ValueError, OSError) as error:
            return str(error)
        except Exception as error:  # a decoder may raise anything
            return describe(error)

    decoded = batches_ahead(decode, batches, threads, AHEAD)
    for batch, results in zip(batches, decoded, strict=True):
        inputs, hashes = [], {}
        for utterance, result in zip(batch, results, strict=True):
            if isinstance(result, str):
                failed[utterance] = result
            else:
                clip, hashes[utterance] = result
                inputs.append(clip)
        samples = sum(len(clip) for clip in inputs if isinstance(clip, np.ndarray))
        yield _Batch(list(hashes), inputs, hashes, samples / SAMPLE_RATE)


def _require_frames(extractor: Extractor, results: Sequence[object]) -> bool:
    """Return whether any result has the extractor's shape; raises `UserError` when none has.

    One that is not fails its clip; when the very first ones are not, it is the extractor's mistake.
    """
    shape = tuple(extractor.item_shape)
    arrays = [result for result in results if isinstance(result, np.ndarray)]
    numeric = [array for array in arrays if array.dtype != object]
    if not results or any(array.ndim and array.shape[1:] == shape for array in numeric):
        return bool(results)
    kind = f"a {type(results[0]).__name__}" if not arrays else "arrays of Python objects"
    kind = f"shape {numeric[0].shape}" if numeric else kind
    raise UserError(
        f"{described(extractor)} returned {kind}; return float32 arrays (frames, "
        f"{', '.join(map(str, shape))}), as its item_shape is {shape}."
    )
