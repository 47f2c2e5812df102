"""The moving part of extraction: decode ahead, run the model, write behind.

1. Threads decode the next batches while the model works on this one.
2. A batch that does not fit the memory is halved, one that fails is run clip by clip: a bad clip is
   listed with its reason and harms no neighbour.
3. One thread casts, checks and writes what the model gave, so that the model never waits for disk.

Bounded on both sides: memory holds a few batches, whatever the size of the corpus.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ser.cache.feature_writer import FeatureWriter
from ser.cache.transcripts import TranscriptWriter
from ser.corpus.audio import AudioError
from ser.corpus.errors import UserError, plural
from ser.corpus.lookahead import ahead, batches_ahead
from ser.corpus.progress import is_shown, steps
from ser.extract.extractor import SAMPLE_RATE, Extractor, describe_class, naming_the_class
from ser.extract.sources import Sources

DECODE_THREADS = 2
AHEAD = 2  # batches decoded ahead of the model
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
) -> None:
    """Run every batch whole and write the wanted rows, all in the order of `batches`.

    With several outputs the extractor gives a tuple an utterance. An utterance that fails is listed
    in each report that wants it. Raises what the disk or the network raises.
    """
    wanted: set[str] = set().union(*(output.wanted for output in outputs))
    failed: dict[str, str] = {}
    frames_alone = len(outputs) == 1 and extractor.gives == "frames"
    proven = not frames_alone or outputs[0].report.cached > 0
    clock = _Clock(outputs, sum(map(len, batches)))

    def computed() -> Iterator[_Results]:
        nonlocal proven
        for utterances, inputs, hashes in _decoded(sources, batches, failed):
            if wanted.isdisjoint(utterances):  # all that was wanted of it cannot be decoded
                clock.done(utterances, [])
                continue
            with clock.model():
                results = list(robustly(extractor, utterances, inputs, failed))
            if not proven:
                proven = _require_frames(extractor, [result for _, result in results])
            # others of the batch were computed again only to keep the batch the same
            yield [(u, result, hashes[u]) for u, result in results if u in wanted]
            clock.done(utterances, inputs)

    with clock:
        for _ in ahead(partial(_write, outputs, stat_hashes), computed(), 1, BEHIND):
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

    def __enter__(self) -> "_Clock":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @contextmanager
    def model(self) -> Iterator[None]:
        """Count the time inside as the model's."""
        started = time.monotonic()
        yield
        for output in self._outputs:
            output.report.model_seconds += time.monotonic() - started

    def done(self, utterances: Sequence[str], inputs: Sequence[Any]) -> None:
        """Count one batch."""
        seconds = sum(len(clip) for clip in inputs if not isinstance(clip, str)) / SAMPLE_RATE
        for output in self._outputs:
            output.report.audio_seconds += seconds
        if self._bar is None:
            return
        report, elapsed = self._outputs[0].report, time.monotonic() - self._started
        nbytes = sum(getattr(output.writer, "nbytes", 0) for output in self._outputs)
        self._bar.set_postfix_str(
            f"{report.audio_seconds / elapsed:.0f} x real time, "
            f"{report.model_seconds / elapsed:.0%} in the model, {nbytes / 1e9:.2f} GB",
            refresh=False,
        )
        self._bar.update(len(utterances))


def _decoded(
    sources: Sources, batches: Sequence[Sequence[str]], failed: dict[str, str]
) -> Iterator[tuple[list[str], list[Any], dict[str, int]]]:
    """Yield each batch's inputs and content hashes, decoded ahead in threads.

    What cannot be decoded is listed as failed and left out.
    """

    def decode(utterance: str) -> tuple[Any, int] | str:
        try:
            return sources.load(utterance), sources.content_hash(utterance)
        except (AudioError, ValueError, OSError) as error:
            return str(error)
        except Exception as error:  # a decoder may raise anything
            return describe(error)

    decoded = batches_ahead(decode, batches, DECODE_THREADS, AHEAD)
    for batch, results in zip(batches, decoded, strict=True):
        inputs, hashes = [], {}
        for utterance, result in zip(batch, results, strict=True):
            if isinstance(result, str):
                failed[utterance] = result
            else:
                clip, hashes[utterance] = result
                inputs.append(clip)
        yield list(hashes), inputs, hashes


def robustly(
    extractor: Extractor, utterances: Sequence[str], inputs: Sequence[Any], failed: dict[str, str]
) -> Iterator[tuple[str, Any]]:
    """Extract a batch; halve it when memory runs out, and one by one find the clip that fails.

    Yields utterances with their results; those that `failed` gets the reason of have none. Raises
    what no other clip can help: a server that is not reached, a package that is not installed, an
    extractor that does not return one result for one clip.
    """
    if not utterances:
        return
    try:
        returned: Any = extractor.extract(inputs)
        if not isinstance(returned, Iterable):
            problem = f"returned a {type(returned).__name__}"
            raise UserError(f"{_described(extractor)} {problem}; return one result for each input.")
        results = list(returned)
        if len(results) != len(utterances):
            problem = f"returned {len(results)} results for {plural(len(utterances), 'input')}"
            kind = UserError if len(utterances) == 1 else ValueError
            raise kind(f"{_described(extractor)} {problem}; return one result for each input.")
    except UserError:
        raise
    except ImportError:
        with naming_the_class(extractor.options.kind, type(extractor), "run", "extract"):
            raise
    except SystemExit as error:
        raise UserError(
            f"{_described(extractor)} ended the program (SystemExit: {error}); raise ValueError "
            "for an input that it cannot take."
        ) from error
    except Exception as error:  # of the model's library, or of a plugin: it may be anything
        if len(utterances) == 1:
            failed[utterances[0]] = describe(error)
            return
        parts = 2 if _out_of_memory(error) else len(utterances)
        step = math.ceil(len(utterances) / parts)
        for i in range(0, len(utterances), step):
            yield from robustly(extractor, utterances[i : i + step], inputs[i : i + step], failed)
        return
    for utterance, result in zip(utterances, results, strict=True):
        if isinstance(result, Exception):
            failed[utterance] = describe(result)
        else:
            yield utterance, result


def _require_frames(extractor: Extractor, results: Sequence[Any]) -> bool:
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
        f"{_described(extractor)} returned {kind}; return float32 arrays (frames, "
        f"{', '.join(map(str, shape))}), as its item_shape is {shape}."
    )


def _described(extractor: Extractor) -> str:
    return describe_class(extractor.options.kind, type(extractor))


def describe(error: Exception) -> str:
    """Return the type and the first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True
    return False
