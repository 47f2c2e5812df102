"""Whether one system is better than another on the same utterances.

Paired bootstrap: both systems are scored on the same resamples of speakers (`ser.score.bootstrap`),
and the differences give a 95 % percentile interval and a two-sided p: twice the smaller share of
resamples on either side of 0, (1 + count) / (1 + resamples) each, so that p is never 0 (Davison &
Hinkley 1997, section 4.2). p < 0.05 and an interval without 0 are equivalent, up to rounding.

McNemar (1947): of the rows that exactly one system gets right, does each system get half? Exact
(two-sided binomial) for fewer than 25 such rows, else chi-squared with Edwards' correction,
(|b - c| - 1)^2 / (b + c), one degree of freedom. It tests accuracy and assumes independent rows,
which utterances of one speaker are not: with few speakers, rely on the bootstrap. With fewer than 5
speakers neither test has a p, nor the difference an interval (`ser.score.speakers`).

All arrays are aligned with each other; align them by utterance id first.
"""

from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np

from ser.score.attributes import ccc, resampled_ccc
from ser.score.bootstrap import Resamples, resample_speakers
from ser.score.metrics import confusion, macro_f1
from ser.score.speakers import too_few

FEW = 25  # rows that the systems disagree about, for an exact McNemar test


class McNemar(TypedDict):
    """McNemar's test: the rows that one system alone gets right, the kind of test, and its p."""

    first_only: int
    second_only: int
    test: str
    p: float | None


class Paired(TypedDict):
    """A difference (first - second), its interval, p, and the speakers that were resampled."""

    difference: float
    interval: list[float] | None
    p: float | None
    speakers: int | None


class PairedClasses(Paired):
    """That of two classifiers."""

    mcnemar: McNemar


def compare_classes(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    speakers: Sequence[str | None],
    classes: int,
    *,
    metric: Callable[[np.ndarray], np.ndarray] = macro_f1,
    resamples: int = 1000,
    seed: int = 42,
) -> PairedClasses:
    """Return difference (first - second), interval, p, speakers, and McNemar's test.

    `labels`, `first` and `second` are class indices `(rows,)`; rows with label -1 are ignored.
    `metric` is one of `ser.score.metrics`. Interval and both p are None for fewer than 5
    speakers. Raises ValueError without labelled rows.
    """
    rows = np.flatnonzero(labels >= 0)
    labels, first, second = labels[rows], first[rows], second[rows]
    draw = resample_speakers([speakers[i] for i in rows.tolist()], resamples, seed)
    matrices = [confusion(labels, side, classes) for side in (first, second)]
    drawn = [draw.confusions(labels, side, classes) for side in (first, second)]
    difference = float(metric(matrices[0]) - metric(matrices[1]))
    paired = _paired(draw, difference, metric(drawn[0]) - metric(drawn[1]))
    rows_test = mcnemar(labels, first, second)
    if too_few(draw.speakers):
        rows_test["p"] = None
    return {**paired, "mcnemar": rows_test}


def compare_attributes(
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    speakers: Sequence[str | None],
    *,
    resamples: int = 1000,
    seed: int = 42,
) -> Paired:
    """Return difference (first - second), interval, p and speakers of two predictors' mean CCC.

    `truth`, `first` and `second` are `(rows, attributes)`; NaN truth is ignored. Interval and p
    are None for fewer than 5 speakers. Raises ValueError without a truth.
    """
    rows = np.flatnonzero(~np.isnan(truth).all(axis=1))
    truth, first, second = truth[rows], first[rows], second[rows]
    draw = resample_speakers([speakers[i] for i in rows.tolist()], resamples, seed)
    difference = float((ccc(truth, first) - ccc(truth, second)).mean())
    drawn = resampled_ccc(draw, truth, first) - resampled_ccc(draw, truth, second)
    return _paired(draw, difference, drawn.mean(axis=1))


def mcnemar(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> McNemar:
    """Return McNemar's two-sided p, the kind of test, and the counts that it is based on.

    `first_only` counts the rows `(rows,)` that only the first system gets right, `second_only`
    those that only the second does; rows with label -1 are left out.
    """
    from scipy.special import bdtr, chdtrc

    rows = labels >= 0
    first_right, second_right = (side[rows] == labels[rows] for side in (first, second))
    b = int((first_right & ~second_right).sum())
    c = int((second_right & ~first_right).sum())
    if b + c < FEW:
        test, p = "exact", min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5)))
    else:
        statistic = max(abs(b - c) - 1, 0) ** 2 / (b + c)
        test, p = "chi2", float(chdtrc(1, statistic))
    return {"first_only": b, "second_only": c, "test": test, "p": p}


def _paired(draw: Resamples, difference: float, drawn: np.ndarray) -> Paired:
    interval = draw.interval(drawn)
    drawn = drawn[~np.isnan(drawn)]
    tail = 1 + min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = None if interval is None else min(1.0, 2 * float(tail) / (1 + len(drawn)))
    return {"difference": difference, "interval": interval, "p": p, "speakers": draw.speakers}
