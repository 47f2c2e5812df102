"""The files of a trained head beside its record: weights, tables, and `logits.h5`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.torch import save
from torch import Tensor

from ser.cache.checksums import checksums
from ser.cache.logits import HeadLogits, SplitLogits
from ser.corpus.atomic import clear, write_durably
from ser.corpus.manifest import Manifest
from ser.heads.config import HeadConfig
from ser.heads.record import FILE
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


def write_files(
    folder: Path,
    config: HeadConfig,
    manifest: Manifest,
    splits: Mapping[str, ScoredRows],
    *,
    weights: Mapping[str, Mapping[str, Tensor]],
    tables: Mapping[str, pl.DataFrame],
    fingerprint: str,
    features: Mapping[str, str],
    groups: Sequence[str],
) -> dict[str, str]:
    """Delete the record of a head, write its other files, and return their checksums.

    Args:
        folder: that of the head, of its name.
        config: the head's config.
        manifest: that of the rows.
        splits: the rows of each split, with the outputs for them.
        weights: the state of each training that is kept, by the file's name.
        tables: tables such as its history, by the file's name; an empty one is not written.
        fingerprint: that of the head.
        features: the fingerprint of each of its features.
        groups: columns that scores are split by, of which the manifest may have some.
    """
    clear(folder / FILE)
    for name, state in weights.items():
        # not safetensors' own `save_file`, whose files only their owner may read
        tensors = {key: value.contiguous().cpu() for key, value in state.items()}
        write_durably(folder / f"{name}.safetensors", save(tensors))
    for name, table in tables.items():
        clear(folder / f"{name}.csv")
        if table.height:
            write_durably(folder / f"{name}.csv", table.write_csv())
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
    files = [f"{name}.safetensors" for name in weights] + ["logits.h5"]
    return checksums(folder, files + [f"{n}.csv" for n, table in tables.items() if table.height])


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
