"""How far two systems agree, and the result of comparing them (`ser.score.pairs`)."""

from dataclasses import dataclass, field

import numpy as np

from ser.score.compare import McNemar
from ser.score.metrics import confusion


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
class Agreement:
    """The agreement of two systems on labelled utterances; all but `kappa` are shares of them."""

    kappa: float
    same: float
    both_right: float
    only_first: float
    only_second: float
    both_wrong: float


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


def agreement(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> Agreement:
    """Compare two systems' class indices `(rows,)` with each other and with the labels.

    Rows with label -1 are left out. Raises ValueError without labelled rows.

    >>> agreement(np.array([0, 1, 1, 1]), np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1]))
    Agreement(kappa=0.5, same=0.75, both_right=0.5, only_first=0.0, only_second=0.25, \
both_wrong=0.25)
    """
    labelled = labels >= 0
    if not labelled.any():
        raise ValueError("there are no labelled rows")
    labels, first, second = labels[labelled], first[labelled], second[labelled]
    right, other = first == labels, second == labels
    return Agreement(
        kappa=kappa(first, second),
        same=float((first == second).mean()),
        both_right=float((right & other).mean()),
        only_first=float((right & ~other).mean()),
        only_second=float((~right & other).mean()),
        both_wrong=float((~right & ~other).mean()),
    )


def kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Return Cohen's kappa (1960) of two systems' class indices `(rows,)`.

    1 is full agreement, 0 the agreement by chance of two systems that choose each class as often
    as these do; 1 if both always predict one and the same class.
    """
    matrix = confusion(first, second, int(max(first.max(), second.max())) + 1) / len(first)
    observed, chance = np.trace(matrix), matrix.sum(axis=0) @ matrix.sum(axis=1)
    return float((observed - chance) / (1 - chance)) if chance < 1 else 1.0
