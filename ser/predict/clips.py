"""Clips to be heard: decoded, and cut where they are long.

A clip of up to 30 s is one piece, as it was in training. Longer audio, and any with `timeline`, is
cut at speech by silero-vad, or without it into windows that overlap; it is read by blocks, so that
memory holds a minute of it, however long it is.

At speech: every 32 ms silero-vad (Silero Team 2024) says how sure it is of speech. A piece begins
where that reaches 0.5 and ends where it stays below 0.35 for 0.3 s; it keeps 0.1 s on both sides,
is dropped when its speech is under 0.25 s, and cut at its least sure moment when it reaches 15 s.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from corpus import audio
from corpus.audio import SAMPLE_RATE, AudioError
from corpus.errors import UserError

Source = str | Path | tuple[np.ndarray, int]  # a file, or samples and their rate
Cut = Literal["auto", "speech", "windows"]

WHOLE = 30.0  # s; what is one piece
THREADS, AHEAD = 2, 4  # that decode, and clips decoded ahead
CHUNK = 512  # samples silero-vad hears at a time
SPEECH, SILENCE = 0.5, 0.35
PAUSE, PAD = 10, 3  # chunks: 0.3 s and 0.1 s
SHORT, LONG = 8, 15 * SAMPLE_RATE // CHUNK  # chunks: 0.25 s and 15 s

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Cutting:
    """Say how audio is cut: `auto` is at speech where silero-vad is installed, else windows.

    `window` and `hop` are in seconds; `timeline` cuts short audio too.
    """

    timeline: bool = False
    cut: Cut = "auto"
    window: float = 10.0
    hop: float = 5.0

    def __post_init__(self) -> None:
        if not 1 <= self.window <= WHOLE or not 0.1 <= self.hop <= self.window:
            raise UserError(
                f"window {self.window:g} and hop {self.hop:g}: give a window of 1 to 30 s and a "
                "hop of 0.1 s up to the window."
            )
        if self.cut == "speech" and not _silero():
            raise UserError(
                "cut: silero-vad is not installed; run `pip install 'ser[vad]'`, or cut by windows."
            )

    def pieces(self, blocks: Iterable[np.ndarray]) -> "Iterator[Piece]":
        """Cut a stream of samples at 16 kHz; digital silence gives no piece."""
        at_speech = self.cut == "speech" or (self.cut == "auto" and _silero())
        found = at_speech_of(blocks) if at_speech else self._windows(blocks)
        return (piece for piece in found if piece.wave.any() and piece.end - piece.start >= 0.025)

    def _windows(self, blocks: Iterable[np.ndarray]) -> "Iterator[Piece]":
        window, hop = round(self.window * SAMPLE_RATE), round(self.hop * SAMPLE_RATE)
        held, start, seen = np.empty(0, np.float32), 0, 0
        for block in blocks:
            held = np.concatenate([held, block])
            while len(held) >= window:
                yield Piece.at(start, held[:window])
                seen, start, held = start + window, start + hop, held[hop:]
        if start + len(held) > seen:
            yield Piece.at(start, held)


@dataclass(frozen=True)
class Piece:
    """Hold the samples `(samples,)` at 16 kHz from `start` to `end`, in seconds."""

    start: float
    end: float
    wave: np.ndarray

    @classmethod
    def at(cls, sample: int, wave: np.ndarray) -> "Piece":
        """Return the piece that begins at a sample."""
        return cls(sample / SAMPLE_RATE, (sample + len(wave)) / SAMPLE_RATE, wave)


@dataclass
class Clip:
    """Hold a clip that was opened; `seconds` are known when its pieces have been read."""

    path: str
    pieces: Iterator[Piece]
    seconds: float = 0.0
    error: str = ""
    damaged: bool = False  # somewhere behind what could be read

    def counted(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass blocks on and count their seconds."""
        for block in blocks:
            self.seconds += len(block) / SAMPLE_RATE
            yield block


