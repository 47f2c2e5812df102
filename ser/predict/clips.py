"""Clips decoded, and segmented where they are long.

A clip of up to 30 s is one piece, as it was in training. Longer audio, and any with `timeline`, is
segmented at speech (`ser.predict.speech`), or without silero-vad into overlapping windows; where
turns of speakers are given, they are the pieces of any clip. It is read in blocks, so that memory
holds a minute of it, however long it is.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import numpy as np

from ser.corpus import audio
from ser.corpus.audio import SAMPLE_RATE, ChannelPower
from ser.corpus.errors import AudioError, UserError, plural
from ser.corpus.signal import SignalMeter, SignalProblem
from ser.predict.result import Segment
from ser.predict.sources import read_source
from ser.predict.speech import silero, speech_parts
from ser.predict.turn_files import Turn
from ser.predict.turns import TOLERANCE, Turns, cut_turns
from ser.version import install

Cut = Literal["auto", "speech", "windows"]

WHOLE = 30.0  # s; a clip up to this is one piece
BRIEF = 0.25  # s; a syllable: a shorter clip has a note and is unsure
SHORTEST = SAMPLE_RATE // 40  # samples of a turn or another piece, as of a clip
THREADS, AHEAD = 2, 4  # that decode, and clips decoded ahead


@dataclass(frozen=True)
class Segmentation:
    """How audio is segmented: `auto` is at speech where silero-vad is installed, else windows.

    `window` and `hop` are in seconds; `timeline` segments short audio too. With `turns` the
    segments are the turns of the recording.
    """

    timeline: bool = False
    cut: Cut = "auto"
    window: float = 10.0
    hop: float = 5.0
    turns: Turns | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.window <= WHOLE or not 0.1 <= self.hop <= self.window:
            raise UserError(
                f"window {self.window:g} and hop {self.hop:g}: give a window of 1 to 30 s and a "
                "hop of 0.1 s up to the window."
            )
        if self.cut == "speech" and silero() is None:
            raise UserError(
                f"cut: silero-vad is not installed; run `{install('vad')}`, or choose windows."
            )

    def pieces(self, blocks: Iterable[np.ndarray], path: str = "") -> "Iterator[Piece]":
        """Segment a stream of samples at 16 kHz; digital silence gives no piece."""
        at_speech = self.cut == "speech" or (self.cut == "auto" and silero() is not None)
        parts: Iterator[tuple[int, np.ndarray, str | None]]
        if self.turns is not None:
            parts = cut_turns(blocks, self.turns.of(path))
        else:
            parts = speech_parts(blocks) if at_speech else self._windows(blocks)
        return (Piece.at(*part) for part in parts if part[1].any() and len(part[1]) >= SHORTEST)

    def _windows(self, blocks: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray, None]]:
        window, hop = round(self.window * SAMPLE_RATE), round(self.hop * SAMPLE_RATE)
        buffer, start, covered = np.empty(0, np.float32), 0, 0
        for block in blocks:
            buffer = np.concatenate([buffer, block])
            while len(buffer) >= window:
                yield start, buffer[:window], None
                covered, start, buffer = start + window, start + hop, buffer[hop:]
        if start + len(buffer) > covered:
            yield start, buffer, None


@dataclass(frozen=True)
class Piece:
    """The samples `(samples,)` at 16 kHz from `start` to `end`, in seconds.

    `speaker` is None where not known.
    """

    start: float
    end: float
    wave: np.ndarray
    speaker: str | None = None

    @classmethod
    def at(cls, sample: int, wave: np.ndarray, speaker: str | None = None) -> "Piece":
        """Return the piece that begins at a sample."""
        return cls(sample / SAMPLE_RATE, (sample + len(wave)) / SAMPLE_RATE, wave, speaker)


@dataclass
class Clip:
    """An opened clip; `seconds` and `notes` are known when its pieces have been read.

    The predictor adds the `segments`.
    """

    path: str
    pieces: Iterator[Piece]
    seconds: float = 0.0
    segments: list[Segment] = field(default_factory=list)
    error: str = ""
    refused: bool = False  # for what was read last: damage, or turns beyond the end
    meter: SignalMeter = field(default_factory=SignalMeter)
    channels: ChannelPower = field(default_factory=ChannelPower)
    given: Turns | None = None

    @property
    def turns(self) -> Sequence[Turn]:
        """Return its turns; none where they are not given."""
        return () if self.given is None else self.given.of(self.path)

    def check_turns(self) -> None:
        """Refuse the clip, which has been read, where a turn begins after its end."""
        beyond = "" if self.given is None else self.given.beyond(self.path, self.seconds)
        if beyond and not self.error:
            self.error, self.refused = beyond, True

    def counted(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass blocks on, count their seconds and measure them."""
        for block in blocks:
            self.seconds += len(block) / SAMPLE_RATE
            self.meter.add(block)
            yield block

    @property
    def problems(self) -> list[SignalProblem]:
        """Return why the signal is not usable as speech; none for speech."""
        return self.meter.problems(self.channels.powers)

    def notes(self) -> list[str]:
        """Return what is wrong with the clip, a sentence each."""
        notes = [problem.sentence for problem in self.problems]
        if self.seconds < BRIEF:
            notes.append(
                f"The clip is only {self.seconds:.2f} s long, too short for a reliable prediction."
            )
        return [*notes, *self._turn_notes()]

    def _turn_notes(self) -> Iterator[str]:
        beyond = sum(turn.end > self.seconds + TOLERANCE for turn in self.turns)
        if beyond:
            yield (
                f"{self._turns(beyond, 'ends', 'end')} after the audio, which is "
                f"{self.seconds:.1f} s long: are they of this file?"
            )
        lengths = [
            round((min(turn.end, self.seconds) - turn.start) * SAMPLE_RATE) for turn in self.turns
        ]
        left_out = sum(samples < SHORTEST for samples in lengths)
        if left_out:
            yield f"{self._turns(left_out, 'is', 'are')} shorter than 0.025 s and left out."
        brief = sum(SHORTEST <= samples < BRIEF * SAMPLE_RATE for samples in lengths)
        if brief:
            yield (
                f"{self._turns(brief, 'is', 'are')} shorter than {BRIEF:g} s, too short for a "
                "reliable prediction."
            )

    def _turns(self, count: int, one: str, several: str) -> str:
        return f"{plural(count, 'turn')} of {len(self.turns)} {one if count == 1 else several}"


