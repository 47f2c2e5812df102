"""Scores of groups of utterances (gender, or any column of the manifest), and the gap between them.

The gap is the score of the highest group less that of the lowest. Its interval resamples speakers,
all groups at once, and keeps the two groups that are highest and lowest in the data: the maximum
less the minimum of each resample is never negative, so its interval could not include 0. With many
groups, choosing the extremes still favours a large gap.

A group's means are over the classes that occur in it, so groups with different classes are hard to
compare.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ser.score.attributes import ccc, resampled_ccc
from ser.score.bootstrap import Resamples
from ser.score.metrics import confusion, reported
from ser.score.scores import GAP
from ser.score.speakers import too_few

# a score, and its values in every resample, NaN where a resample has no rows
Scores = dict[str, tuple[float, np.ndarray]]


def class_scores(
    draw: Resamples,
    labels: np.ndarray,
    predictions: np.ndarray,
    classes: int,
    further: Sequence[str] = (),
) -> Scores:
    """Score a classification by every metric that is reported; empty without labelled rows."""
    matrix = confusion(labels, predictions, classes)
    if not matrix.any():
        return {}
    drawn = draw.confusions(labels, predictions, classes)
    some = drawn.any(axis=(1, 2))
    return {
        name: (float(score(matrix)), np.where(some, score(drawn), np.nan))
        for name, score in reported(further).items()
    }


def attribute_scores(draw: Resamples, truth: np.ndarray, predicted: np.ndarray) -> Scores:
    """Score attributes by the mean CCC of those that are known; empty without any truth."""
    rated = ~np.isnan(truth).all(axis=0)
    if not rated.any():
        return {}
    truth, predicted = truth[:, rated], predicted[:, rated]
    mean = float(ccc(truth, predicted).mean())
    return {"ccc": (mean, resampled_ccc(draw, truth, predicted).mean(axis=1))}


def score_groups(
    groups: Sequence[str | None], draw: Resamples, scores: Callable[[np.ndarray], Scores]
) -> dict[str, dict[str, object]]:
    """Score every group: `{group: {n, speakers, <metric>, interval: {...}}, "gap": {...}}`.

    `groups` has the group of each row, None for none; `scores` scores the rows of a mask `(rows,)`.
    The interval of a metric is `[low, high]`, None for a group of fewer than 5 speakers. The gap is
    `{<metric>: {difference, interval, highest, lowest, speakers}}`, the speakers those of the
    smaller group; it needs two groups.
    """
    member = np.array(groups, object)
    scored: dict[str, dict[str, object]] = {}
    clusters: dict[str, int] = {}
    by_metric: dict[str, Scores] = {}  # metric -> group -> score
    for group in sorted({group for group in groups if group is not None}):
        mask = member == group
        of_group = scores(mask)
        clusters[group] = len(np.unique(draw.cluster[mask]))
        speakers = clusters[group] if draw.known else None
        if too_few(speakers) or clusters[group] < 2:
            of_group = {name: (value, drawn * np.nan) for name, (value, drawn) in of_group.items()}
        interval = {metric: draw.interval(drawn) for metric, (_, drawn) in of_group.items()}
        values = {metric: value for metric, (value, _) in of_group.items()}
        counts = {"n": int(mask.sum()), "speakers": speakers}
        scored[group] = {**counts, **values, "interval": interval}
        for metric, score in of_group.items():
            by_metric.setdefault(metric, {})[group] = score
    gaps: dict[str, object] = {
        metric: _gap(draw, of_groups, clusters)
        for metric, of_groups in by_metric.items()
        if len(of_groups) > 1
    }
    return scored | ({GAP: gaps} if gaps else {})


def _gap(draw: Resamples, scores: Scores, clusters: Mapping[str, int]) -> dict[str, object]:
    highest = max(scores, key=lambda group: scores[group][0])
    lowest = min(scores, key=lambda group: scores[group][0])
    (high, drawn_high), (low, drawn_low) = scores[highest], scores[lowest]
    return {
        "difference": high - low,
        "interval": draw.interval(drawn_high - drawn_low),
        "highest": highest,
        "lowest": lowest,
        "speakers": min(clusters[highest], clusters[lowest]) if draw.known else None,
    }