def open_clip(source: Source, cutting: Cutting) -> Clip:
    """Decode a clip, or a long one up to where it can be streamed.

    What is wrong with it is in its `error`. Raises `UserError` for what is no clip at all.
    """
    clip = Clip("", iter(()))
    try:
        if isinstance(source, tuple):
            wave = _at_16_khz(*source)
            audio.check_signal(wave)
            seconds, blocks = len(wave) / SAMPLE_RATE, iter([wave])
        else:
            clip.path = str(source)
            seconds = audio.duration(source)
            whole = seconds <= WHOLE
            # a header may say too little: then what is beyond is not heard, and memory stays small
            blocks = iter([audio.load(source, None, WHOLE + 1)]) if whole else audio.blocks(source)
    except AudioError as error:
        clip.error = str(error)
        return clip
    blocks = clip.counted(blocks)
    whole = seconds <= WHOLE and not cutting.timeline
    clip.pieces = (Piece.at(0, wave) for wave in blocks) if whole else cutting.pieces(blocks)
    return clip


def ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Yield what `make` makes of each item, in order, a few made ahead by threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[Made]] = deque()
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _at_16_khz(samples: Any, rate: int) -> np.ndarray:
    """Return `(samples,)` of samples or `(samples, channels)`; integers by their full scale."""
    signal = np.asarray(samples)
    if signal.ndim not in (1, 2) or signal.dtype.kind not in "fi" or rate <= 0:
        raise UserError(
            f"an array of shape {signal.shape} and {signal.dtype} at {rate} Hz: give (samples,) or "
            "(samples, channels), of floats of full scale 1 or signed integers, and their rate."
        )
    scale = 1.0 if signal.dtype.kind == "f" else -float(np.iinfo(signal.dtype).min)
    mono = signal if signal.ndim == 1 else signal.mean(axis=1)
    wave = np.ascontiguousarray(mono / scale, dtype=np.float32)
    return audio.at_16_khz(wave, rate)


def at_speech_of(blocks: Iterable[np.ndarray]) -> Iterator[Piece]:
    """Yield the pieces of a stream that hold speech, cut at its pauses."""
    hear = _listener()
    held, start, sure = np.empty(0, np.float32), 0, np.empty(0)
    for block in blocks:
        held = np.concatenate([held, block])
        sure = np.concatenate([sure, hear(held[len(sure) * CHUNK :])])
        spans, rest = speech_spans(sure)
        yield from (Piece.at(start + a * CHUNK, held[a * CHUNK : b * CHUNK]) for a, b in spans)
        held, sure, start = held[rest * CHUNK :], sure[rest:], start + rest * CHUNK
    spans, _ = speech_spans(np.concatenate([sure, np.zeros(PAUSE)]))
    yield from (Piece.at(start + a * CHUNK, held[a * CHUNK : b * CHUNK]) for a, b in spans)


def speech_spans(sure: np.ndarray) -> tuple[list[tuple[int, int]], int]:
    """Return the spans of speech that have ended, in chunks, and from where to look on."""
    spans: list[tuple[int, int]] = []
    begun, last = -1, -1  # of the speech that has not ended: first chunk, last that was sure
    floor = 0  # no span begins before
    for i, chance in enumerate(sure):
        if begun < 0 and chance >= SPEECH:
            begun, last = i, i
        elif begun >= 0 and chance >= SILENCE:
            last = i
        if begun < 0:
            continue
        if i - last >= PAUSE:
            if last + 1 - begun >= SHORT:
                spans.append((max(floor, begun - PAD), last + 1 + PAD))
            floor, begun = last + 1 + PAD, -1
        elif i + 1 - begun >= LONG:
            middle = begun + LONG // 2
            at = middle + int(np.argmin(sure[middle : i + 1]))
            spans.append((max(floor, begun - PAD), at))
            floor, begun = at, at
    open_from = begun if begun >= 0 else len(sure)
    return spans, max(floor, open_from - PAD, 0)


@cache
def _silero() -> Path | None:
    """Return the model's file in its package, None where that is not installed.

    The package is not imported: that would set the threads of torch for the whole process.
    """
    spec = find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / "data" / "silero_vad.jit"
    return path if path.is_file() else None


def _listener() -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that says of each whole chunk that it hears how sure of speech it is.

    It remembers what it heard before.
    """
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.load(str(_silero()), map_location="cpu").eval()

    def hear(wave: np.ndarray) -> np.ndarray:
        chunks = torch.from_numpy(wave[: len(wave) // CHUNK * CHUNK].copy()).view(-1, CHUNK)
        with torch.inference_mode():
            return np.array([float(model(chunk, SAMPLE_RATE)) for chunk in chunks])

    return hear
