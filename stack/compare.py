"""Every meta-model under every protocol that the heads support, compared in one table.

Each is fitted on train, or selected on dev, and scored on dev and test, with speaker-clustered 95 %
intervals. The generalization gap (column `optimism`) is the stack's macro-F1 on train, on the
logits that it was fitted on, minus that on test. `held_out` is the macro-F1 of the members'
held-out predictions for training rows: under `oof` these are speakers that neither a head nor the
member was trained on, so it estimates dev without bias; under `unicamp` the heads were trained on
the row.

p is from the paired speaker-clustered bootstrap (`ser.score.compare`) against the configured stack,
on test, or on dev where there is no test. Among twenty models compared on one test set, some p
values are small by chance.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ser.corpus.progress import steps
from ser.score.attributes import ccc, resampled_ccc
from ser.score.bootstrap import resample_speakers
from ser.score.compare import compare_attributes
from ser.score.metrics import confusion, macro_f1
from ser.stack.attributes import MeanAttributes, RidgeAttributes
from ser.stack.config import AUTO, LEARNED, ProtocolName, StackConfig, TopKConfig, WeightedConfig
from ser.stack.fitting import labelled_rows
from ser.stack.model import FittedStack, fit_regressor
from ser.stack.registry import META_MODELS
from ser.stack.rules import TopK
from ser.stack.run import chosen_heads
from ser.stack.scorer import SplitScorer
from ser.stack.table import TRAIN, LogitTable

DEV = "dev"
SCORED = (DEV, "test")
TOP = (1, 3, 5, 10)  # of the overview paper's Figure 4
PROTOCOLS: tuple[ProtocolName, ...] = ("oof", "unicamp")


def compare(
    folder: Path, heads: Sequence[str], config: StackConfig, resamples: int = 1000
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Fit and score every meta-model: one frame for emotion classes, one for attributes.

    Classes: model, protocol (null where the model learns nothing from train), learns_from, train,
    held_out, dev, dev_low, dev_high, dev_speakers, test, test_low, …, optimism, p, default,
    speakers (of the split that p refers to), seconds. Attributes, by mean CCC: model, dev, dev_low,
    …, `dev_<attribute>`, …, p, default, speakers. A value is null where it is undefined: the split
    is missing, has fewer than 5 speakers (intervals and p), or no known ones (speakers). A frame is
    empty where no head predicts classes, or attributes.

    Raises `UserError` for logits that cannot be combined, and when dev (or train, for a model that
    is fitted) has no labelled rows or lacks a class.
    """
    table = LogitTable.read(folder, chosen_heads(heads, config))
    table.protocol(config.protocol)
    return _classes(table, config, resamples), _attributes(table, config, resamples)


def variants(table: LogitTable, config: StackConfig) -> list[StackConfig]:
    """Return a configuration for every model and protocol, including the configured one.

    Models that are selected on dev are left out where dev has no labels.
    """
    protocols = [p for p in PROTOCOLS if table.lacking[p] is None]

    def variant(**changes: object) -> StackConfig:
        changes = {"protocol": table.protocol(config.protocol)} | changes
        changed = config.model_copy(update=changes)
        offsets = config.offsets and changed.protocol == "oof" and not changed.votes
        return changed.model_copy(update={"offsets": offsets})

    learned = LEARNED if config.model in META_MODELS.built_in else (*LEARNED, config.model)
    configs = [variant(model=model, protocol=p) for model in learned for p in protocols]
    nnls = {"weighted": WeightedConfig(by="nnls")}
    weighted = ("log_pool", "mean_scaled", "weighted", "greedy", "best_head")
    configs += [variant(model=model, protocol=p, **nnls) for model in weighted for p in protocols]
    configs.append(variant(model="weighted", weighted=WeightedConfig(by="macro_f1")))
    configs += [variant(model=model) for model in (AUTO, "mean_logits", "mean_proba", "majority")]
    tops = sorted({k for k in (*TOP, config.top_k.k) if k <= len(table.classifiers)} or {1})
    choices = [TopKConfig(k=k, by="mean") for k in tops]
    choices += [TopKConfig(k=k, by="plurality") for k in tops if k > 1]
    configs += [variant(model="top_k", top_k=choice) for choice in choices]
    if _has_labels(table, DEV) or config.learns_from == DEV:
        return configs
    return [variant for variant in configs if variant.learns_from != DEV]


def name_of(config: StackConfig) -> str:
    """Return a model's name, with the option that distinguishes it from its variants."""
    if config.model == "weighted":
        return f"weighted {config.weighted.by}"
    if config.model == "top_k":
        return f"top_{config.top_k.k}" + (f" {config.top_k.by}" if config.top_k.k > 1 else "")
    return config.model


def top_curve(
    folder: Path, heads: Sequence[str], config: StackConfig, resamples: int = 1000
) -> pl.DataFrame:
    """Score the k heads that are best on dev, for every k, by mean and by plurality vote.

    One row per k and rule. Columns: k, head (the one added at k), by, dev, dev_low, dev_high, and
    where test has labels test, test_low, test_high: macro-F1 its 95 % interval (null for fewer
    than 5 speakers) and speakers. Empty where no head predicts classes or dev has no labelled rows.
    Raises `UserError` for logits that cannot be combined.
    """
    table = LogitTable.read(folder, chosen_heads(heads, config))
    if not table.classifiers or not _has_labels(table, DEV):
        return pl.DataFrame()
    splits = [split for split in SCORED if _has_labels(table, split)]
    scorers = [SplitScorer.on(table, split, resamples, config.seed) for split in splits]
    X = [table.splits[scorer.split].logits[scorer.at] for scorer in scorers]
    rows = []
    for k in range(1, len(table.classifiers) + 1):
        for by in ("mean", "plurality"):
            rule = TopK(len(table.classes), k, by).fit(X[0], scorers[0].labels)
            row: dict[str, object] = {"k": k, "head": table.classifiers[rule.heads_[-1]], "by": by}
            for scorer, logits in zip(scorers, X, strict=True):
                row |= scorer.score(rule.predict(logits))
            rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _has_labels(table: LogitTable, split: str) -> bool:
    return split in table.splits and bool((table.splits[split].label >= 0).any())


