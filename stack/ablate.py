"""What each head is worth to the configured stack, all on dev.

Left out: the stack is fitted again without the head; its worth is what dev macro-F1 loses, with the
paired speaker-clustered interval. Heads that know the same have little worth each, whatever they
are worth together.

Permuted: the fitted stack is asked with one head's columns moved to other rows, all together and
the same way (Breiman 2001, section 10), several times; what macro-F1 and each class's F1 lose on
average is how much the stack leans on the head.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from corpus.errors import UserError
from score.metrics import confusion, macro_f1, per_class_f1
from stack.compare import DEV, Judge, choose
from stack.config import StackConfig
from stack.model import Stack
from stack.run import chosen_heads
from stack.table import LogitTable


def ablate(
    folder: Path,
    heads: Sequence[str],
    config: StackConfig,
    resamples: int = 1000,
    repeats: int = 5,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what each head is worth when left out, and when permuted: two frames, a row a head.

    First: head, alone (macro-F1 of the head), without (of the stack without it), worth, low, high,
    p (null for a single speaker), speakers (of dev). Second: head, macro_f1, and
    a column a class: what is lost.

    Raises `UserError` with fewer than two heads that tell classes, and as `stack.compare.compare`.
    """
    table = LogitTable.read(folder, chosen_heads(heads, config))
    if len(table.tellers) < 2:
        raise UserError(
            f"{folder}: there is nothing to leave out of {len(table.tellers)} heads that tell "
            "classes; name two or more."
        )
    judge = Judge.of(table, DEV, resamples, config.seed)
    stack = Stack.fit(table, config)
    return _left_out(table, stack, judge), _permuted(table, stack, judge, repeats)


def _left_out(table: LogitTable, stack: Stack, judge: Judge) -> pl.DataFrame:
    from stack.rules import head_scores

    whole = choose(stack, table, DEV, judge.at)
    alone = head_scores(table.splits[DEV].logits[judge.at], judge.labels, judge.classes)
    rows = []
    for i, head in enumerate(tqdm(table.tellers, "without", leave=False, disable=None)):
        rest = table.without(head)
        without = choose(Stack.fit(rest, stack.config), rest, DEV, judge.at)
        paired = judge.versus(whole, without)
        low, high = paired["interval"] or (None, None)
        rows.append(
            {
                "head": head,
                "alone": float(alone[i]),
                "without": judge.score(without)[DEV],
                "worth": paired["difference"],
                "low": low,
                "high": high,
                "p": paired["p"],
                "speakers": judge.draw.counts.shape[1],
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def _permuted(table: LogitTable, stack: Stack, judge: Judge, repeats: int) -> pl.DataFrame:
    X = stack.inputs(table.splits[DEV])[judge.at]
    owner = np.repeat(table.tellers, judge.classes).tolist()
    owner += [head for head, _ in table.columns][: X.shape[1] - len(owner)]

    def scores(X: np.ndarray) -> np.ndarray:
        matrix = confusion(judge.labels, stack.tell(X)[0], judge.classes)
        return np.array([macro_f1(matrix), *per_class_f1(matrix)])

    whole, rows = scores(X), []
    orders = [np.random.default_rng([judge.seed, i]).permutation(len(X)) for i in range(repeats)]
    for head in tqdm(table.tellers, "permuted", leave=False, disable=None):
        columns = np.flatnonzero(np.array(owner) == head)
        lost = []
        for order in orders:
            moved = X.copy()
            moved[:, columns] = X[order][:, columns]
            lost.append(whole - scores(moved))
        names = ("macro_f1", *table.classes)
        rows.append({"head": head} | dict(zip(names, np.mean(lost, axis=0).tolist(), strict=True)))
    return pl.DataFrame(rows)
