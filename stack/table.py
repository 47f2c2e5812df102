"""The logits of several heads side by side, aligned by utterance id.

One row an utterance, in the order of the first head's file; one block of columns a head, in the
order the heads are named in, each block in class order:

    a.angry a.sad … a.neutral  b.angry b.sad … b.neutral  …

Of train there are two such tables. `oof` has what a head says of a row that it was not trained on
(a cross-fitted head, or one that never saw train), `unicamp` what it says of a row that it was
trained on, as the published stack was fitted. Of all other splits both are the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from cache.logits import HeadLogits
from corpus.errors import UserError
from corpus.manifest import SPLITS
from score.heads import classifies, read_heads, require_same_utterances
from score.truth import TRUTH, known_rows
from stack.config import ProtocolName

TRAIN = "train"


@dataclass(frozen=True)
class Rows:
    """Hold one split: every field is aligned with `utterance`."""

    utterance: list[str]
    logits: np.ndarray  # (n, heads * classes) float32; of train, out-of-fold where there are such
    in_sample: np.ndarray  # the same as `logits`, but in-sample where there are such
    predicted: np.ndarray  # (n, columns) float32: the attributes that heads predict, head by head
    label: np.ndarray  # (n,) int64, -1 where there is none
    truth: np.ndarray  # (n, attributes) float64, NaN where unknown
    speaker: list[str]  # "" where unknown

    @classmethod
    def new(cls, logits: np.ndarray, predicted: np.ndarray) -> "Rows":
        """Return rows that nothing else is known of, nameless."""
        count = len(logits)
        return cls(
            utterance=[""] * count,
            logits=logits,
            in_sample=logits,
            predicted=predicted,
            label=np.full(count, -1, np.int64),
            truth=np.full((count, 0), np.nan),
            speaker=[""] * count,
        )

    def under(self, protocol: ProtocolName) -> np.ndarray:
        """Return the logits that a protocol takes."""
        return self.logits if protocol == "oof" else self.in_sample


@dataclass(frozen=True)
class LogitTable:
    """Hold what several heads say; `splits` lacks the splits that no head has rows of."""

    folder: Path
    heads: dict[str, str]  # name -> fingerprint
    tellers: tuple[str, ...]  # the heads with logits of the classes, in column order
    classes: tuple[str, ...]
    attributes: tuple[str, ...]  # those that any head predicts
    columns: tuple[tuple[str, str], ...]  # head and attribute of each column of `predicted`
    lacking: Mapping[ProtocolName, str | None]  # a head that a protocol finds no train logits of
    splits: Mapping[str, Rows]

    @classmethod
    def read(cls, folder: Path, heads: Sequence[str]) -> "LogitTable":
        """Read and align `<folder>/<head>/logits.h5` of every head.

        Raises `UserError` for what `score.heads.read_heads` refuses, for heads that give one
        utterance different labels or ratings, and for heads that do not have the same utterances in
        a split.
        """
        found = dict(zip(heads, read_heads(folder, heads, attributes_alone=True), strict=True))
        require_same_utterances(folder, found)
        known = known_rows(found, None, ())
        tellers = {name: head for name, head in found.items() if classifies(head)}
        attributes = tuple(dict.fromkeys(a for head in found.values() for a in head.attributes))
        splits = {}
        for split in SPLITS:
            rows = next((h.splits[split] for h in found.values() if split in h.splits), None)
            if rows is None or not rows.utterance:
                continue
            ids = pl.DataFrame({"utterance": rows.utterance})
            truth = ids.join(known, "utterance", "left", maintain_order="left")
            logits = _side_by_side(tellers, split, rows.utterance, ("logits",))
            in_sample = logits  # which most are, so that they are held once
            if any(head.splits[split].in_sample is not None for head in tellers.values()):
                in_sample = _side_by_side(tellers, split, rows.utterance, ("in_sample", "logits"))
            splits[split] = Rows(
                utterance=rows.utterance,
                logits=logits,
                in_sample=in_sample,
                predicted=_side_by_side(found, split, rows.utterance, ("predicted",)),
                label=truth["label"].to_numpy(),
                truth=truth.select(TRUTH + a for a in attributes).to_numpy(),
                speaker=rows.speaker,
            )
        return cls(
            folder=folder,
            heads={name: head.fingerprint for name, head in found.items()},
            tellers=tuple(tellers),
            classes=next(iter(found.values())).classes,
            attributes=attributes,
            columns=tuple((name, a) for name, head in found.items() for a in head.attributes),
            lacking={
                "oof": next((n for n, h in tellers.items() if _kind(h) == "in-sample"), None),
                "unicamp": next((n for n, h in tellers.items() if _kind(h) == "out-of-fold"), None),
            },
            splits=splits,
        )

    @classmethod
    def without_rows(
        cls,
        folder: Path,
        heads: Mapping[str, str],
        classes: Sequence[str],
        tellers: Sequence[str],
        attributes: Mapping[str, Sequence[str]],
    ) -> "LogitTable":
        """Return the table of heads that are asked one by one: what they say, and no row yet.

        `heads` are fingerprints, `tellers` the heads with logits, `attributes` what each predicts.
        """
        columns = tuple((name, a) for name in heads for a in attributes.get(name, ()))
        return cls(
            folder=folder,
            heads=dict(heads),
            tellers=tuple(name for name in heads if name in tellers),
            classes=tuple(classes),
            attributes=tuple(dict.fromkeys(a for _, a in columns)),
            columns=columns,
            lacking={},
            splits={},
        )

    def protocol(self, wanted: ProtocolName | None) -> ProtocolName:
        """Return the wanted protocol; None is `oof` when every head allows it, else `unicamp`.

        Raises `UserError` when a head has no logits of that kind.
        """
        chosen = wanted or ("unicamp" if self.lacking["oof"] else "oof")
        head = self.lacking[chosen]
        if head is not None:
            kind, remedy = ("in-sample", "train it again, or set stack.protocol: oof")
            if chosen == "oof":
                kind = "out-of-fold"
                remedy = "train it with cross_fit: 5, or set stack.protocol: unicamp"
            raise UserError(
                f"{self.folder / head / 'logits.h5'}: head '{head}' has no {kind} logits of train; "
                f"{remedy}."
            )
        return chosen

    def without(self, head: str) -> "LogitTable":
        """Return the table without a head's columns."""
        tell = np.repeat([name != head for name in self.tellers], len(self.classes))
        rate = np.array([name != head for name, _ in self.columns], bool)
        return LogitTable(
            folder=self.folder,
            heads={name: made_from for name, made_from in self.heads.items() if name != head},
            tellers=tuple(name for name in self.tellers if name != head),
            classes=self.classes,
            attributes=self.attributes,
            columns=tuple(column for column in self.columns if column[0] != head),
            lacking=self.lacking,
            splits={
                split: Rows(
                    utterance=rows.utterance,
                    logits=rows.logits[:, tell],
                    in_sample=rows.in_sample[:, tell],
                    predicted=rows.predicted[:, rate],
                    label=rows.label,
                    truth=rows.truth,
                    speaker=rows.speaker,
                )
                for split, rows in self.splits.items()
            },
        )


def _kind(head: HeadLogits) -> str:
    """Say which train logits alone a head has; "" when it has both or train is empty.

    A head that learned nothing has both: it says the same of rows that it has seen.
    """
    rows = head.splits.get(TRAIN)
    if rows is None or rows.in_sample is not None or rows.rows == "held-out":
        return ""
    return "in-sample" if rows.rows == "in-sample" else "out-of-fold"


def _side_by_side(
    heads: Mapping[str, HeadLogits], split: str, utterance: list[str], fields: Sequence[str]
) -> np.ndarray:
    """Return the first of the fields that each head has, in the order of `utterance`."""
    blocks = [np.empty((len(utterance), 0), np.float32)]
    for head in heads.values():
        rows = head.splits[split]
        values = next((v for f in fields if (v := getattr(rows, f)) is not None), None)
        if values is None:
            continue
        if rows.utterance != utterance:
            at = {u: i for i, u in enumerate(rows.utterance)}
            values = values[[at[u] for u in utterance]]
        blocks.append(values.astype(np.float32, copy=False))
    return np.concatenate(blocks, axis=1)
