"""The logits of several heads side by side, aligned by utterance id.

One row an utterance, in the order of the first head's file; one block of columns a head, in the
order the heads are named in, each block in class order:

    a.angry a.sad … a.neutral  b.angry b.sad … b.neutral  …
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.logits import HeadLogits, SplitLogits
from corpus.errors import UserError
from corpus.manifest import SPLITS
from score.heads import labels_of, read_heads


@dataclass(frozen=True)
class Rows:
    """Hold one split: every field is aligned with `utterance`."""

    utterance: list[str]
    logits: np.ndarray  # (n, heads * classes) float32
    label: np.ndarray  # (n,) int64, -1 where there is none
    speaker: list[str]  # "" where unknown


@dataclass(frozen=True)
class LogitTable:
    """Hold the logits of several heads; `splits` lacks the splits that no head has rows of."""

    heads: dict[str, str]  # name -> fingerprint, in column order
    classes: tuple[str, ...]
    splits: Mapping[str, Rows]

    @classmethod
    def read(cls, folder: Path, heads: Sequence[str]) -> "LogitTable":
        """Read and align `<folder>/<head>/logits.h5` of every head.

        Raises `UserError` for what `score.heads.read_heads` refuses, for heads that give one
        utterance different labels, and for heads that do not have the same utterances in a split.
        """
        found = dict(zip(heads, read_heads(folder, heads), strict=True))
        label = labels_of(list(found.values()))
        splits = {}
        for split in SPLITS:
            _check_utterances(folder, split, found)
            rows = [head.splits[split] for head in found.values() if split in head.splits]
            if not rows or not rows[0].utterance:
                continue
            utterance = rows[0].utterance
            splits[split] = Rows(
                utterance=utterance,
                logits=np.concatenate([_in_order(each, utterance) for each in rows], axis=1),
                label=np.array([label[u] for u in utterance], np.int64),
                speaker=rows[0].speaker,
            )
        fingerprints = {name: head.fingerprint for name, head in found.items()}
        return cls(fingerprints, next(iter(found.values())).classes, splits)


def _check_utterances(folder: Path, split: str, heads: Mapping[str, HeadLogits]) -> None:
    has = {
        name: set(head.splits[split].utterance) if split in head.splits else set()
        for name, head in heads.items()
    }
    first = next(iter(has))
    for other in has:
        for lacking, having in ((other, first), (first, other)):
            odd = has[having] - has[lacking]
            if odd:
                raise UserError(
                    f"{folder / lacking / 'logits.h5'}: head '{lacking}' lacks utterance "
                    f"'{min(odd)}' of {split or 'unlabelled'}, which head '{having}' has "
                    f"({len(odd)} such utterances); train both on one manifest."
                )


def _in_order(rows: SplitLogits, utterance: Sequence[str]) -> np.ndarray:
    at = {u: i for i, u in enumerate(rows.utterance)}
    logits: np.ndarray = rows.logits[[at[u] for u in utterance]].astype(np.float32)
    return logits
