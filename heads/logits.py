"""Write `logits.h5` of a head: its outputs for every utterance, with labels and groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ser.cache.logits import HeadLogits, SplitLogits
from ser.corpus.manifest import Manifest
from ser.heads.config import HeadConfig
from ser.heads.trained import Outputs
from ser.heads.training.targets import Labelled


@dataclass(frozen=True)
class ScoredRows:
    """The rows of a split, and a head's outputs for them.

    `kind` is "in-sample", "held-out" or "out-of-fold"; `fold` is the fold of each row, and
    `in_sample` the logits `(n, classes)` of the trainings that learned the rows.
    """

    labels: Labelled
    outputs: Outputs
    kind: str = "held-out"
    fold: np.ndarray | None = None
    in_sample: np.ndarray | None = None


def write_logits(
    folder: Path,
    config: HeadConfig,
    manifest: Manifest,
    splits: Mapping[str, ScoredRows],
    *,
    fingerprint: str,
    features: Mapping[str, str],
    groups: Sequence[str],
) -> None:
    """Write the logits of a head to its folder.

    `features` are the fingerprints of its features; `groups` the columns of the manifest that
    scores are split by, of which it may have some.
    """
    columns = tuple(name for name in groups if name in manifest.frame.columns)
    HeadLogits(
        head=folder.name,
        classes=manifest.classes,
        fingerprint=fingerprint,
        features=dict(features),
        splits={name: _split_logits(rows, manifest, columns) for name, rows in splits.items()},
        attributes=config.attributes if "attributes" in config.gives else (),
        groups=columns,
        synthetic=manifest.synthetic_share(manifest.utterances()),
    ).write(folder / "logits.h5")


def _split_logits(rows: ScoredRows, manifest: Manifest, columns: Sequence[str]) -> SplitLogits:
    labels, outputs = rows.labels, rows.outputs
    fold = np.full(len(labels), -1) if rows.fold is None else rows.fold
    return SplitLogits(
        utterance=labels.utterances,
        logits=outputs.get("logits", np.empty((len(labels), 0), np.float32)),
        label=labels.classes.astype(np.int8),
        speaker=[speaker or "" for speaker in labels.speakers],
        fold=fold.astype(np.int8),
        rows=rows.kind,
        in_sample=rows.in_sample,
        predicted=outputs.get("attributes"),
        truth=labels.attributes,
        groups=_group_cells(manifest, columns, labels.utterances),
    )


def _group_cells(
    manifest: Manifest, columns: Sequence[str], utterances: Sequence[str]
) -> list[list[str]]:
    """Return the text of each utterance's group columns, "" where a cell is empty."""
    texts = pl.DataFrame({"utterance": list(utterances)}, schema={"utterance": pl.String()}).join(
        manifest.frame, "utterance", "left", maintain_order="left"
    )
    cells = texts.select(pl.col(name).cast(pl.String).fill_null("") for name in columns)
    return [list(row) for row in cells.iter_rows()] if columns else [[] for _ in utterances]
