"""The stacks of several rotations: pooled as one, and every meta-model compared over all of them.

Each rotation's stack was fitted on the heads of that rotation; its test predictions, together, are
one prediction of the whole corpus.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ser.cache.checksums import checksums, is_undamaged
from ser.cache.files import fingerprint
from ser.cache.logits import HeadLogits
from ser.cache.swap import staged_folder
from ser.corpus.errors import DamagedError
from ser.score.record import PREDICTIONS, StackSummary, read_predictions
from ser.stack.compare import name_of, variants
from ser.stack.config import AUTO, StackConfig
from ser.stack.model import FittedStack
from ser.stack.record import StackRecord
from ser.stack.run import chosen_heads
from ser.stack.scorer import Scorer, SplitScorer
from ser.stack.table import TRAIN, LogitTable

FILE = "stack.json"
SEED = 42  # of the resamples
Name = tuple[str, str]  # model, protocol


def pool_stacks(runs: Sequence[Path], folder: Path) -> None:
    """Write the test predictions of all stacks as the stack of `folder`, unless up to date.

    It has predictions and no models. The heads of `folder` are pooled already.
    """
    records = [StackRecord.read(run / "stack" / FILE) for run in runs]
    first, heads = records[0], folder / "heads"
    models = {record.model for record in records}
    record = first.model_copy(
        update={
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


@dataclass(frozen=True)
class Rotation:
    """One meta-model in one rotation: its predictions for test, and macro-F1 on train and test."""

    chosen: np.ndarray
    train: float
    test: float


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
    rotations: dict[Name, list[Rotation]] = {}
    tests: list[SplitScorer] = []
    for run in runs:
        table = LogitTable.read(run / "heads", chosen_heads(heads, config))
        train, test = (SplitScorer.on(table, split, resamples, SEED) for split in (TRAIN, "test"))
        tests.append(test)
        for variant in variants(table, config):
            stack = FittedStack.fit(table, variant)
            chosen, on_train = test.predicted(stack, table), train.predicted(stack, table)
            rotation = Rotation(chosen, train.macro_f1(on_train), test.macro_f1(chosen))
            rotations.setdefault(_name(variant, table), []).append(rotation)
    labels = np.concatenate([test.labels for test in tests])
    speakers = [speaker for test in tests for speaker in test.speakers]
    pooled = Scorer(labels, speakers, len(table.classes), resamples, SEED)
    return _table(rotations, _name(config, table), pooled)


def _name(config: StackConfig, table: LogitTable) -> Name:
    protocol = table.protocol(config.protocol) if config.learns_from == TRAIN else "-"
    return name_of(config), protocol


def _table(rotations: Mapping[Name, list[Rotation]], default: Name, pooled: Scorer) -> pl.DataFrame:
    chosen = {name: np.concatenate([r.chosen for r in each]) for name, each in rotations.items()}
    rows: list[dict[str, object]] = []
    for name, each in rotations.items():
        low, high = pooled.interval(chosen[name])
        train, tests = np.mean([r.train for r in each]), [r.test for r in each]
        difference = pooled.compare(chosen[name], chosen[default])
        row = {
            "model": name[0],
            "protocol": name[1],
            "train": float(train),
            "test": pooled.macro_f1(chosen[name]),
            "low": low,
            "high": high,
            "sd of rotations": float(np.std(tests, ddof=1)) if len(tests) > 1 else None,
            "generalization gap": float(train - np.mean(tests)),
            "p": None if name == default else difference["p"],
            "default": name == default,
            "speakers": pooled.draw.speakers,
        }
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None).sort("test", descending=True)
