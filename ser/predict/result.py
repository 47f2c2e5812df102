"""What is said of a clip, as plain values; `frame` makes a table of it.

A clip of up to 30 s is one segment, and what is said of it is what is said of the clip. Of longer
audio, and with `timeline`, there are several, and what is said of the clip is the mean of theirs,
weighted by their seconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Attention:
    """Say where the heads looked in one feature: a weight a frame, float64, that sum to 1.

    `times` are the seconds at which the frames begin, None for the tokens of a text.
    """

    weights: np.ndarray
    times: np.ndarray | None = None


@dataclass(frozen=True)
class Word:
    """Hold a word, how much of the attention was on it, and when it was said, where known."""

    word: str
    weight: float
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Segment:
    """Say what is heard from `start` to `end`, in seconds.

    `emotion` is None and `probabilities` empty where no head tells classes; `attributes` is empty
    where none tells those; `transcript` is None where no head reads words. `heads` are the
    probabilities by head. `attention` by feature and `words` are there when they were asked for.
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


@dataclass(frozen=True)
class Result:
    """Say what is heard in a clip of so many seconds; the fields are those of `Segment`."""

    path: str
    seconds: float
    emotion: str | None
    probabilities: Mapping[str, float]
    attributes: Mapping[str, float]
    transcript: str | None
    heads: Mapping[str, Mapping[str, float]]
    segments: Sequence[Segment]

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
        """Name the heads whose likeliest class is the emotion."""
        return [name for name, said in self.heads.items() if likeliest(said) == self.emotion]


@dataclass(frozen=True)
class Failure:
    """Say in one line why nothing can be said of a clip."""

    path: str
    error: str


def join(path: str, seconds: float, segments: Sequence[Segment]) -> Result:
    """Return what is said of a whole clip by what is said of its segments."""
    if len(segments) == 1:
        emotion = segments[0].emotion  # by vote, it need not be the likeliest
    else:
        emotion = likeliest(_mean(segments, [s.probabilities for s in segments]))
    names = list(segments[0].heads)
    words = [s.transcript for s in _apart(segments) if s.transcript]
    return Result(
        path=path,
        seconds=seconds,
        emotion=emotion,
        probabilities=_mean(segments, [s.probabilities for s in segments]),
        attributes=_mean(segments, [s.attributes for s in segments]),
        transcript=None if segments[0].transcript is None else " ".join(words),
        heads={name: _mean(segments, [s.heads[name] for s in segments]) for name in names},
        segments=tuple(segments),
    )


def likeliest(probabilities: Mapping[str, float]) -> str | None:
    """Return the class with the highest probability, the first of equal ones."""
    return max(probabilities, key=lambda name: probabilities[name], default=None)


def _mean(segments: Sequence[Segment], values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    if len(segments) == 1:
        return dict(values[0])
    weights = np.array([segment.end - segment.start for segment in segments])
    table = np.array([list(each.values()) for each in values])
    mean = (weights / weights.sum()) @ table
    return dict(zip(values[0], mean.tolist(), strict=True))


def _apart(segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments that do not overlap one before: each word counts once, or nearly."""
    kept: list[Segment] = []
    for segment in segments:
        if not kept or segment.start >= kept[-1].end - 1e-6:
            kept.append(segment)
    return kept


def frame(results: Iterable[Result], segments: bool = False) -> "pl.DataFrame":
    """Return a table with a row a clip, or with `segments` a row a segment.

    Columns: path; start and end (s), or seconds; emotion; p.<class>; the attributes; transcript.
    """
    import polars as pl

    rows = [row for result in results for row in rows_of(result, segments)]
    return pl.DataFrame(rows, infer_schema_length=None)


def rows_of(result: Result, segments: bool = False) -> list[dict[str, str | float | None]]:
    """Return the rows of `frame` of one result."""
    if segments:
        each = [({"start": s.start, "end": s.end}, s) for s in result.segments]
        return [{"path": result.path, **span, **_said(segment)} for span, segment in each]
    return [{"path": result.path, "seconds": result.seconds, **_said(result)}]


def _said(of: Result | Segment) -> dict[str, str | float | None]:
    return {
        "emotion": of.emotion,
        **{f"p.{name}": value for name, value in of.probabilities.items()},
        **of.attributes,
        "transcript": of.transcript,
    }
