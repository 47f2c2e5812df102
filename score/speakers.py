"""How many speakers an interval is over, and what is shown where they are too few.

Intervals and p-values resample speakers (`ser.score.bootstrap`). A handful of them has hardly any
distinct resamples (4 speakers: 35), and the interval covers far less than 95 %: under 5 speakers
there is none, and no p-value; under 20 a note goes with the table.

A number of speakers is None where no speaker is known: each utterance then counts as its own.
"""

from collections.abc import Sequence

from ser.corpus.errors import plural

LEAST = 5  # speakers that an interval or a p-value needs
FEW = 20  # speakers under which both are rough

UNKNOWN = (
    "No speakers are known: each utterance counts as its own, so the intervals are probably too "
    "narrow."
)


def too_few(speakers: int | None) -> bool:
    """Return whether there are too few speakers for an interval or a p-value."""
    return speakers is not None and speakers < LEAST


def shown_interval(
    interval: Sequence[float] | None, speakers: int | None
) -> Sequence[float] | None:
    """Return an interval, or None where it is over too few speakers (an earlier version's)."""
    return None if too_few(speakers) else interval


def not_available(speakers: int | None) -> str:
    """Return what stands where an interval or a p-value would, if there were one.

    >>> not_available(2)
    'n/a: 2 speakers'
    >>> not_available(30)  # of another reason, such as a class that does not occur
    '-'
    """
    if speakers is None or not too_few(speakers):
        return "-"
    return f"n/a: {plural(speakers, 'speaker')}"


def with_interval(value: float, interval: Sequence[float] | None, speakers: int | None) -> str:
    """Write a value and its interval for a table of the terminal.

    >>> with_interval(0.5124, [0.4, 1.0], 24)
    '0.512 [.400, 1.00]'
    >>> with_interval(0.5124, None, 2)
    '0.512 n/a: 2 speakers'
    """
    if interval is None or too_few(speakers):
        return f"{value:.3f} {not_available(speakers):^12}"
    return f"{value:.3f} [{_short(interval[0])}, {_short(interval[1])}]"


def p_value(p: float | None, speakers: int | None) -> str:
    """Write a p-value for a table; where there is none, the note under the table explains it."""
    return "n/a" if p is None or too_few(speakers) else f"{p:.3f}"


def speakers_note(speakers: int | None, split: str = "test") -> str | None:
    """Return the sentence that goes under a table of intervals over few speakers, or None.

    >>> speakers_note(8)
    '8 test speakers: with fewer than 20, intervals and p-values are rough.'
    """
    if speakers is None:
        return UNKNOWN
    counted = plural(speakers, f"{split} speaker")
    if speakers < LEAST:
        return f"{counted}: too few for intervals and p-values, which need at least {LEAST}."
    if speakers < FEW:
        return f"{counted}: with fewer than {FEW}, intervals and p-values are rough."
    return None


def _short(value: float) -> str:
    """Write .412, -.103 or 1.00, so that two such columns and a long name fit 80 columns."""
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text[:-1]