def open_clip(source: object, segmentation: Segmentation) -> Clip:
    """Decode a clip, a long one as far as needed to stream the rest.

    `source` is in one of the forms of `ser.predict.sources`; what is wrong with it is in `error`.
    """
    given = read_source(source)
    clip = Clip(given.name, iter(()), error=given.error, channels=given.channels)
    if clip.error:
        return clip
    try:
        if given.file is None:
            assert given.wave is not None
            if not np.isfinite(given.wave).all():  # which resampling would spread
                raise AudioError("contains NaN or infinite samples")
            wave = audio.at_16_khz(given.wave, given.rate)
            audio.check_signal(wave, clip.channels)
            seconds, blocks = len(wave) / SAMPLE_RATE, iter([wave])
        else:
            # the header's length is not trusted: a clip is short when it ends in the first block
            stream = audio.blocks(given.file, WHOLE + 1, channels=clip.channels)
            first = next(stream, np.empty(0, np.float32))
            seconds, blocks = len(first) / SAMPLE_RATE, chain([first], stream)
            if seconds <= WHOLE:
                audio.check_signal(first, clip.channels)
    except AudioError as error:
        clip.error = str(error)
        return clip
    blocks, turns = clip.counted(blocks), segmentation.turns
    if turns is not None and not turns.of(clip.path):
        clip.error = turns.missing(clip.path)
    elif turns is None and seconds <= WHOLE and not segmentation.timeline:
        clip.pieces = (Piece.at(0, wave) for wave in blocks)
    else:
        clip.pieces = segmentation.pieces(blocks, clip.path)
    clip.given = turns
    return clip


def read_pieces(clips: Iterable[Clip]) -> Iterator[tuple[Clip, Piece | None]]:
    """Yield the pieces of each clip and, after its last, None."""
    for clip in clips:
        try:
            for piece in clip.pieces:
                yield clip, piece
        except AudioError as error:
            clip.error, clip.refused = str(error), True
        clip.check_turns()
        yield clip, None
