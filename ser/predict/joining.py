"""The result for a clip from those of its segments: means, weighted by seconds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ser.corpus.audio import SAMPLE_RATE
from ser.corpus.errors import UserError
from ser.predict.clips import BRIEF
from ser.predict.result import Result, Segment, most_probable, names_speakers

LEAST = round(BRIEF * SAMPLE_RATE)  # samples of a reliable segment


def join(
    path: str,
    seconds: float,
    segments: Sequence[Segment],
    notes: Iterable[str] = (),
    min_confidence: float | None = None,
    *,
    unusable: bool = False,
) -> Result:
    """Return the result for a whole clip from its segments.

    Where a `min_confidence` above 0 is set, all of an `unusable` signal is unsure: it is not
    speech, and confidence means nothing. So are segments under `BRIEF` seconds, which do not count
    for the clip where others are longer.
    """
    reliable = [s for s in segments if round((s.end - s.start) * SAMPLE_RATE) >= LEAST]
    doubtful = (unusable or not reliable) and bool(min_confidence)
    if min_confidence:
        sure = () if unusable else set(map(id, reliable))
        segments = [s if id(s) in sure else replace(s, unsure=True) for s in segments]
    counted = reliable or segments
    probabilities = _mean(counted, [s.probabilities for s in counted])
    # by vote, the emotion of a segment need not be its most probable class
    emotion = counted[0].emotion if len(counted) == 1 else most_probable(probabilities)
    names = list(segments[0].heads)
    # speakers who overlap say different words
    read = segments if names_speakers(segments) else _without_overlapping(segments)
    words = [s.transcript for s in read]
    return Result(
        path=path,
        seconds=seconds,
        emotion=emotion,
        probabilities=probabilities,
        attributes=_mean(counted, [s.attributes for s in counted]),
        transcript=None if segments[0].transcript is None else " ".join(filter(None, words)),
        heads={name: _mean(counted, [s.heads[name] for s in counted]) for name in names},
        segments=tuple(segments),
        notes=tuple(notes),
        unsure=doubtful or is_unsure(probabilities, min_confidence),
    )


def require_confidence(min_confidence: float | None) -> None:
    """Raise `UserError` for a `min_confidence` that is not a number from 0 to 1."""
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise UserError(f"min_confidence is {min_confidence:g}; give a number from 0 to 1.")


def is_unsure(probabilities: Mapping[str, float], min_confidence: float | None) -> bool | None:
    """Return whether no probability reaches `min_confidence`; None without one.

    >>> is_unsure({"sad": 0.6, "angry": 0.4}, 0.7), is_unsure({"sad": 0.7, "angry": 0.3}, 0.7)
    (True, False)
    """
    return None if min_confidence is None else max(probabilities.values()) < min_confidence


def _mean(segments: Sequence[Segment], values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    if len(segments) == 1:
        return dict(values[0])
    weights = np.array([segment.end - segment.start for segment in segments])
    table = np.array([list(row.values()) for row in values])
    mean = (weights / weights.sum()) @ table
    return dict(zip(values[0], mean.tolist(), strict=True))


def _without_overlapping(segments: Sequence[Segment]) -> list[Segment]:
    """Leave out segments that overlap one before, so that each word counts once, or nearly."""
    kept: list[Segment] = []
    for segment in segments:
        if not kept or segment.start >= kept[-1].end - 1e-6:
            kept.append(segment)
    return kept
