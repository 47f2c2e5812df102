"""Every meta-model under every protocol that the heads allow, in one table.

Each is fitted on train, or chosen on dev, and scored on dev and test, with speaker-clustered 95 %
intervals. The optimism is the macro-F1 on train, of the whole stack and with the logits that it
learned from, less that on test: how much more one would promise than keep. `held_out` is what the
members say of training rows that were kept from them: under `oof` of speakers that neither a head
nor the member has heard, so an honest guess of dev; under `unicamp` the heads still know the row.

p is that of the paired speaker-clustered bootstrap (`score.compare`) against the configured stack,
on test, or on dev where there is no test. With twenty models on one test set some p are small by
chance.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from score.attributes import ccc, resampled_ccc
from score.bootstrap import Resamples, resample_speakers
from score.compare import compare_attributes, compare_classes
from score.metrics import confusion, macro_f1
from stack.config import LEARNED, ProtocolName, StackConfig, TopKConfig, WeightedConfig
from stack.model import Stack, labelled
from stack.rules import TopK
from stack.run import chosen_heads
from stack.table import TRAIN, LogitTable

DEV = "dev"
SCORED = (DEV, "test")
TOP = (1, 3, 5, 10)  # of the overview paper's Figure 4
PROTOCOLS: tuple[ProtocolName, ...] = ("oof", "unicamp")


def compare(
    folder: Path, heads: Sequence[str], config: StackConfig, resamples: int = 1000
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Fit and score every model of classes, and every model of attributes: a frame each.

    Of classes: model, protocol (null where the model learns nothing from train), learns_from,
    train, held_out, dev, dev_low, dev_high, test, test_low, test_high, optimism, p, default,
    speakers (of the split that p is of), seconds. Of attributes, the mean CCC: model, dev, dev_low,
    …, `dev_<attribute>`, …, p, default, speakers. Null is what cannot be
    said: there is no such split, or a single speaker. A frame has no rows where no head tells
    classes, or attributes.

    Raises `UserError` for logits that do not fit together, and when dev (or train, for a model that
    learns) has no labelled row or lacks a class.
    """
    table = LogitTable.read(folder, chosen_heads(heads, config))
    table.protocol(config.protocol)
    return _classes(table, config, resamples), _attributes(table, config, resamples)


def variants(table: LogitTable, config: StackConfig) -> list[StackConfig]:
    """Return a configuration of every model and protocol, the configured one among them."""
    protocols = [p for p in PROTOCOLS if table.lacking[p] is None]

    def made(**changes: Any) -> StackConfig:
        return config.model_copy(update={"protocol": table.protocol(config.protocol)} | changes)

    found = [made(model=model, protocol=p) for model in LEARNED for p in protocols]
    nnls = WeightedConfig(by="nnls")
    found += [made(model="weighted", weighted=nnls, protocol=p) for p in protocols]
    found.append(made(model="weighted", weighted=WeightedConfig(by="macro_f1")))
    found += [made(model=model) for model in ("mean_logits", "mean_proba", "majority")]
    tops = sorted({k for k in (*TOP, config.top_k.k) if k <= len(table.tellers)} or {1})
    choices = [TopKConfig(k=k, by="mean") for k in tops]
    choices += [TopKConfig(k=k, by="plurality") for k in tops if k > 1]
    return found + [made(model="top_k", top_k=choice) for choice in choices]


def name_of(config: StackConfig) -> str:
    """Name a model with the option that tells it from its like."""
    if config.model == "weighted":
        return f"weighted {config.weighted.by}"
    if config.model == "top_k":
        return f"top_{config.top_k.k}" + (f" {config.top_k.by}" if config.top_k.k > 1 else "")
    return config.model


def top_curve(
    folder: Path, heads: Sequence[str], config: StackConfig, resamples: int = 1000
) -> pl.DataFrame:
    """Score the best k heads by dev for every k, by mean and by plurality: a row a k and rule.

    Columns: k, head (the one that k adds), by, dev, dev_low, dev_high, and test, test_low, …, where
    test has labels: macro-F1 and its 95 % interval, null for a single speaker. No rows where no
    head tells classes or dev has no labelled row. Raises `UserError` for logits that do not fit
    together.
    """
    table = LogitTable.read(folder, chosen_heads(heads, config))
    if not table.tellers or not _has_labels(table, DEV):
        return pl.DataFrame()
    splits = [split for split in SCORED if _has_labels(table, split)]
    judges = [Judge.on(table, split, resamples, config.seed) for split in splits]
    X = [table.splits[judge.split].logits[judge.at] for judge in judges]
    rows = []
    for k in range(1, len(table.tellers) + 1):
        for by in ("mean", "plurality"):
            rule = TopK(len(table.classes), k, by).fit(X[0], judges[0].labels)
            row: dict[str, Any] = {"k": k, "head": table.tellers[rule.heads_[-1]], "by": by}
            for judge, logits in zip(judges, X, strict=True):
                row |= judge.score(rule.predict(logits))
            rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _has_labels(table: LogitTable, split: str) -> bool:
    return split in table.splits and bool((table.splits[split].label >= 0).any())


