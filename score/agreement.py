"""How far two systems agree on the same utterances."""

from dataclasses import dataclass

import numpy as np

from ser.score.metrics import confusion


@dataclass(frozen=True)
class Agreement:
    """The agreement of two systems on labelled utterances; all but `kappa` are shares of them."""

    kappa: float
    same: float
    both_right: float
    only_first: float
    only_second: float
    both_wrong: float


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
