"""Macro-F1 on labelled rows, with its interval over speakers, and paired comparisons."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from ser.score.bootstrap import Resamples, resample_speakers
from ser.score.compare import PairedClasses, compare_classes
from ser.score.metrics import confusion, macro_f1
from ser.stack.model import FittedStack
from ser.stack.table import LogitTable


@dataclass(frozen=True)
class Scorer:
    """The truth that predicted class indices `(rows,)` are scored against.

    Attributes:
        labels: class indices `(rows,)`.
        speakers: the speaker of each row, "" where unknown.
        classes: the number of classes.
        resamples: how often the speakers are resampled.
        seed: of the resampled speakers.
    """

    labels: np.ndarray
    speakers: list[str]
    classes: int
    resamples: int
    seed: int

    @cached_property
    def draw(self) -> Resamples:
        """The resampled speakers."""
        return resample_speakers(self.speakers, self.resamples, self.seed)

    def macro_f1(self, chosen: np.ndarray) -> float:
        """Return macro-F1."""
        return float(macro_f1(confusion(self.labels, chosen, self.classes)))

    def drawn(self, chosen: np.ndarray) -> np.ndarray:
        """Return macro-F1 of every resample: `(resamples,)`."""
        return macro_f1(self.draw.confusions(self.labels, chosen, self.classes))

    def interval(self, chosen: np.ndarray) -> tuple[float | None, float | None]:
        """Return the 95 % interval of macro-F1; None for fewer than 5 speakers."""
        low, high = self.draw.interval(self.drawn(chosen)) or (None, None)
        return low, high

    def compare(self, first: np.ndarray, second: np.ndarray) -> PairedClasses:
        """Return the paired difference of macro-F1 (first - second), its interval and p."""
        return compare_classes(
            self.labels,
            first,
            second,
            self.speakers,
            self.classes,
            resamples=self.resamples,
            seed=self.seed,
        )


@dataclass(frozen=True)
class SplitScorer(Scorer):
    """The labelled rows `at` of one split of a table."""

    split: str
    at: np.ndarray

    @classmethod
    def on(cls, table: LogitTable, split: str, resamples: int, seed: int) -> Self:
        """Return the scorer of a split that has labelled rows."""
        rows = table.splits[split]
        at = np.flatnonzero(rows.label >= 0)
        return cls(
            rows.label[at], rows.speakers_of(at), len(table.classes), resamples, seed, split, at
        )

    def predicted(self, stack: FittedStack, table: LogitTable) -> np.ndarray:
        """Return the class indices that a stack predicts for the rows."""
        return stack.classify(stack.inputs(table.splits[self.split])[self.at])[0]

    def score(self, chosen: np.ndarray) -> dict[str, float | None]:
        """Return macro-F1, its interval and the number of speakers, named by the split."""
        low, high = self.interval(chosen)
        return {
            self.split: self.macro_f1(chosen),
            f"{self.split}_low": low,
            f"{self.split}_high": high,
            f"{self.split}_speakers": self.draw.speakers,
        }