@dataclass(frozen=True)
class Judge:
    """Score and compare predictions on the labelled rows `at` of one split."""

    split: str
    at: np.ndarray
    labels: np.ndarray
    speakers: list[str]
    draw: Resamples
    classes: int
    seed: int

    @classmethod
    def of(cls, table: LogitTable, split: str, resamples: int, seed: int) -> "Judge":
        """Take a split's labelled rows; raises `UserError` when dev has none or lacks a class."""
        if split == DEV:
            labelled(table, split)
        return cls.on(table, split, resamples, seed)

    @classmethod
    def on(cls, table: LogitTable, split: str, resamples: int, seed: int) -> "Judge":
        """Take a split's labelled rows, of which there must be some."""
        at = np.flatnonzero(table.splits[split].label >= 0)
        labels = table.splits[split].label[at]
        speakers = [table.splits[split].speaker[i] for i in at]
        draw = resample_speakers(speakers, resamples, seed)
        return cls(split, at, labels, speakers, draw, len(table.classes), seed)

    def score(self, chosen: np.ndarray) -> dict[str, float | None]:
        """Return macro-F1 and its interval, named by the split."""
        drawn = macro_f1(self.draw.confusions(self.labels, chosen, self.classes))
        low, high = self.draw.interval(drawn) or (None, None)
        value = float(macro_f1(confusion(self.labels, chosen, self.classes)))
        return {self.split: value, f"{self.split}_low": low, f"{self.split}_high": high}

    def versus(self, first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
        """Return the paired difference of macro-F1 (first - second), its interval and p."""
        return compare_classes(
            self.labels,
            first,
            second,
            self.speakers,
            self.classes,
            resamples=len(self.draw.counts),
            seed=self.seed,
        )


def choose(stack: Stack, table: LogitTable, split: str, at: np.ndarray) -> np.ndarray:
    """Return the class indices that a stack chooses for some rows of a split."""
    return stack.tell(stack.inputs(table.splits[split])[at])[0]


def _classes(table: LogitTable, config: StackConfig, resamples: int) -> pl.DataFrame:
    if not table.tellers:
        return pl.DataFrame()
    splits = [DEV, "test"] if _has_labels(table, "test") else [DEV]
    judges = [Judge.of(table, split, resamples, config.seed) for split in splits]
    default, rows, chosen = _default(table, config), [], []
    for variant in tqdm(variants(table, config), "stacks", leave=False, disable=None):
        started = time.perf_counter()
        stack = Stack.fit(table, variant, hold_out=True)
        seconds = time.perf_counter() - started
        said = [choose(stack, table, judge.split, judge.at) for judge in judges]
        row: dict[str, Any] = {
            "model": name_of(variant),
            "protocol": stack.protocol if variant.learns_from == TRAIN else None,
            "learns_from": variant.learns_from,
            "seconds": seconds,
            "default": (name_of(variant), stack.protocol) == default,
            "speakers": judges[-1].draw.counts.shape[1],
            **_on_train(stack, table),
        }
        for judge, of_split in zip(judges, said, strict=True):
            row |= judge.score(of_split)
        row["optimism"] = (
            row["train"] - row["test"] if "test" in row and row["train"] is not None else None
        )
        rows.append(row)
        chosen.append(said[-1])
    at = next(i for i, row in enumerate(rows) if row["default"])
    for i, row in enumerate(rows):
        row["p"] = None if i == at else judges[-1].versus(chosen[i], chosen[at])["p"]
    return pl.DataFrame(rows, infer_schema_length=None)


def _default(table: LogitTable, config: StackConfig) -> tuple[str, ProtocolName]:
    """Name the configured model; of more top heads than there are, all."""
    k = min(config.top_k.k, len(table.tellers))
    top = config.top_k.model_copy(update={"k": k})
    return name_of(config.model_copy(update={"top_k": top})), table.protocol(config.protocol)


def _on_train(stack: Stack, table: LogitTable) -> dict[str, float | None]:
    classes, rows = len(table.classes), table.splits.get(TRAIN)
    scores: dict[str, float | None] = {"train": None, "held_out": None}
    if rows is not None and (rows.label >= 0).any():
        at = np.flatnonzero(rows.label >= 0)
        chosen = choose(stack, table, TRAIN, at)
        scores["train"] = float(macro_f1(confusion(rows.label[at], chosen, classes)))
    if stack.held_out is not None and stack.config.model in LEARNED:
        labels, probability = stack.held_out
        matrix = confusion(labels, probability.argmax(axis=1), classes)
        scores["held_out"] = float(macro_f1(matrix))
    return scores


def _attributes(table: LogitTable, config: StackConfig, resamples: int) -> pl.DataFrame:
    known = {
        split: at
        for split in SCORED
        if split in table.splits
        and len(at := np.flatnonzero(~np.isnan(table.splits[split].truth).all(axis=1)))
    }
    if not table.columns or not known:
        return pl.DataFrame()
    rows, said = [], []
    for model in ("ridge", "mean"):
        stack = Stack(config.model_copy(update={"attributes": model}), table.protocol(None))
        stack.fit_rater(table)
        row: dict[str, Any] = {"model": model, "default": model == config.attributes}
        for split, at in known.items():
            here = table.splits[split]
            truth, predicted = here.truth[at], stack.rater.predict(here.predicted[at])
            speakers = [here.speaker[i] for i in at]
            draw = resample_speakers(speakers, resamples, config.seed)
            drawn = resampled_ccc(draw, truth, predicted).mean(axis=1)
            low, high = draw.interval(drawn) or (None, None)
            each = ccc(truth, predicted)
            row |= {split: float(each.mean()), f"{split}_low": low, f"{split}_high": high}
            row["speakers"] = draw.counts.shape[1]
            row |= {f"{split}_{a}": float(v) for a, v in zip(table.attributes, each, strict=True)}
        rows.append(row)
        said.append(predicted)
    rows.sort(key=lambda row: not row["default"])
    test = compare_attributes(
        truth, said[0], said[1], speakers, resamples=resamples, seed=config.seed
    )
    rows[0]["p"], rows[1]["p"] = None, test["p"]
    return pl.DataFrame(rows, infer_schema_length=None)
