"""What is predicted for a clip, as plain values; `frame` makes a table of results.

A clip of up to 30 s is one segment, and its prediction is that of the clip. Longer audio, and any
with `timeline`, has several segments; the clip's numbers are their mean, weighted by seconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from ser.predict.html import block, note, table

if TYPE_CHECKING:
    import polars as pl

UNSURE = "unsure"  # stands for the emotion where the confidence is too low
MOST_SEGMENTS = 20  # in a notebook
BAR = "display:inline-block;height:0.7em;background:#0f766e;width:{:.0%}"


@dataclass(frozen=True)
class Attention:
    """The attention of the heads over one feature: a weight for each frame, float64, sum 1.

    `times` are the seconds at which the frames begin, None for the tokens of a text.
    """

    weights: np.ndarray
    times: np.ndarray | None = None


@dataclass(frozen=True)
class Word:
    """A word, its share of the attention, and its start and end in seconds where known."""

    word: str
    weight: float
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Segment:
    """The prediction for the audio from `start` to `end`.

    Args:
        start: in seconds.
        end: in seconds.
        emotion: the predicted class; None where no head has classes.
        probabilities: by class; empty where no head has classes.
        attributes: arousal, valence, dominance (1 to 7); empty where no head has them.
        transcript: the words; None where no head reads words.
        heads: the probabilities by head.
        attention: by feature, with `explain`.
        words: with their share of the attention, with `explain`.
        unsure: whether the highest probability is below the predictor's `min_confidence`, or it is
            under 0.25 s long; None without one.
        speaker: who speaks, by the turns that were given; None without them, or where not known.

        >>> Segment(0.0, 1.5, "sad", {"sad": 0.9, "angry": 0.1}, {}, None, {}).emotion
        'sad'
    """

    start: float
    end: float
    emotion: str | None
    probabilities: Mapping[str, float]
    attributes: Mapping[str, float]
    transcript: str | None
    heads: Mapping[str, Mapping[str, float]]
    attention: Mapping[str, Attention] = field(default_factory=dict)
    words: Sequence[Word] = ()
    unsure: bool | None = None
    speaker: str | None = None

    @property
    def label(self) -> str | None:
        """Return the emotion, or `unsure`."""
        return UNSURE if self.unsure else self.emotion


@dataclass(frozen=True)
class Result:
    """The prediction for a clip.

    Args:
        path: the file, or "" for samples.
        seconds: the length of the clip.
        emotion: the predicted class; None where no head has classes.
        probabilities: by class; empty where no head has classes.
        attributes: arousal, valence, dominance (1 to 7); empty where no head has them.
        transcript: the words; None where no head reads words.
        heads: the probabilities by head.
        segments: the predictions for the segments.
        notes: sentences that qualify the result: what the model was trained on, or what is wrong
            with the audio.
        unsure: whether the highest probability is below the predictor's `min_confidence`, or the
            signal is not usable as speech or under 0.25 s long (a note says why); None without
            one. The emotion is the most likely class in any case.

        >>> Result("clip.wav", 1.5, "sad", {"sad": 0.9, "angry": 0.1}, {}, None, {}, [])
        Result('clip.wav', 1.5 s, sad 0.90)
    """

    path: str
    seconds: float
    emotion: str | None
    probabilities: Mapping[str, float]
    attributes: Mapping[str, float]
    transcript: str | None
    heads: Mapping[str, Mapping[str, float]]
    segments: Sequence[Segment]
    notes: tuple[str, ...] = ()
    unsure: bool | None = None

    def __repr__(self) -> str:
        if self.emotion is None:
            prediction = ", ".join(f"{name} {x:.2f}" for name, x in self.attributes.items())
        else:
            prediction = f"{self.emotion} {self.probabilities[self.emotion]:.2f}"
            prediction += ", unsure" if self.unsure else ""
        segments = f", {len(self.segments)} segments" if len(self.segments) > 1 else ""
        notes = "".join(f", note: {text}" for text in self.notes)
        return f"Result({self.path!r}, {self.seconds:.1f} s, {prediction}{segments}{notes})"

    def _repr_html_(self) -> str:
        return _html(self)

    @property
    def label(self) -> str | None:
        """Return the emotion, or `unsure`."""
        return UNSURE if self.unsure else self.emotion

    @property
    def attention(self) -> Mapping[str, Attention]:
        """Return that of the only segment; of several, each has its own."""
        return self.segments[0].attention if len(self.segments) == 1 else {}

    @property
    def words(self) -> Sequence[Word]:
        """Return the words of all segments."""
        return [word for segment in self.segments for word in segment.words]

    @property
    def agreeing(self) -> list[str]:
        """Name the heads whose most probable class is the emotion."""
        return [name for name, p in self.heads.items() if most_probable(p) == self.emotion]


@dataclass(frozen=True)
class Failure:
    """A clip that cannot be used, and why.

    Args:
        path: the file, or "" for samples.
        error: the reason, in one line.

        >>> import ser
        >>> next(ser.load("runs/mine").stream(["absent.wav"]))
        Failure(path='absent.wav', error='no such file')
    """

    path: str
    error: str


def names_speakers(segments: Iterable[Segment]) -> bool:
    """Return whether the speaker of any segment is known."""
    return any(segment.speaker is not None for segment in segments)


def most_probable(probabilities: Mapping[str, float]) -> str | None:
    """Return the class with the highest probability, the first of equal ones."""
    return max(probabilities, key=lambda name: probabilities[name], default=None)


def _html(result: Result) -> str:
    """Return the probabilities, attributes, segments and notes of a result."""
    title = f"<b>{escape(result.path or 'clip')}</b>, {result.seconds:.1f} s"
    if result.emotion is not None:
        title += f": <b>{escape(result.label or '')}</b>"
    parts = [f"<p>{title}</p>"]
    if result.probabilities:
        ranked = sorted(result.probabilities.items(), key=lambda item: -item[1])
        bars = (
            (escape(name), f"{value:.2f}", f'<span style="{BAR.format(value)}"></span>')
            for name, value in ranked
        )
        parts.append(table(("emotion", "probability", ""), bars, wide=True))
    if result.attributes:
        rows = ((escape(name), f"{value:.2f}") for name, value in result.attributes.items())
        parts.append(table(("attribute", "1 to 7"), rows))
    if result.transcript:
        parts.append(f"<p>“{escape(result.transcript)}”</p>")
    if len(result.segments) > 1:
        parts.append(_segments_html(result))
    parts += map(note, result.notes)
    return block(parts)


def _segments_html(result: Result) -> str:
    speakers = names_speakers(result.segments)
    rows: list[Sequence[str]] = [
        (
            f"{segment.start:.1f} to {segment.end:.1f} s",
            *([escape(segment.speaker or "")] if speakers else []),
            escape(segment.label or ""),
            escape(segment.transcript or ""),
        )
        for segment in result.segments[:MOST_SEGMENTS]
    ]
    more = len(result.segments) - len(rows)
    head = ("segment", *(["speaker"] if speakers else []), "emotion", "transcript")
    rows += [(f"and {more} more", *[""] * (len(head) - 1))] if more else []
    return table(head, rows)


def frame(results: Iterable[Result], segments: bool = False) -> "pl.DataFrame":
    """Return a polars table of results.

    Args:
        results: the results, a row each.
        segments: a row for each segment instead.

    Columns: path; start and end (s), or seconds; speaker of segments, where one is known; emotion;
    unsure (true or false) where the predictor has a `min_confidence`; p.<class>; the attributes;
    transcript; notes, those of the clip joined by spaces.

        >>> import ser
        >>> frame(ser.load("runs/mine")(["clip.wav"])).columns
        ['path', 'seconds', 'emotion', 'p.angry', 'p.sad', 'transcript', 'notes']
    """
    import polars as pl

    results = list(results)
    speakers = any(names_speakers(result.segments) for result in results)
    rows = [row for result in results for row in rows_of(result, segments, speakers)]
    return pl.DataFrame(rows, infer_schema_length=None)


def rows_of(
    result: Result, segments: bool = False, speakers: bool = False
) -> list[dict[str, str | float | bool | None]]:
    """Return the rows of `frame` of one result; `speakers`: those of segments name them."""
    notes = " ".join(result.notes)
    parts: Sequence[Result | Segment] = result.segments if segments else [result]
    return [{"path": result.path, **_columns(part, speakers), "notes": notes} for part in parts]


def _columns(part: Result | Segment, speakers: bool) -> dict[str, str | float | bool | None]:
    span: dict[str, str | float | None]
    if isinstance(part, Result):
        span = {"seconds": part.seconds}
    else:
        span = {"start": part.start, "end": part.end}
        span |= {"speaker": part.speaker} if speakers else {}
    return {
        **span,
        "emotion": part.emotion,
        **({} if part.unsure is None else {"unsure": part.unsure}),
        **{f"p.{name}": value for name, value in part.probabilities.items()},
        **part.attributes,
        "transcript": part.transcript,
    }
