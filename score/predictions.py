"""What a system predicts for the rows of a split, and the frame of it that is scored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ser.score.truth import PREDICTED


@dataclass(frozen=True)
class Predictions:
    """A system's predictions for rows; None where it predicts no classes, or no attributes."""

    chosen: np.ndarray | None  # (rows,) class indices
    probability: np.ndarray | None  # (rows, classes) float64
    attributes: np.ndarray | None  # (rows, attributes) float64

    def frame(
        self,
        utterances: Sequence[str],
        split: str,
        classes: Sequence[str],
        attributes: Sequence[str],
    ) -> pl.DataFrame:
        """Return utterance, split, prediction, p.<class> and predicted.<attribute>."""
        columns = [
            pl.Series("utterance", utterances, pl.String()),
            pl.Series("split", [split] * len(utterances), pl.String()),
        ]
        if self.chosen is not None and self.probability is not None:
            chosen = np.array(classes, object)[self.chosen]
            columns.append(pl.Series("prediction", chosen.tolist(), pl.String()))
            columns += [pl.Series(f"p.{c}", self.probability[:, i]) for i, c in enumerate(classes)]
        if self.attributes is not None:
            rated = enumerate(attributes)
            columns += [pl.Series(PREDICTED + a, self.attributes[:, i]) for i, a in rated]
        return pl.DataFrame(columns)