def _classes(table: LogitTable, config: StackConfig, resamples: int) -> pl.DataFrame:
    if not table.classifiers:
        return pl.DataFrame()
    splits = [DEV, "test"] if _has_labels(table, "test") else [DEV]
    labelled_rows(table, DEV)  # raises an error where it lacks labels or a class
    scorers = [SplitScorer.on(table, split, resamples, config.seed) for split in splits]
    default, rows, chosen = _default(table, config), [], []
    stacks = variants(table, config)
    for variant in steps(stacks, "stacks", len(stacks), leave=False):
        started = time.perf_counter()
        stack = FittedStack.fit(table, variant, hold_out=True)
        seconds = time.perf_counter() - started
        predictions = [scorer.predicted(stack, table) for scorer in scorers]
        scores = _on_train(stack, table)
        for scorer, predicted in zip(scorers, predictions, strict=True):
            scores |= scorer.score(predicted)
        train, test = scores["train"], scores.get("test")
        row: dict[str, object] = {
            "model": name_of(variant),
            "protocol": stack.protocol if variant.learns_from == TRAIN else None,
            "learns_from": variant.learns_from,
            "seconds": seconds,
            "default": (name_of(variant), stack.protocol) == default,
            "speakers": scorers[-1].draw.speakers,
            **scores,
            "optimism": None if train is None or test is None else train - test,
        }
        rows.append(row)
        chosen.append(predictions[-1])
    at = next(i for i, row in enumerate(rows) if row["default"])
    for i, row in enumerate(rows):
        row["p"] = None if i == at else scorers[-1].compare(chosen[i], chosen[at])["p"]
    return pl.DataFrame(rows, infer_schema_length=None)


def _default(table: LogitTable, config: StackConfig) -> tuple[str, ProtocolName]:
    """Return the configured model's name and protocol, with k limited to the number of heads."""
    k = min(config.top_k.k, len(table.classifiers))
    top = config.top_k.model_copy(update={"k": k})
    return name_of(config.model_copy(update={"top_k": top})), table.protocol(config.protocol)


def _on_train(stack: FittedStack, table: LogitTable) -> dict[str, float | None]:
    scores: dict[str, float | None] = {"train": None, "held_out": None}
    if _has_labels(table, TRAIN):
        scorer = SplitScorer.on(table, TRAIN, 0, stack.config.seed)
        scores["train"] = scorer.macro_f1(scorer.predicted(stack, table))
    if stack.held_out is not None and stack.config.folded:
        labels, probability = stack.held_out
        matrix = confusion(labels, probability.argmax(axis=1), len(table.classes))
        scores["held_out"] = float(macro_f1(matrix))
    return scores


def _attributes(table: LogitTable, config: StackConfig, resamples: int) -> pl.DataFrame:
    splits = [split for split in SCORED if len(_rated_rows(table, split))]
    if not table.columns or not splits:
        return pl.DataFrame()
    last, at = table.splits[splits[-1]], _rated_rows(table, splits[-1])
    rows: list[dict[str, object]] = []
    predictions = []
    for model in sorted(("ridge", "mean"), key=lambda model: model != config.attributes):
        regressor = fit_regressor(config.model_copy(update={"attributes": model}), table)
        row: dict[str, object] = {"model": model, "default": model == config.attributes}
        for split in splits:
            row |= _score_attributes(table, regressor, split, resamples, config.seed)
        rows.append(row)
        predictions.append(regressor.predict(last.predicted[at]))
    first, second = predictions
    difference = compare_attributes(
        last.truth[at], first, second, last.speakers_of(at), resamples=resamples, seed=config.seed
    )
    rows[0]["p"], rows[1]["p"] = None, difference["p"]
    return pl.DataFrame(rows, infer_schema_length=None)


def _rated_rows(table: LogitTable, split: str) -> np.ndarray:
    """Return the indices of a split's rows with any known attribute."""
    if split not in table.splits:
        return np.zeros(0, np.int64)
    return np.flatnonzero(~np.isnan(table.splits[split].truth).all(axis=1))


def _score_attributes(
    table: LogitTable,
    regressor: RidgeAttributes | MeanAttributes,
    split: str,
    resamples: int,
    seed: int,
) -> dict[str, object]:
    """Return the mean CCC on a split, its interval, the speakers, and each attribute's CCC."""
    rows, at = table.splits[split], _rated_rows(table, split)
    truth, predicted = rows.truth[at], regressor.predict(rows.predicted[at])
    draw = resample_speakers(rows.speakers_of(at), resamples, seed)
    low, high = draw.interval(resampled_ccc(draw, truth, predicted).mean(axis=1)) or (None, None)
    values = ccc(truth, predicted)
    return {
        split: float(values.mean()),
        f"{split}_low": low,
        f"{split}_high": high,
        "speakers": draw.speakers,
        f"{split}_speakers": draw.speakers,
        **{f"{split}_{a}": float(v) for a, v in zip(table.attributes, values, strict=True)},
    }
