"""Stacks of rotations on hand-made logits: the pooled folder, and the comparison."""

import numpy as np
import polars as pl
import pytest

from ser.cache.logits import HeadLogits, SplitLogits
from ser.score.config import ScoreConfig
from ser.score.rotations import pool_heads
from ser.score.run import score_run
from ser.stack.config import StackConfig
from ser.stack.record import StackRecord
from ser.stack.rotations import compare_rotations, pool_stacks
from ser.stack.run import fit

CLASSES = ("angry", "sad")
SPLITS = {"train": 24, "dev": 8, "test": 12}


def write_runs(folder, heads=("one", "two")):
    """Write two rotations whose heads predict the label, `two` with more noise."""
    runs = []
    for rotation in range(2):
        for number, name in enumerate(heads):
            splits = {}
            for split, count in SPLITS.items():
                rng = np.random.default_rng([rotation, number, count])
                label = np.arange(count) % 2
                splits[split] = SplitLogits(
                    utterance=[f"{rotation}-{split}-{i}" for i in range(count)],
                    logits=rng.normal(size=(count, 2)) * (1 + number) + 2 * np.eye(2)[label],
                    label=label,
                    speaker=[f"{rotation}-{split}-s{i // 2 % 6}" for i in range(count)],
                    fold=np.full(count, -1),
                    rows="in-sample" if split == "train" else "held-out",
                )
            path = folder / f"r{rotation}" / "heads" / name / "logits.h5"
            HeadLogits(name, CLASSES, f"{rotation}{name}", {}, splits).write(path)
        runs.append(folder / f"r{rotation}")
    return runs


def test_pooled_stack_has_the_test_rows_of_every_rotation_and_is_scored(tmp_path):
    runs, pooled, heads = write_runs(tmp_path), tmp_path / "pooled", ["one", "two"]
    frames = []
    for run in runs:
        fit(run, heads, StackConfig(model="mean_logits"))
        frame = pl.read_parquet(run / "stack" / "predictions.parquet")
        frames.append(frame.filter(pl.col("split") == "test"))
    pool_heads(runs, pooled, heads)
    pool_stacks(runs, pooled)
    assert pl.read_parquet(pooled / "stack" / "predictions.parquet").equals(pl.concat(frames))
    metrics = score_run(pooled, ScoreConfig(resamples=20), heads)
    assert list(metrics) == ["test"] and list(metrics["test"]) == ["one", "two", "stack"]
    rows = pl.concat(frames)["prediction"].to_list()
    right = sum(name == CLASSES[i % 2] for i, name in enumerate(rows))
    assert metrics["test"]["stack"].classes.scores["accuracy"].value == right / 24
    assert metrics["test"]["stack"].clusters == 12
    before = (pooled / "stack").stat().st_ino
    pool_stacks(runs, pooled)
    assert (pooled / "stack").stat().st_ino == before


def test_pooled_stacks_of_several_models_are_called_auto(tmp_path):
    runs, pooled, heads = write_runs(tmp_path), tmp_path / "pooled", ["one", "two"]
    for run, model in zip(runs, ("mean_proba", "mean_logits"), strict=True):
        fit(run, heads, StackConfig(model=model))
    pool_heads(runs, pooled, heads)
    pool_stacks(runs, pooled)
    assert StackRecord.read(pooled / "stack" / "stack.json").config["model"] == "auto"


def test_every_meta_model_over_all_rotations(tmp_path):
    runs = write_runs(tmp_path)
    config = StackConfig(model="mean_logits", folds=2)
    frame = compare_rotations(runs, ["one", "two"], config, resamples=20)
    own = frame.row(by_predicate=pl.col("model") == "mean_logits", named=True)
    expected, train = [], []
    for run in runs:
        heads = [HeadLogits.read(run / "heads" / n / "logits.h5") for n in ("one", "two")]
        for split, accuracies in (("test", expected), ("train", train)):
            chosen = sum(h.splits[split].logits for h in heads).argmax(axis=1)
            accuracies.append(f1(heads[0].splits[split].label, chosen))
    assert (own["protocol"], own["p"], own["default"], own["speakers"]) == ("-", None, True, 12)
    assert own["train"] == pytest.approx(np.mean(train))
    assert own["sd of rotations"] == pytest.approx(np.std(expected, ddof=1))
    assert own["generalization gap"] == pytest.approx(np.mean(train) - np.mean(expected))
    assert {"random_forest", "lightgbm", "logistic", "majority"} <= set(frame["model"])
    assert frame["test"].is_sorted(descending=True)


def f1(labels, chosen):
    scores = []
    for c in (0, 1):
        both = np.sum((labels == c) & (chosen == c))
        scores.append(2 * both / (np.sum(labels == c) + np.sum(chosen == c)))
    return np.mean(scores)
