"""Whether one system is better than another on the same utterances.

Paired bootstrap: both systems are scored on the same resamples of speakers (`score.bootstrap`), and
the differences give a 95 % percentile interval and a two-sided p: twice the smaller share of
resamples on either side of 0, (1 + count) / (1 + resamples) each, so that p is never 0 (Davison &
Hinkley 1997, section 4.2). p < 0.05 and an interval without 0 say the same, up to rounding.

McNemar (1947): of the rows that exactly one system gets right, are as many right in the first as in
the second? Exact (two-sided binomial) for fewer than 25 such rows, else chi-squared with Edwards'
correction, (|b - c| - 1)^2 / (b + c), one degree of freedom. It speaks of accuracy and takes rows
for independent, which utterances of one speaker are not: with few speakers trust the bootstrap.

All arrays are aligned with each other; align them by utterance id first.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from score.attributes import ccc, resampled_ccc
from score.bootstrap import Resamples, resample_speakers
from score.metrics import confusion, macro_f1

FEW = 25  # rows that the systems disagree about, for an exact McNemar test


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
) -> dict[str, Any]:
    """Return difference (first - second), interval, p, and McNemar's test of two classifiers.

    `labels`, `first` and `second` are class indices `(rows,)`; rows with label -1 take no part.
    `metric` is one of `score.metrics`. Interval and p are None for a single speaker. Raises
    ValueError without labelled rows.
    """
    known = np.flatnonzero(labels >= 0)
    labels, first, second = labels[known], first[known], second[known]
    draw = resample_speakers([speakers[i] for i in known.tolist()], resamples, seed)
    matrices = [confusion(labels, side, classes) for side in (first, second)]
    drawn = [draw.confusions(labels, side, classes) for side in (first, second)]
    difference = float(metric(matrices[0]) - metric(matrices[1]))
    return _paired(draw, difference, metric(drawn[0]) - metric(drawn[1])) | {
        "mcnemar": mcnemar(labels, first, second)
    }


def compare_attributes(
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    speakers: Sequence[str | None],
    *,
    resamples: int = 1000,
    seed: int = 42,
) -> dict[str, Any]:
    """Return difference (first - second), interval and p of the mean CCC of two predictors.

    `truth`, `first` and `second` are `(rows, attributes)`; NaN truth takes no part. Interval and p
    are None for a single speaker. Raises ValueError without a truth.
    """
    known = np.flatnonzero(~np.isnan(truth).all(axis=1))
    truth, first, second = truth[known], first[known], second[known]
    draw = resample_speakers([speakers[i] for i in known.tolist()], resamples, seed)
    difference = float((ccc(truth, first) - ccc(truth, second)).mean())
    drawn = resampled_ccc(draw, truth, first) - resampled_ccc(draw, truth, second)
    return _paired(draw, difference, drawn.mean(axis=1))


def mcnemar(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Return McNemar's two-sided p, which test gave it, and the counts that it rests on.

    `first_only` counts the rows `(rows,)` that only the first system gets right, `second_only` the
    others that the two disagree about; rows with label -1 are left out.
    """
    from scipy.special import bdtr, chdtrc

    known = labels >= 0
    one, other = (side[known] == labels[known] for side in (first, second))
    b, c = int((one & ~other).sum()), int((other & ~one).sum())
    if b + c < FEW:
        test, p = "exact", min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5)))
    else:
        statistic = max(abs(b - c) - 1, 0) ** 2 / (b + c)
        test, p = "chi2", float(chdtrc(1, statistic))
    return {"first_only": b, "second_only": c, "test": test, "p": p}


def _paired(draw: Resamples, difference: float, drawn: np.ndarray) -> dict[str, Any]:
    interval = draw.interval(drawn)
    drawn = drawn[~np.isnan(drawn)]
    tail = 1 + min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = None if interval is None else min(1.0, 2 * float(tail) / (1 + len(drawn)))
    return {"difference": difference, "interval": interval, "p": p}
