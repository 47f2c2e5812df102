"""Scores of the dev split, by which the best epoch is chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser.heads.config import HeadConfig
from ser.heads.training.targets import Labelled
from ser.score.attributes import ccc
from ser.score.metrics import confusion, reported


def dev_scores(
    rows: Labelled, outputs: Mapping[str, np.ndarray], further: Sequence[str] = ()
) -> dict[str, float]:
    """Return dev_macro_f1, dev_uar and dev_accuracy of logits, dev_ccc (a mean) of attributes.

    `further` are metrics of logits that are computed too.
    """
    scores = {}
    if "logits" in outputs:
        logits = outputs["logits"]
        matrix = confusion(rows.classes, logits.argmax(axis=1), logits.shape[1])
        scores = {
            f"dev_{name}": float(metric(matrix)) for name, metric in reported(further).items()
        }
    if "attributes" in outputs:
        assert rows.attributes is not None
        scores["dev_ccc"] = float(ccc(rows.attributes, outputs["attributes"]).mean())
    return scores


def chosen_score(config: HeadConfig, row: Mapping[str, Any]) -> float | None:
    """Return the score whose maximum is the best epoch; None without a dev set."""
    score = row.get(f"dev_{config.chosen_by}")
    return score if score is None or config.chosen_by != "loss" else -score


def scored_rows(config: HeadConfig, dev: Labelled) -> np.ndarray:
    """Return the positions of the dev rows that can be scored."""
    scorable = dev.classes >= 0 if "logits" in config.gives else np.zeros(len(dev), dtype=bool)
    if dev.attributes is not None:
        scorable = scorable | ~np.isnan(dev.attributes).all(axis=1)
    return np.flatnonzero(scorable)
