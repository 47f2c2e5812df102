"""The result of comparing two systems: see `ser.score.pairs`."""

from dataclasses import dataclass, field

from ser.score.agreement import Agreement
from ser.score.compare import McNemar


@dataclass(frozen=True)
class Score:
    """A score with its 95 % interval over speakers; None where there is none."""

    value: float
    interval: list[float] | None


@dataclass(frozen=True)
class Difference:
    """The first system's score less the second's; interval and p as in `ser.score.compare`."""

    value: float
    interval: list[float] | None
    p: float | None = None


@dataclass(frozen=True)
class Pair:
    """A score of both systems, and the difference."""

    first: Score
    second: Score
    difference: Difference


@dataclass(frozen=True)
class Comparison:
    """Two systems on the utterances of a split that both have.

    `first_lacks` counts the labelled or rated utterances of the second system's split that the
    first lacks. `n` counts the labelled ones that both have, of `speakers` speakers (None where
    none is known), and `speakers_note` is the sentence on few of them (`ser.score.speakers`).
    Without labels `macro_f1`, `per_class`, `mcnemar` and `agreement` are None or empty. `ccc` has
    each attribute that both predict, and their mean.
    """

    split: str
    first: str
    second: str
    first_lacks: int
    second_lacks: int
    n: int
    speakers: int | None
    macro_f1: Pair | None = None
    per_class: dict[str, Pair] = field(default_factory=dict)
    mcnemar: McNemar | None = None
    agreement: Agreement | None = None
    ccc: dict[str, Pair] = field(default_factory=dict)
    speakers_note: str | None = None
