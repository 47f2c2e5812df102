"""The stacks of several rotations: pooled as one, and every meta-model compared over all of them.

Each rotation's stack was fitted on the heads of that rotation; its test predictions, together, are
one prediction of the whole corpus.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ser.cache.checksums import checksums, is_undamaged
from ser.cache.files import fingerprint
from ser.cache.logits import HeadLogits
from ser.cache.swap import staged_folder
from ser.corpus.errors import DamagedError
from ser.score.bootstrap import resample_speakers
from ser.score.compare import compare_classes
from ser.score.metrics import confusion, macro_f1
from ser.score.record import PREDICTIONS, StackSummary, read_predictions
from ser.stack.compare import name_of, predicted_classes, variants
from ser.stack.config import AUTO, StackConfig
from ser.stack.model import FittedStack
from ser.stack.record import FORMAT, StackRecord
from ser.stack.run import chosen_heads
from ser.stack.table import TRAIN, LogitTable

FILE = "stack.json"
SEED = 42  # of the resamples
Name = tuple[str, str]  # model, protocol
Labels = tuple[np.ndarray, np.ndarray]  # class indices: truth, prediction


def pool_stacks(runs: Sequence[Path], folder: Path) -> None:
    """Write the test predictions of all stacks as the stack of `folder`, unless up to date.

    It has predictions and no models. The heads of `folder` are pooled already.
    """
    records = [StackRecord.read(run / "stack" / FILE) for run in runs]
    first, heads = records[0], folder / "heads"
    models = {record.config["model"] for record in records}
    record = first.model_copy(
        update={
            "format": FORMAT,
            "config": first.config | {"model": models.pop() if len(models) == 1 else AUTO},
            "offsets": [],  # of no single model
            "candidates": [],
            "fingerprint": fingerprint({"pooled": [record.fingerprint for record in records]}),
            "heads": {
                name: HeadLogits.read_header(heads / name / "logits.h5").fingerprint
                for name in first.heads
            },
            "rows": sum(record.rows for record in records),
            "rows_per_class": {
                name: sum(record.rows_per_class[name] for record in records)
                for name in first.rows_per_class
            },
        }
    )
    if _is_current(folder, record):
        return
    frames = [_test_rows(run) for run in runs]
    with staged_folder(folder / "stack") as part:
        pl.concat(frames).write_parquet(part / PREDICTIONS)
        record = record.model_copy(update={"checksums": checksums(part, [PREDICTIONS])})
        record.write(part / FILE)


def _is_current(folder: Path, record: StackRecord) -> bool:
    try:
        written = StackRecord.read(folder / "stack" / FILE)
    except DamagedError:
        return False
    same = (written.fingerprint, written.heads) == (record.fingerprint, record.heads)
    return same and is_undamaged(folder / "stack", written.checksums)


def _test_rows(run: Path) -> pl.DataFrame:
    frame = read_predictions(run, StackSummary.read(run / "stack" / FILE))
    return frame.filter(pl.col("split") == "test")


@dataclass
class Predictions:
    """The predictions of one meta-model in every rotation: test, and macro-F1 on train."""

    test: list[Labels] = field(default_factory=list)
    train: list[float] = field(default_factory=list)


def compare_rotations(
    runs: Sequence[Path], heads: Sequence[str], config: StackConfig, resamples: int = 1000
) -> pl.DataFrame:
    """Fit every meta-model in every rotation, and score the pooled test predictions.

    Columns: model, protocol ("-" where the model learns nothing from train), train (the mean of the
    rotations' macro-F1 on the logits that it was fitted on), test (macro-F1 of the whole corpus),
    low, high (its speaker-clustered 95 % interval, null for fewer than 5 speakers), `sd of
    rotations`, `generalization gap` (train minus the mean of the rotations' test), p (paired
    bootstrap against the configured stack), default (whether it is that one), speakers (null where
    unknown). The best on test comes first. Raises `UserError` as `ser.stack.compare.compare` does.
    """
    predictions: dict[Name, Predictions] = {}
    speakers: list[str] = []
    for run in runs:
        table = LogitTable.read(run / "heads", chosen_heads(heads, config))
        for variant in variants(table, config):
            _add(predictions.setdefault(_name(variant, table), Predictions()), table, variant)
        rows = table.splits["test"]
        speakers += [s for s, label in zip(rows.speaker, rows.label, strict=True) if label >= 0]
    default = _name(config, table)
    return _table(predictions, default, speakers, len(table.classes), resamples)


def _add(predictions: Predictions, table: LogitTable, variant: StackConfig) -> None:
    """Fit one meta-model on the heads of one rotation and add its predictions."""
    stack = FittedStack.fit(table, variant)
    predictions.test.append(_predicted(stack, table, "test"))
    truth, chosen = _predicted(stack, table, TRAIN)
    predictions.train.append(float(macro_f1(confusion(truth, chosen, len(table.classes)))))


def _name(config: StackConfig, table: LogitTable) -> Name:
    protocol = table.protocol(config.protocol) if config.learns_from == TRAIN else "-"
    return name_of(config), protocol


def _predicted(stack: FittedStack, table: LogitTable, split: str) -> Labels:
    at = np.flatnonzero(table.splits[split].label >= 0)
    return table.splits[split].label[at], predicted_classes(stack, table, split, at)


def _table(
    predictions: dict[Name, Predictions],
    default: Name,
    speakers: list[str],
    classes: int,
    resamples: int,
) -> pl.DataFrame:
    draw = resample_speakers(speakers, resamples, SEED)
    labels = np.concatenate([truth for truth, _ in predictions[default].test])
    base = np.concatenate([chosen for _, chosen in predictions[default].test])
    rows: list[dict[str, Any]] = []
    for name, pooled in predictions.items():
        chosen = np.concatenate([predicted for _, predicted in pooled.test])
        low, high = draw.interval(macro_f1(draw.confusions(labels, chosen, classes))) or (None,) * 2
        scores = [float(macro_f1(confusion(*pair, classes))) for pair in pooled.test]
        versus = compare_classes(labels, chosen, base, speakers, classes, resamples=resamples)
        row = {
            "model": name[0],
            "protocol": name[1],
            "train": float(np.mean(pooled.train)),
            "test": float(macro_f1(confusion(labels, chosen, classes))),
            "low": low,
            "high": high,
            "sd of rotations": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
            "generalization gap": float(np.mean(pooled.train) - np.mean(scores)),
            "p": None if name == default else versus["p"],
            "default": name == default,
            "speakers": draw.speakers,
        }
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None).sort("test", descending=True)
