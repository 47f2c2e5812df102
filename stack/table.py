"""The logits of several heads side by side, aligned by utterance id.

One row per utterance, in the order of the first head's file; one block of columns per head, in the
order in which the heads are named, each block in class order:

    a.angry a.sad … a.neutral  b.angry b.sad … b.neutral  …

For train there are two such tables: `oof` has a head's logits for rows that it was not trained on
(a cross-fitted head, or one that was not trained on train), `unicamp` its logits for rows that it
was trained on, which the published stack was fitted on. For all other splits both are the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from ser.cache.logits import HeadLogits, SplitLogits
from ser.corpus.cells import SPLITS
from ser.corpus.errors import UserError
from ser.score.heads import classifies, read_heads, require_same_utterances
from ser.score.truth import TRUTH, ground_truth
from ser.stack.config import ProtocolName

TRAIN = "train"


@dataclass(frozen=True)
class Rows:
    """The rows of one split; every field is aligned with `utterance`."""

    utterance: list[str]
    logits: np.ndarray  # (n, heads * classes) float32; for train out-of-fold, where there are
    in_sample: np.ndarray  # the same as `logits`, but in-sample where there are
    predicted: np.ndarray  # (n, columns) float32: predicted attributes, head by head
    label: np.ndarray  # (n,) int64, -1 where there is none
    truth: np.ndarray  # (n, attributes) float64, NaN where unknown
    speaker: list[str]  # "" where unknown

    @classmethod
    def new(cls, logits: np.ndarray, predicted: np.ndarray) -> "Rows":
        """Return rows without ids, labels or speakers: audio to predict."""
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

    def speakers_of(self, at: np.ndarray) -> list[str]:
        """Return the speakers of the rows at these indices."""
        return [self.speaker[i] for i in at]


@dataclass(frozen=True)
class LogitTable:
    """The logits of several heads side by side, aligned by utterance id.

    Args:
        folder: the folder of the heads.
        heads: the fingerprint of each head by name.
        classifiers: the heads with logits of the classes, in the order of the columns.
        classes: the classes.
        attributes: the attributes that at least one head predicts.
        columns: the head and attribute of each column of `predicted`.
        lacking: for each protocol, a head without its logits of train.
        splits: the rows of each split that has any.

        >>> table = LogitTable.read("runs/mine/heads")
        >>> table.splits["dev"].logits.shape  # (rows, heads * classes)
        (10, 4)
    """

    folder: Path
    heads: dict[str, str]
    classifiers: tuple[str, ...]
    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    lacking: Mapping[ProtocolName, str | None]
    splits: Mapping[str, Rows]

    @classmethod
    def read(cls, folder: str | Path, heads: Sequence[str] | None = None) -> "LogitTable":
        """Read and align `<folder>/<head>/logits.h5` of every head.

        Args:
            folder: that of a run's heads, as "runs/mine/heads".
            heads: their names; by default all that have logits, sorted.

        Raises `UserError` as `ser.score.heads.read_heads`, for heads that disagree on the label or
        ratings of an utterance, and for heads that do not have the same utterances in a split.
        """
        folder = Path(folder)
        if heads is None:
            heads = sorted(path.parent.name for path in folder.glob("*/logits.h5"))
        outputs = read_heads(folder, heads)
        require_same_utterances(folder, outputs)
        labels = ground_truth(outputs, None, ())
        classifiers = {name: head for name, head in outputs.items() if classifies(head)}
        table = cls.without_rows(
            folder,
            {name: head.fingerprint for name, head in outputs.items()},
            next(iter(outputs.values())).classes,
            list(classifiers),
            {name: head.attributes for name, head in outputs.items()},
        )
        aligned = ((split, _rows(split, outputs, labels, table.attributes)) for split in SPLITS)
        lacking: dict[ProtocolName, str | None] = {
            "oof": _first_of_kind(classifiers, "in-sample"),
            "unicamp": _first_of_kind(classifiers, "out-of-fold"),
        }
        splits = {split: rows for split, rows in aligned if rows is not None}
        return replace(table, lacking=lacking, splits=splits)

    @classmethod
    def without_rows(
        cls,
        folder: Path,
        heads: Mapping[str, str],
        classes: Sequence[str],
        classifiers: Sequence[str],
        attributes: Mapping[str, Sequence[str]],
    ) -> "LogitTable":
        """Return a table of heads without any row, for heads whose outputs are computed later.

        `heads` maps names to fingerprints, `classifiers` names the heads with logits, and
        `attributes` maps each head to the attributes that it predicts.
        """
        columns = tuple((name, a) for name in heads for a in attributes.get(name, ()))
        return cls(
            folder=folder,
            heads=dict(heads),
            classifiers=tuple(name for name in heads if name in classifiers),
            classes=tuple(classes),
            attributes=tuple(dict.fromkeys(a for _, a in columns)),
            columns=columns,
            lacking={},
            splits={},
        )

    def protocol(self, requested: ProtocolName | None) -> ProtocolName:
        """Return the requested protocol; None is `oof` if every head supports it, else `unicamp`.

        Raises `UserError` when a head has no logits of that kind.
        """
        chosen = requested or ("unicamp" if self.lacking["oof"] else "oof")
        head = self.lacking[chosen]
        if head is not None:
            kind, remedy = ("in-sample", "train it again or set stack.protocol: oof")
            if chosen == "oof":
                kind = "out-of-fold"
                remedy = "train it with cross_fit: 5 or set stack.protocol: unicamp"
            raise UserError(
                f"{self.folder / head / 'logits.h5'}: head '{head}' has no {kind} logits for "
                f"train; {remedy}."
            )
        return chosen

    def without(self, head: str) -> "LogitTable":
        """Return the table without a head's columns."""
        logit_columns = np.repeat([name != head for name in self.classifiers], len(self.classes))
        attribute_columns = np.array([name != head for name, _ in self.columns], bool)
        return replace(
            self,
            heads={name: f for name, f in self.heads.items() if name != head},
            classifiers=tuple(name for name in self.classifiers if name != head),
            columns=tuple(column for column in self.columns if column[0] != head),
            splits={
                split: replace(
                    rows,
                    logits=rows.logits[:, logit_columns],
                    in_sample=rows.in_sample[:, logit_columns],
                    predicted=rows.predicted[:, attribute_columns],
                )
                for split, rows in self.splits.items()
            },
        )


