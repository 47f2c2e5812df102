"""Scores of groups of utterances (gender, or any column of the manifest), and the gap between them.

The gap is the highest group's score less the lowest's. Its interval resamples speakers, all groups
at once, and keeps the two groups that are highest and lowest in the data: the maximum less the
minimum of each resample is never negative, so its interval could not say that there is no gap.
With many groups that choice favours a large gap all the same.

A group's means are over the classes that occur in it, so groups with other classes compare badly.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from score.attributes import resampled_ccc, score_attributes
from score.bootstrap import Resamples
from score.metrics import METRICS, confusion

GAP = "gap"

# what some rows score, and what they score in every resample, NaN where a resample has none
Scores = dict[str, tuple[float, np.ndarray]]


def class_scores(
    draw: Resamples, labels: np.ndarray, predictions: np.ndarray, classes: int
) -> Scores:
    """Score a classification by every metric of `METRICS`; empty without labelled rows."""
    matrix = confusion(labels, predictions, classes)
    if not matrix.any():
        return {}
    drawn = draw.confusions(labels, predictions, classes)
    some = drawn.any(axis=(1, 2))
    return {
        name: (float(of(matrix)), np.where(some, of(drawn), np.nan)) for name, of in METRICS.items()
    }


def attribute_scores(draw: Resamples, truth: np.ndarray, predicted: np.ndarray) -> Scores:
    """Score attributes by the mean CCC of those that are known; empty without any truth."""
    known = ~np.isnan(truth).all(axis=0)
    if not known.any():
        return {}
    truth, predicted = truth[:, known], predicted[:, known]
    mean = score_attributes(truth, predicted, [str(i) for i in range(truth.shape[1])])["mean"]
    return {"ccc": (mean["ccc"], resampled_ccc(draw, truth, predicted).mean(axis=1))}


def score_groups(
    groups: Sequence[str | None], draw: Resamples, scores: Callable[[np.ndarray], Scores]
) -> dict[str, Any]:
    """Score every group: `{group: {n, <metric>, interval: {<metric>: [low, high]}}, "gap": {...}}`.

    `groups` has the group of each row, None for none; `scores` scores the rows of a mask `(rows,)`.
    The gap is `{<metric>: {difference, interval, highest, lowest}}`, and there is none of fewer
    than two groups.
    """
    member = np.array(groups, object)
    scored: dict[str, Any] = {}
    found: dict[str, dict[str, tuple[float, np.ndarray]]] = {}  # metric -> group -> its scores
    for group in sorted({group for group in groups if group is not None}):
        mask = member == group
        said = scores(mask)
        if len(np.unique(draw.cluster[mask])) < 2:  # resampled, they are the same rows again
            said = {metric: (value, drawn * np.nan) for metric, (value, drawn) in said.items()}
        interval = {metric: draw.interval(drawn) for metric, (_, drawn) in said.items()}
        values = {metric: value for metric, (value, _) in said.items()}
        scored[group] = {"n": int(mask.sum()), **values, "interval": interval}
        for metric, score in said.items():
            found.setdefault(metric, {})[group] = score
    gaps = {metric: _gap(draw, of) for metric, of in found.items() if len(of) > 1}
    return scored | ({GAP: gaps} if gaps else {})


def _gap(draw: Resamples, scores: dict[str, tuple[float, np.ndarray]]) -> dict[str, Any]:
    highest = max(scores, key=lambda group: scores[group][0])
    lowest = min(scores, key=lambda group: scores[group][0])
    (high, drawn_high), (low, drawn_low) = scores[highest], scores[lowest]
    return {
        "difference": high - low,
        "interval": draw.interval(drawn_high - drawn_low),
        "highest": highest,
        "lowest": lowest,
    }
