"""The logits of several heads, read together and checked against each other.

Scoring and stacking both start with this, so both reject the same invalid files.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ser.cache.logits import HeadLogits, SplitLogits
from ser.corpus.cells import SPLITS
from ser.corpus.errors import UserError, plural

# outputs of a head that must be finite, and their names in messages
OUTPUTS = {"logits": "logits", "in_sample": "in-sample logits", "predicted": "predicted attributes"}


def read_heads(folder: Path, heads: Sequence[str]) -> dict[str, HeadLogits]:
    """Read `<folder>/<head>/logits.h5` of every head, in the order of `heads`.

    Raises `UserError` for no heads at all, a missing file, heads with different classes or another
    order of them, an id that appears twice in a split, and numbers that are not finite.
    """
    if not heads:
        raise UserError(
            f"{folder}: there are no heads to read; name some under heads in pipeline.yaml."
        )
    outputs = {head: HeadLogits.read(folder / head / "logits.h5") for head in heads}
    classes = outputs[heads[0]].classes
    for head, logits in outputs.items():
        path = folder / head / "logits.h5"
        if logits.classes != classes:
            raise UserError(
                f"{path}: the classes are {', '.join(logits.classes)}, but those of head "
                f"'{heads[0]}' are {', '.join(classes)}; train both with the same corpus.classes."
            )
        for split, rows in logits.splits.items():
            _check_split(path, split, rows)
    return outputs


def classifies(head: HeadLogits) -> bool:
    """Return whether a head has logits; one that was trained on attributes alone has none."""
    return all(rows.logits.shape[1] == len(head.classes) for rows in head.splits.values())


def require_same_utterances(folder: Path, heads: Mapping[str, HeadLogits]) -> None:
    """Raise `UserError` unless all heads have the same utterances in every split, in any order."""
    first = next(iter(heads))
    for split in SPLITS:
        rows = {name: h.splits[split].utterance for name, h in heads.items() if split in h.splits}
        for other in heads:
            if rows.get(first) == rows.get(other):
                continue
            for lacking, having in ((other, first), (first, other)):
                odd = set(rows.get(having, [])) - set(rows.get(lacking, []))
                if odd:
                    raise UserError(
                        f"{folder / lacking / 'logits.h5'}: head '{lacking}' lacks utterance "
                        f"'{min(odd)}' of {split or 'unlabelled'}, which head '{having}' has "
                        f"({len(odd)} such utterances); train both on one manifest."
                    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits `(..., classes)` into probabilities of the same shape, float64."""
    powers = np.exp(np.asarray(logits, np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def _check_split(path: Path, split: str, rows: SplitLogits) -> None:
    name = split or "unlabelled"
    if len(set(rows.utterance)) != len(rows.utterance):
        twice = next(u for u, times in Counter(rows.utterance).items() if times > 1)
        raise UserError(
            f"{path}: utterance '{twice}' appears twice in {name}; train the head again."
        )
    for field, described in OUTPUTS.items():
        values = getattr(rows, field)
        if values is None or np.isfinite(values).all():
            continue
        broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
        raise UserError(
            f"{path}: the {described} of {plural(len(broken), 'utterance')} of {name} are not "
            f"finite ('{rows.utterance[broken[0]]}' is the first); train the head again with a "
            "lower lr."
        )
