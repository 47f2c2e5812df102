"""The numbers of one system on one split: an entry of metrics.json.

Those of `ser.score.metrics.score`, and

bootstrap      of class-balanced subsets, as published
interval       of each metric, over speakers, 95 %; null for fewer than 5 speakers
ece            expected calibration error
aurc, risk     the risk-coverage curve at the coverages 0.05 to 1 (`ser.score.abstention`)
attributes     where attributes are predicted
distributions  where the manifest has raters' votes (`ser.score.distributions`)
groups         the same scores of each group, and their gap
speakers       null where none is known
speakers_note  the sentence on few or unknown speakers, or null (`ser.score.speakers`)
clusters       the number of speakers, or of utterances where no speaker is known
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from ser.corpus.columns import VOTE
from ser.score.abstention import aurc, risk_at_coverages
from ser.score.attributes import binned_confusion, resampled_ccc, score_attributes
from ser.score.bootstrap import Resamples, balanced_bootstrap, resample_speakers
from ser.score.calibration import ece
from ser.score.config import ScoreConfig
from ser.score.distributions import score_distributions
from ser.score.groups import Scores, attribute_scores, class_scores, score_groups
from ser.score.metrics import per_class_f1, reported, score
from ser.score.scores import MEAN, SystemScores
from ser.score.speakers import speakers_note
from ser.score.truth import GROUP, PREDICTED, TRUTH, indices_of, is_rated, scored_attributes


def score_system(
    rows: pl.DataFrame, split: str, classes: Sequence[str], config: ScoreConfig
) -> SystemScores | None:
    """Return the entry of one system on one split in metrics.json; None without labelled rows.

    `rows` has the system's predictions (`ser.score.run.of_head`) and their truth
    (`ser.score.truth.ground_truth`), one row per utterance.
    """
    distributions = _distributions(rows, classes, config)
    attributes = scored_attributes(rows)
    if "prediction" not in rows.columns:
        rows = rows.with_columns(label=pl.lit(-1))
    rows = rows.filter((pl.col("label") >= 0) | is_rated(attributes))
    if not rows.height:
        return None
    draw = resample_speakers(rows["speaker"].to_list(), config.resamples, config.seed)
    labels, shape = rows["label"].to_numpy(), (rows.height, len(attributes))
    truth, predicted = (
        rows.select(side + name for name in attributes).to_numpy().reshape(shape)
        for side in (TRUTH, PREDICTED)
    )
    predictions = np.zeros(len(labels), np.int64)
    numbers: dict[str, object] = {}
    if (labels >= 0).any():
        predictions = indices_of(rows["prediction"], classes)
        numbers = _class_numbers(draw, labels, predictions, classes, config)
        numbers |= _confidence_numbers(rows, labels, predictions, classes)
    if not np.isnan(truth).all():
        numbers["attributes"] = _attribute_numbers(draw, truth, predicted, attributes)

    def scores(mask: np.ndarray) -> Scores:
        of_classes = class_scores(
            draw, np.where(mask, labels, -1), predictions, len(classes), config.metrics
        )
        rated = np.where(mask[:, None], truth, np.nan)
        return of_classes | attribute_scores(draw, rated, predicted)

    columns = [name for name in rows.columns if name.startswith(GROUP)]
    groups = {c.removeprefix(GROUP): score_groups(rows[c].to_list(), draw, scores) for c in columns}
    groups = {column: scored for column, scored in groups.items() if scored}
    clusters = draw.counts.shape[1]
    counts = {"clusters": clusters, "speakers": draw.speakers}
    note = speakers_note(draw.speakers, split)
    return SystemScores.model_validate(
        numbers | distributions | {"groups": groups, **counts, "speakers_note": note}
    )


def _distributions(
    rows: pl.DataFrame, classes: Sequence[str], config: ScoreConfig
) -> dict[str, object]:
    """Return `distributions` of one system's entry; {} without probabilities, or without votes."""
    needed = (prefix + name for prefix in (VOTE, "p.") for name in classes)
    if not {"prediction", *needed} <= set(rows.columns):
        return {}
    votes, probabilities = (
        rows.select(prefix + name for name in classes).to_numpy() for prefix in (VOTE, "p.")
    )
    scores = score_distributions(
        votes,
        probabilities,
        indices_of(rows["prediction"], classes),
        rows["speaker"].to_list(),
        resamples=config.resamples,
        seed=config.seed,
    )
    return {"distributions": scores} if scores else {}


def _class_numbers(
    draw: Resamples,
    labels: np.ndarray,
    predictions: np.ndarray,
    classes: Sequence[str],
    config: ScoreConfig,
) -> dict[str, object]:
    numbers = score(labels, predictions, classes)
    matrix = np.array(numbers["confusion"])
    numbers["bootstrap"] = balanced_bootstrap(matrix, config.bootstrap, config.seed)
    drawn = draw.confusions(labels, predictions, len(classes))
    some = drawn.any(axis=(1, 2))  # where speakers with ratings alone were drawn, there is none
    metrics = reported(config.metrics)
    numbers |= {name: float(metrics[name](matrix)) for name in config.metrics}
    intervals: dict[str, object] = {
        name: draw.interval(metric(drawn[some])) for name, metric in metrics.items()
    }
    f1 = np.where(drawn.any(axis=2), per_class_f1(drawn), np.nan)
    intervals["per_class"] = {name: draw.interval(f1[:, i]) for i, name in enumerate(classes)}
    return numbers | {"interval": intervals}


def _confidence_numbers(
    rows: pl.DataFrame, labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]
) -> dict[str, object]:
    """Return what needs probabilities, which the predictions of another tool may lack."""
    columns = [f"p.{name}" for name in classes]
    if not set(columns) <= set(rows.columns):
        return {"ece": None, "aurc": None, "risk": None}
    probabilities, labelled = rows.select(columns).to_numpy(), labels >= 0
    confidence = probabilities[labelled].max(axis=1)
    correct = predictions[labelled] == labels[labelled]
    return {
        "ece": ece(probabilities, labels),
        "aurc": aurc(confidence, correct),
        "risk": risk_at_coverages(confidence, correct),
    }


def _attribute_numbers(
    draw: Resamples, truth: np.ndarray, predicted: np.ndarray, attributes: Sequence[str]
) -> dict[str, dict[str, object]]:
    numbers: dict[str, dict[str, object]] = {
        name: dict(scores)
        for name, scores in score_attributes(truth, predicted, attributes).items()
    }
    drawn = resampled_ccc(draw, truth, predicted)
    binned = binned_confusion(truth, predicted)
    for i, name in enumerate(attributes):
        numbers[name] |= {"interval": draw.interval(drawn[:, i]), "confusion": binned[i].tolist()}
    rated = ~np.isnan(truth).all(axis=0)
    numbers[MEAN]["interval"] = draw.interval(drawn[:, rated].mean(axis=1))
    return numbers
