"""Scores of predicted labels: two arrays in, one number out.

The same numbers as those of `ser score`, which takes them of confusion matrices
(`ser.score.metrics`). Labels may be names or numbers.
"""

from collections.abc import Sequence

import numpy as np

from ser.corpus.errors import UserError
from ser.score import metrics

Labels = Sequence[object] | np.ndarray


def macro_f1(y_true: Labels, y_pred: Labels) -> float:
    """Average the F1 of the classes that occur in `y_true`.

    Args:
        y_true: the label of each utterance.
        y_pred: the prediction for each utterance, in the same order.

        >>> macro_f1(["angry", "sad", "sad"], ["angry", "sad", "angry"])
        0.6666666666666666
    """
    return float(metrics.macro_f1(_confusion(y_true, y_pred)))


def uar(y_true: Labels, y_pred: Labels) -> float:
    """Average the recall of the classes that occur in `y_true` (unweighted average recall).

    Args:
        y_true: the label of each utterance.
        y_pred: the prediction for each utterance, in the same order.

        >>> uar(["angry", "sad", "sad"], ["angry", "sad", "angry"])
        0.75
    """
    return float(metrics.uar(_confusion(y_true, y_pred)))


def _confusion(y_true: Labels, y_pred: Labels) -> np.ndarray:
    true, predicted = np.asarray(y_true), np.asarray(y_pred)
    if true.ndim != 1 or true.shape != predicted.shape:
        raise UserError(
            f"y_true is of shape {true.shape} and y_pred of {predicted.shape}; give one label and "
            "one prediction for each utterance."
        )
    classes, places = np.unique(np.concatenate([true, predicted]), return_inverse=True)
    return metrics.confusion(places[: len(true)], places[len(true) :], len(classes))
