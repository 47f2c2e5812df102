"""The numbers of predicted attributes (arousal, valence, dominance).

ccc      concordance correlation coefficient 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2), with
         population moments (Lin 1989, "A Concordance Correlation Coefficient to Evaluate
         Reproducibility")
pearson  s_xy / (s_x s_y)
rmse     root of the mean squared error, in points of the 1-7 scale

Values whose truth is NaN are ignored, column by column. CCC is a function of six sums over rows.
Both sides are taken less the mean of the truth, which changes no CCC and keeps precision. The
bootstrap needs these sums only once per speaker.
"""

from collections.abc import Sequence

import numpy as np

from ser.score.bootstrap import Resamples
from ser.score.metrics import confusion, ratio

LOWEST, HIGHEST, BINS = 1, 7, 6


def ccc(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the concordance correlation coefficient of each attribute, float64 `(attributes,)`.

    Args:
        truth: the ratings, `(rows, attributes)`; NaN where unknown.
        predicted: the predictions, of the same shape.

    It is 0 where both sides are the same constant, and without any row.

        >>> ccc(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [4.0]])).round(3).tolist()
        [0.857]
    """
    return _ccc_of(_statistics(truth, predicted).sum(axis=0))


def pearson(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each column: float64 `(attributes,)`, 0 for a constant."""
    n, x, y, xx, yy, xy = _statistics(truth, predicted).sum(axis=0)
    n = np.maximum(n, 1)
    varied = (xx / n - (x / n) ** 2).clip(0) * (yy / n - (y / n) ** 2).clip(0)
    return ratio(xy / n - x * y / n**2, np.sqrt(varied))


def rmse(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the root mean squared error of each column: float64 `(attributes,)`."""
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    rated = ~np.isnan(truth)
    squares = np.where(rated, predicted - truth, 0) ** 2
    root: np.ndarray = np.sqrt(squares.sum(axis=0) / np.maximum(rated.sum(axis=0), 1))
    return root


def resampled_ccc(draw: Resamples, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the CCC of each column in every resample: float64 `(resamples, attributes)`.

    NaN where a resample has no row with a truth.
    """
    statistics = _statistics(truth, predicted)
    drawn = draw.sums(statistics.reshape(len(statistics), -1))
    sums = np.moveaxis(drawn.reshape(-1, *statistics.shape[1:]), 1, 0)
    return np.where(sums[0] > 0, _ccc_of(sums), np.nan)


def binned_confusion(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Count rows by true and predicted bin: int64 `(attributes, 6, 6)`, rows true.

    The six bins of width 1 are [1, 2), [2, 3), ..., [6, 7]; a value outside falls into the nearest
    (as in Figure 3 of the overview of the Interspeech 2025 challenge, whose edges are not given).
    """
    matrices = []
    for attribute, rated in enumerate(~np.isnan(truth).T):
        true, estimated = (
            np.floor(side[rated, attribute] - LOWEST).clip(0, BINS - 1).astype(np.int64)
            for side in (truth, predicted)
        )
        matrices.append(confusion(true, estimated, BINS))
    return np.array(matrices, np.int64).reshape(-1, BINS, BINS)


def score_attributes(
    truth: np.ndarray, predicted: np.ndarray, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return ccc, rmse, pearson and n of every attribute, and of their `mean`.

    `truth` and `predicted` are `(rows, attributes)`, aligned by utterance id. An attribute without
    any truth has n 0 and is left out of the mean; the mean's n counts rows with any truth.
    """
    rated = ~np.isnan(truth)
    n = rated.sum(axis=0)
    columns = {"ccc": ccc, "rmse": rmse, "pearson": pearson}
    scores = {name: metric(truth, predicted) for name, metric in columns.items()}
    scored: dict[str, dict[str, float]] = {
        name: {column: float(values[i]) for column, values in scores.items()} | {"n": int(n[i])}
        for i, name in enumerate(names)
    }
    mean = {name: float(v[n > 0].mean()) if n.any() else 0.0 for name, v in scores.items()}
    return scored | {"mean": mean | {"n": int(rated.any(axis=1).sum())}}


def _statistics(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return 1, x, y, x², y², xy of every row, 0 where unknown: `(rows, 6, attributes)`."""
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    rated = ~np.isnan(truth)
    centre = np.where(rated, truth, 0).sum(axis=0) / np.maximum(rated.sum(axis=0), 1)
    x, y = (np.where(rated, side - centre, 0) for side in (truth, predicted))
    return np.stack([rated.astype(np.float64), x, y, x * x, y * y, x * y], axis=1)


def _ccc_of(sums: np.ndarray) -> np.ndarray:
    n, x, y, xx, yy, xy = sums
    n = np.maximum(n, 1)
    # s_x^2 + s_y^2 + (m_x - m_y)^2, multiplied out
    return ratio(2 * (xy / n - x * y / n**2), xx / n + yy / n - 2 * x * y / n**2)
