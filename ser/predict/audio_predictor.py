"""What every predictor does with audio, whatever it predicts with.

1. Decode clips in threads, segment long ones, and collect up to two minutes of audio.
2. Extract the features, and classify.
3. Join the segments of each clip to its result.

Every thread may predict: the models serve one at a time, and decoding goes on meanwhile.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack, cast, overload

import numpy as np

from ser.corpus.errors import UserError
from ser.corpus.lookahead import ahead
from ser.extract.device_memory import default_frame_budget
from ser.predict.attention import Pooling, explain_clip
from ser.predict.clips import AHEAD, THREADS, Clip, Cut, Piece, Segmentation, open_clip, read_pieces
from ser.predict.features import Extracted, LiveFeatures
from ser.predict.joining import is_unsure, join
from ser.predict.result import Failure, Result, Segment
from ser.predict.sources import Source, is_clip, read_source
from ser.predict.turns import Turns, TurnsSource

FRAMES_A_SECOND = 50
NOT_FINITE = "a head's output for it is not finite"


@dataclass(frozen=True)
class Prediction:
    """The prediction for one segment; the fields are those of `Segment`."""

    emotion: str | None
    probabilities: dict[str, float]
    attributes: dict[str, float]
    heads: dict[str, dict[str, float]]


class StreamOptions(TypedDict, total=False):
    """The options of `AudioPredictor.stream`, which describes them."""

    timeline: bool
    explain: bool
    one_speaker: bool
    turns: TurnsSource | None
    cut: Cut
    window: float
    hop: float


class AudioPredictor(ABC):
    """Base of a trained run and of a published classifier: from clips to results.

    Args:
        source: where it was read from, or the name of its model.
        features: the extraction of what it reads, on its device.
        classes: what it predicts; empty for attributes alone.
        attributes: what it rates; empty for classes alone.
        min_confidence: the highest probability below which a result is `unsure`, 0 to 1; None for
            none. Raises `UserError` for one without classes.
        notes: sentences that every result carries.
        summary: a sentence about the model, shown once; None without one.
    """

    def __init__(
        self,
        source: Path,
        features: LiveFeatures,
        classes: Sequence[str],
        attributes: Sequence[str],
        *,
        min_confidence: float | None = None,
        notes: Sequence[str] = (),
        summary: str | None = None,
    ) -> None:
        if min_confidence is not None and not classes:
            raise UserError(
                f"{source}: it predicts no classes, so there is no confidence; leave "
                "min_confidence out."
            )
        self.source, self.features = source, features
        self.classes, self.attributes = tuple(classes), tuple(attributes)
        self.min_confidence, self.notes, self.summary = min_confidence, tuple(notes), summary
        self._lock = threading.Lock()

    @property
    def device(self) -> str:
        """Return where the models run."""
        return self.features.device

    @property
    def by_speaker(self) -> bool:
        """Return whether a result depends on who speaks in other clips."""
        return False

    @abstractmethod
    def _classify(
        self, clips: Sequence[Extracted], speakers: Sequence[Hashable]
    ) -> Sequence[Prediction | None]:
        """Return the prediction for each clip, None where an output is NaN or infinite."""

    def _attention(
        self, clips: Sequence[Extracted], speakers: Sequence[Hashable]
    ) -> Sequence[Pooling]:
        """Return the weights of attention pooling for each clip."""
        return [{} for _ in clips]

    def load(self) -> None:
        """Load every model now instead of with the first clip."""
        with self._lock:
            self.features.load()

    @overload
    def __call__(  # type: ignore[overload-overlap]  # text is a sequence of text
        self, clips: Source, **options: Unpack[StreamOptions]
    ) -> Result: ...

    @overload
    def __call__(
        self, clips: Sequence[Source], **options: Unpack[StreamOptions]
    ) -> list[Result]: ...

    @overload
    def __call__(
        self, clips: Iterator[Source], **options: Unpack[StreamOptions]
    ) -> Iterator[Result]: ...

    def __call__(
        self, clips: Source | Iterable[Source], **options: Unpack[StreamOptions]
    ) -> Result | list[Result] | Iterator[Result]:
        """Return the result for one clip, a list for a list, a generator for any other iterable.

        Args:
            clips: one clip or several; a clip is a path, the bytes of a file, an open file,
                (samples, rate), or a mapping with `array` and `sampling_rate`.
            **options: those of `stream`.

        Raises `UserError` for a clip that cannot be used.
        """
        if is_clip(clips):
            return _require_result(next(self.stream([cast("Source", clips)], **options)))
        several = cast("Iterable[Source]", clips)
        results = map(_require_result, self.stream(several, **options))
        return list(results) if isinstance(clips, Sequence) else results

    def stream(
        self,
        clips: Iterable[Source],
        *,
        timeline: bool = False,
        explain: bool = False,
        one_speaker: bool = False,
        turns: TurnsSource | None = None,
        cut: Cut = "auto",
        window: float = 10.0,
        hop: float = 5.0,
    ) -> Iterator[Result | Failure]:
        """Yield a result for each clip in order, or a failure for one that cannot be used.

        Args:
            clips: the clips, in the forms that calling the predictor takes.
            timeline: segment short clips too.
            explain: add the attention of the heads.
            one_speaker: all clips are of one speaker, which heads with `normalize: speaker` use;
                they are then all held in memory. Without it such a head compares each segment with
                itself alone.
            turns: who speaks when: an RTTM or CSV file, in which a clip is found by its file name
                without suffix, or for one clip a JSON file of WhisperX or a list of (start, end,
                speaker), in seconds, the speaker None where not known. The turns are the segments,
                and heads with `normalize: speaker` use the speakers of each clip, which is then
                held in memory.
            cut: how long audio is segmented: `speech` (at pauses, by silero-vad), `windows`, or
                `auto`, which is speech where silero-vad is installed.
            window: the length of a window in seconds, 1 to 30.
            hop: from the start of one window to the next, in seconds.

        Clips are collected up to two minutes of audio, so the first result of many comes when that
        much has been read. Raises `UserError` for a model that is absent, for turns that
        cannot be read, and for `one_speaker` together with `turns`.
        """
        if one_speaker and turns is not None:
            raise UserError("one_speaker and turns are both given; give one of them.")
        speech = None if turns is None else Turns.read(turns)
        segmentation = Segmentation(timeline, cut, window, hop, speech)
        budget = default_frame_budget(self.device) / FRAMES_A_SECOND  # s
        collected: list[tuple[Clip, Piece | None]] = []
        sources = map(read_source, clips)
        opened = ahead(lambda s: open_clip(s, segmentation), sources, THREADS, AHEAD)
        seconds = 0.0
        for clip, piece in read_pieces(opened):
            collected.append((clip, piece))
            seconds += 0 if piece is None else piece.end - piece.start
            # the statistics of a speaker need all of their speech
            needs_more = self.by_speaker and (one_speaker or (speech and piece is not None))
            if seconds >= budget and not needs_more:
                yield from self._results(collected, explain, one_speaker)
                collected, seconds = [], 0.0
        yield from self._results(collected, explain, one_speaker)

    def _results(
        self, entries: Sequence[tuple[Clip, Piece | None]], explain: bool, one_speaker: bool
    ) -> Iterator[Result | Failure]:
        """Predict pieces; yield the result of each clip whose last piece is among them."""
        pieces = [(clip, piece) for clip, piece in entries if piece is not None]
        if pieces:
            self._predict(pieces, explain, one_speaker)
        for clip, piece in entries:
            if piece is None:
                yield self._result(clip)

    def _result(self, clip: Clip) -> Result | Failure:
        """Return the result of a clip whose segments are complete."""
        if clip.refused or not clip.segments:
            nothing = "no turn has 0.025 s of sound" if clip.turns else "no speech was found"
            return Failure(clip.path, clip.error or nothing)
        return join(
            clip.path,
            clip.seconds,
            clip.segments,
            [*self.notes, *clip.notes()],
            self.min_confidence,
            unusable=bool(clip.problems),
        )

    def _predict(
        self, pieces: Sequence[tuple[Clip, Piece]], explain: bool, one_speaker: bool
    ) -> None:
        """Add the segment of each piece to its clip, or the reason that there is none."""
        with self._lock:
            extracted = self.features.extract([piece.wave for _, piece in pieces])
            usable: list[Extracted] = []
            speakers: list[Hashable] = []
            for (clip, piece), features in zip(pieces, extracted, strict=True):
                if isinstance(features, Extracted):
                    usable.append(features)
                    speakers.append(_speaker(clip, piece, one_speaker))
            predictions = iter(self._classify(usable, speakers) if usable else [])
            pooling = iter(self._attention(usable, speakers) if explain else [{} for _ in usable])
            for (clip, piece), features in zip(pieces, extracted, strict=True):
                if isinstance(features, str):
                    clip.error = clip.error or features
                    continue
                prediction, weights = next(predictions), next(pooling)
                if prediction is None:
                    clip.error = clip.error or NOT_FINITE
                else:
                    clip.segments.append(self._segment(piece, features, prediction, weights))

    def _segment(
        self, piece: Piece, features: Extracted, prediction: Prediction, pooling: Pooling
    ) -> Segment:
        transcript = next(iter(features.words.values()), None)
        attention, words = explain_clip(self.features, features, pooling, piece.start)
        return Segment(
            start=piece.start,
            end=piece.end,
            **vars(prediction),
            transcript=None if transcript is None else transcript.text,
            attention=attention,
            words=words,
            unsure=is_unsure(prediction.probabilities, self.min_confidence),
            speaker=piece.speaker,
        )


def by_name(names: Sequence[str], values: np.ndarray | None, row: int) -> dict[str, float]:
    """Return a row of `(clips, names)` by name; nothing without values."""
    return {} if values is None else dict(zip(names, values[row].tolist(), strict=True))


def _speaker(clip: Clip, piece: Piece, one_speaker: bool) -> Hashable:
    """Return what is equal for the pieces of one speaker; a speaker of turns is one of a clip."""
    if one_speaker:
        return None
    return id(piece) if piece.speaker is None else (id(clip), piece.speaker)


def _require_result(result: Result | Failure) -> Result:
    if isinstance(result, Failure):
        if result.error.endswith("."):  # a sentence with its remedy
            raise UserError(f"{result.path}: {result.error}" if result.path else result.error)
        raise UserError(f"{result.path or 'the clip'}: {result.error}; give another clip.")
    return result
