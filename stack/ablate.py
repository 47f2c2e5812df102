"""Ablation: how much each head contributes to the configured stack, measured on dev.

Leave-one-out: the stack is refitted without the head; the head's worth is the drop in dev macro-F1,
with the paired speaker-clustered interval. Redundant heads each have little worth, however much
they contribute jointly.

Permutation importance (Breiman 2001, section 10): the fitted stack predicts with the head's columns
permuted across rows, all with the same permutation, several times; the mean drop in macro-F1 and in
each class's F1 shows how much the stack relies on the head.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ser.corpus.errors import UserError
from ser.corpus.progress import steps
from ser.score.metrics import confusion, macro_f1, per_class_f1
from ser.stack.compare import DEV
from ser.stack.config import StackConfig
from ser.stack.fitting import labelled_rows
from ser.stack.model import FittedStack
from ser.stack.rules import head_scores
from ser.stack.run import chosen_heads
from ser.stack.scorer import SplitScorer
from ser.stack.table import LogitTable

REPEATS = 5  # permutations per head


def ablate(
    folder: Path, heads: Sequence[str], config: StackConfig, resamples: int = 1000
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Measure each head's contribution: one frame for leave-one-out, one for permutation.

    Both have one row per head. First: head, alone (macro-F1 of the head), without (of the stack
    without it), worth, low, high, p (null for fewer than 5 speakers), speakers (of dev). Second:
    head, macro_f1 and one column per class: the mean drop.

    Args:
        folder: the folder with `<head>/logits.h5`.
        heads: the heads of the pipeline; `config.heads` selects among them.
        config: the stack's configuration.
        resamples: bootstrap resamples for the intervals.

    Raises `UserError` with fewer than two heads that predict classes, and as
    `ser.stack.compare.compare`.
    """
    table = LogitTable.read(folder, chosen_heads(heads, config))
    if len(table.classifiers) < 2:
        raise UserError(
            f"{folder}: ablation needs two or more heads that predict classes; name more heads."
        )
    labelled_rows(table, DEV)  # raises an error where it lacks labels or a class
    scorer = SplitScorer.on(table, DEV, resamples, config.seed)
    stack = FittedStack.fit(table, config)
    return _leave_one_out(table, stack, scorer), _permuted(table, stack, scorer)


def _leave_one_out(table: LogitTable, stack: FittedStack, scorer: SplitScorer) -> pl.DataFrame:
    whole = scorer.predicted(stack, table)
    alone = head_scores(table.splits[DEV].logits[scorer.at], scorer.labels, scorer.classes)
    rows = []
    for i, head in enumerate(steps(table.classifiers, "without", len(alone), leave=False)):
        remaining = table.without(head)
        without = scorer.predicted(FittedStack.fit(remaining, stack.config), remaining)
        paired = scorer.compare(whole, without)
        low, high = paired["interval"] or (None, None)
        row = {"head": head, "alone": float(alone[i]), "without": scorer.macro_f1(without)}
        row |= {"worth": paired["difference"], "low": low, "high": high, "p": paired["p"]}
        rows.append(row | {"speakers": scorer.draw.speakers})
    return pl.DataFrame(rows, infer_schema_length=None)


def _permuted(table: LogitTable, stack: FittedStack, scorer: SplitScorer) -> pl.DataFrame:
    X = stack.inputs(table.splits[DEV])[scorer.at]
    head_of_column = np.repeat(table.classifiers, scorer.classes).tolist()
    head_of_column += [head for head, _ in table.columns][: X.shape[1] - len(head_of_column)]

    def scores(X: np.ndarray) -> np.ndarray:
        matrix = confusion(scorer.labels, stack.classify(X)[0], scorer.classes)
        return np.array([macro_f1(matrix), *per_class_f1(matrix)])

    whole, rows = scores(X), []
    orders = [np.random.default_rng([scorer.seed, i]).permutation(len(X)) for i in range(REPEATS)]
    for head in steps(table.classifiers, "permuted", len(table.classifiers), leave=False):
        columns = np.flatnonzero(np.array(head_of_column) == head)
        drops = []
        for order in orders:
            permuted = X.copy()
            permuted[:, columns] = X[order][:, columns]
            drops.append(whole - scores(permuted))
        names = ("macro_f1", *table.classes)
        rows.append({"head": head} | dict(zip(names, np.mean(drops, axis=0).tolist(), strict=True)))
    return pl.DataFrame(rows)
