"""The logits of several heads, read together and checked against each other.

The scores and the stack both start here, so both refuse the same bad files.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cache.logits import HeadLogits, SplitLogits
from corpus.errors import UserError
from corpus.manifest import SPLITS

# what a head says, and the name of it in a sentence
SAID = {"logits": "logits", "in_sample": "in-sample logits", "predicted": "predicted attributes"}


def read_heads(
    folder: Path, heads: Sequence[str], *, attributes_alone: bool = False
) -> list[HeadLogits]:
    """Read `<folder>/<head>/logits.h5` of every head, in the order of `heads`.

    Heads that learned attributes alone, and so have no logits, are let in with `attributes_alone`.

    Raises `UserError` for no heads at all, a missing file, heads that differ in their classes or
    in the order of them, an id that stands twice in a split, and numbers that are not finite.
    """
    if not heads:
        raise UserError(
            f"{folder}: there are no heads to read; name some under heads in pipeline.yaml."
        )
    found = [HeadLogits.read(folder / head / "logits.h5") for head in heads]
    for head, logits in zip(heads, found, strict=True):
        path = folder / head / "logits.h5"
        if logits.classes != found[0].classes:
            raise UserError(
                f"{path}: the classes are {', '.join(logits.classes)}, but those of head "
                f"'{heads[0]}' are {', '.join(found[0].classes)}; train both with the same "
                "corpus.classes."
            )
        if not attributes_alone and not classifies(logits):
            raise UserError(
                f"{path}: head '{head}' has no logits of the classes, as it learned attributes "
                "alone; name only heads that classify."
            )
        for split, rows in logits.splits.items():
            _check_split(path, split, rows)
    return found


def classifies(head: HeadLogits) -> bool:
    """Tell whether a head has logits of the classes; one that learned attributes alone has none."""
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


def labels_of(heads: Sequence[HeadLogits]) -> dict[str, int]:
    """Map every utterance of the heads to its class index, -1 where there is none.

    Raises `UserError` when two heads, or two splits, give one utterance different labels.
    """
    label: dict[str, int] = {}
    first: dict[str, SplitLogits] = {}
    for head in heads:
        for split, rows in head.splits.items():
            known = first.setdefault(split, rows)
            if known is not rows and _labelled_alike(known, rows):
                continue
            for utterance, value in zip(rows.utterance, rows.label.tolist(), strict=True):
                if label.setdefault(utterance, value) != value:
                    raise UserError(
                        f"logits.h5 of head '{head.head}': the label of '{utterance}' is not the "
                        "one that another head was trained with; train all heads on one manifest."
                    )
    return label


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits `(..., classes)` into probabilities of the same shape, float64."""
    powers = np.exp(np.asarray(logits, np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def _labelled_alike(one: SplitLogits, other: SplitLogits) -> bool:
    return one.utterance == other.utterance and np.array_equal(one.label, other.label)


def _check_split(path: Path, split: str, rows: SplitLogits) -> None:
    name = split or "unlabelled"
    if len(set(rows.utterance)) != len(rows.utterance):
        twice = next(u for u, times in Counter(rows.utterance).items() if times > 1)
        raise UserError(
            f"{path}: utterance '{twice}' stands twice in {name}; train the head again."
        )
    for field, called in SAID.items():
        values = getattr(rows, field)
        if values is None or np.isfinite(values).all():
            continue
        broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
        raise UserError(
            f"{path}: the {called} of {len(broken)} utterances of {name} are not finite "
            f"('{rows.utterance[broken[0]]}' is the first); train the head again with a lower lr."
        )
