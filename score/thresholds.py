"""The confidence threshold with which a system keeps to a wanted risk, chosen on dev.

Nothing guarantees the risk on other data: it is measured on test, beside the coverage there.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ser.score.abstention import choose_threshold
from ser.score.pairs import System


@dataclass(frozen=True)
class Operating:
    """Coverage and risk at a threshold; the risk is None where nothing is predicted."""

    coverage: float
    risk: float | None


@dataclass(frozen=True)
class Threshold:
    """The lowest threshold with which a system keeps to a risk on dev, and what it gives.

    `threshold` is None where no threshold does. `test` is None without labels on test.
    """

    system: str
    threshold: float | None
    dev: Operating | None
    test: Operating | None


def operate(confidence: np.ndarray, correct: np.ndarray, threshold: float) -> Operating:
    """Return coverage and risk of predicting the rows of at least that confidence."""
    predicted = confidence >= threshold
    wrong = ~correct[predicted]
    return Operating(float(predicted.mean()), float(wrong.mean()) if len(wrong) else None)


def threshold_for(system: System, risk: float) -> Threshold | None:
    """Choose a system's threshold on dev; None where it has no probabilities or labels there."""
    probabilities = [f"p.{name}" for name in system.classes]
    if not set(probabilities) <= set(system.rows.columns):
        return None
    rows = system.rows.filter(pl.col("emotion").is_not_null())
    confidence = rows.select(probabilities).to_numpy().max(axis=1, initial=0)
    correct = (rows["emotion"] == rows["prediction"]).to_numpy()
    dev, test = ((rows["split"] == split).to_numpy() for split in ("dev", "test"))
    if not dev.any():
        return None
    threshold = choose_threshold(confidence[dev], correct[dev], risk)
    if threshold is None:
        return Threshold(system.name, None, None, None)
    on_dev, on_test = (
        operate(confidence[side], correct[side], threshold) if side.any() else None
        for side in (dev, test)
    )
    return Threshold(system.name, threshold, on_dev, on_test)
