"""Speaker-disjoint folds, the only kind used here.

A model scores higher on speakers that it was trained on, so each speaker is in exactly one fold.
scikit-learn's `StratifiedGroupKFold` balances the classes as well as that allows: it places
speakers one by one, the most uneven first, where the class shares stay most even.
"""

import warnings
from collections.abc import Sequence

import numpy as np

from ser.corpus.errors import UserError, plural


def speaker_folds(
    labels: Sequence[int] | Sequence[str] | np.ndarray,
    speakers: Sequence[str | None],
    folds: int,
    seed: int,
) -> np.ndarray:
    """Assign every row to a fold: int64 `(rows,)`, from 0 to `folds` - 1, none of them empty.

    `labels` and `speakers` are aligned. An unknown speaker ("" or None) counts as a speaker of
    its own, row by row. The same arguments give the same folds. Raises `UserError` when there are
    fewer than two folds, fewer speakers than folds, or no class with as many rows as folds.
    """
    if folds < 2:
        raise UserError(f"folds is {folds}; use 2 or more.")
    groups = np.array([f"known {s}" if s else f"row {i}" for i, s in enumerate(speakers)])
    count = len(set(groups))
    if count < folds:
        raise UserError(
            f"folds is {folds}, but there {'is' if count == 1 else 'are'} only "
            f"{plural(count, 'speaker')} and a speaker is never split; "
            f"set folds to {count} or less, or add more speakers."
        )
    _, classes = np.unique(np.asarray(labels), return_inverse=True)
    most = int(np.bincount(classes).max())
    if most < folds:
        raise UserError(
            f"folds is {folds}, but no class has more than {most} utterances; set folds to {most} "
            "or less, or add more labelled utterances."
        )
    from sklearn.model_selection import StratifiedGroupKFold

    assigned = np.full(len(groups), -1, dtype=np.int64)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class rarer than the folds is absent from some; that is the corpus, not a mistake.
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, held_out) in enumerate(splitter.split(groups, classes, groups)):
            assigned[held_out] = fold
    return assigned