def _rows(
    split: str, heads: Mapping[str, HeadLogits], labels: pl.DataFrame, attributes: Sequence[str]
) -> Rows | None:
    """Return the rows of a split, None where it has none; all heads have the same."""
    every = [head.splits[split] for head in heads.values() if split in head.splits]
    if not every or not every[0].utterance:
        return None
    utterance = every[0].utterance
    ids = pl.DataFrame({"utterance": utterance})
    truth = ids.join(labels, "utterance", "left", maintain_order="left")
    scored = [head.splits[split] for head in heads.values() if classifies(head)]
    logits = _side_by_side(utterance, scored, [part.logits for part in scored])
    in_sample = logits  # the usual case; shared to save memory
    if any(part.in_sample is not None for part in scored):
        own = [p.logits if p.in_sample is None else p.in_sample for p in scored]
        in_sample = _side_by_side(utterance, scored, own)
    return Rows(
        utterance=utterance,
        logits=logits,
        in_sample=in_sample,
        predicted=_side_by_side(utterance, every, [part.predicted for part in every]),
        label=truth["label"].to_numpy(),
        truth=truth.select(TRUTH + a for a in attributes).to_numpy(),
        speaker=every[0].speaker,
    )


def _first_of_kind(heads: Mapping[str, HeadLogits], kind: str) -> str | None:
    """Return the first head whose logits of train are all "in-sample", or all "out-of-fold".

    The logits of a head that was not trained on train are the same under either protocol.
    """
    for name, head in heads.items():
        rows = head.splits.get(TRAIN)
        if rows is not None and rows.in_sample is None and rows.rows == kind:
            return name
    return None


def _side_by_side(
    utterance: list[str], heads: Sequence[SplitLogits], values: Sequence[np.ndarray | None]
) -> np.ndarray:
    """Concatenate the values of the heads' rows, in the order of `utterance`."""
    blocks = [np.empty((len(utterance), 0), np.float32)]
    for rows, block in zip(heads, values, strict=True):
        if block is None:
            continue
        ordered = block
        if rows.utterance != utterance:
            at = {u: i for i, u in enumerate(rows.utterance)}
            ordered = block[[at[u] for u in utterance]]
        blocks.append(ordered.astype(np.float32, copy=False))
    return np.concatenate(blocks, axis=1)
