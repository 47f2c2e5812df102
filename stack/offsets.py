"""Class offsets: one number per class, added to its log-probability before the best is taken.

A model that minimises log-loss predicts the frequent classes more often than macro-F1 rewards. The
offsets are those that maximise macro-F1 on held-out probabilities: coordinate ascent, one class
after the other over a grid. Macro-F1 of few rows is noisy, and the best of a grid is the best of
the noise. So the gain is measured on speakers that the offsets were not fitted on, and offsets
whose gain is within one standard error (over speakers) are 0.
"""

from collections.abc import Sequence

import numpy as np

from ser.corpus.folds import speaker_folds
from ser.score.bootstrap import resample_speakers
from ser.score.heads import softmax
from ser.score.metrics import confusion, macro_f1

GRID = np.linspace(-1.5, 1.5, 31)  # offsets that are tried; a factor of 0.22 to 4.5
SWEEPS = 3  # over all classes
RESAMPLES = 200
TINY = float(np.finfo(np.float64).eps)  # replaces a probability of 0


def with_offsets(probability: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Add offsets `(classes,)` to the log-probabilities `(rows, classes)`, and renormalise.

    >>> with_offsets(np.array([[0.5, 0.5]]), np.log([1.0, 3.0])).round(3).tolist()
    [[0.25, 0.75]]
    """
    return softmax(np.log(probability.clip(TINY)) + offsets)


def fit_offsets(
    probability: np.ndarray, y: np.ndarray, speakers: Sequence[str], folds: int, seed: int
) -> np.ndarray:
    """Return the offsets of the classes: float64 `(classes,)`, mean 0; all 0 where none help.

    Args:
        probability: held-out probabilities `(rows, classes)`.
        y: class indices `(rows,)`.
        speakers: the speaker of each row; "" is a speaker of its own.
        folds: the number of speaker-disjoint folds that measure the gain.
        seed: of the folds and of the resampled speakers.

    Raises `UserError` for fewer speakers than folds.
    """
    logs, classes = np.log(probability.clip(TINY)), probability.shape[1]
    fold = speaker_folds(y, speakers, folds, seed)
    chosen = np.zeros_like(y)
    for k in range(folds):
        offsets = _ascend(logs[fold != k], y[fold != k])
        chosen[fold == k] = (logs[fold == k] + offsets).argmax(axis=1)
    draw = resample_speakers(speakers, RESAMPLES, seed)

    def scores(predicted: np.ndarray) -> tuple[float, np.ndarray]:
        drawn = macro_f1(draw.confusions(y, predicted, classes))
        return float(macro_f1(confusion(y, predicted, classes))), drawn

    (with_them, drawn_with), (without, drawn_without) = scores(chosen), scores(logs.argmax(axis=1))
    if with_them - without <= np.nanstd(drawn_with - drawn_without):
        return np.zeros(classes)
    offsets = _ascend(logs, y)
    centred: np.ndarray = offsets - offsets.mean()
    return centred


def _ascend(logs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Maximise macro-F1, one class after the other; of equal offsets the nearest to 0 is taken."""
    classes = logs.shape[1]
    offsets = np.zeros(classes)
    order = np.argsort(np.abs(GRID), kind="stable")  # argmax takes the first: the nearest to 0
    for _ in range(SWEEPS):
        before = offsets.copy()
        for c in range(classes):
            shifted = logs + offsets
            shifted[:, c] = -np.inf
            other, rival = shifted.argmax(axis=1), shifted.max(axis=1)
            wins = logs[:, [c]] + GRID[order] > rival[:, None]  # (rows, grid)
            chosen = np.where(wins, c, other[:, None]).T
            scores = macro_f1(np.stack([confusion(y, row, classes) for row in chosen]))
            offsets[c] = GRID[order[scores.argmax()]]
        if np.array_equal(before, offsets):
            break
    return offsets
