"""Linear models solved to convergence: multinomial logistic regression and ridge regression.

    loss(W, b) = sum_i w_i CE(t_i, softmax(W x_i + b)) / sum_i w_i + |W|^2 / (2 C sum_i w_i)

Targets t_i are shares of the classes, so one-hot labels and raters' votes are the same case. With
w_i of the class-balanced kind (N / (classes n_c)) it is the objective of scikit-learn's
`LogisticRegression(class_weight="balanced")`.

The solver is L-BFGS on rotated data: in the basis of the principal axes, with each axis scaled by
its own curvature, the Hessian is close to the identity and some ten steps suffice, whatever the
channels have in common.
"""

from dataclasses import dataclass

import numpy as np

TOLERANCE = 1e-5  # largest component of the gradient, in scaled axes
ROUGH = 1e-3  # where candidates are only compared
MOST_STEPS = 500


@dataclass(frozen=True)
class Standardised:
    """Rows `(n, width)` standardised and rotated to their principal axes.

    `rows` are `(n, rank)`; `axes` `(width, rank)` turn weights of the axes into those of the
    standardised channels; `mean` and `deviation` are those of the channels.
    """

    rows: np.ndarray
    axes: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Standardised":
        """Standardise and rotate; a constant channel keeps its scale."""
        values = values.astype(np.float64)
        mean, deviation = values.mean(axis=0), values.std(axis=0)
        deviation = np.where(deviation > 1e-6, deviation, 1.0)
        scores = (values - mean) / deviation
        if scores.shape[0] < scores.shape[1]:
            spread, left = np.linalg.eigh(scores @ scores.T)
            kept = spread > 1e-10 * max(spread[-1], 1e-300)
            root = np.sqrt(spread[kept])
            axes = scores.T @ (left[:, kept] / root)
            return cls(left[:, kept] * root, axes, mean, deviation)
        spread, axes = np.linalg.eigh(scores.T @ scores)
        axes = axes[:, spread > 1e-10 * max(spread[-1], 1e-300)]
        return cls(scores @ axes, axes, mean, deviation)


def logistic(
    rows: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    strength: float,
    start: np.ndarray | None = None,
    *,
    rough: bool = False,
) -> np.ndarray:
    """Return the weights and, in the last column, the bias: float64 `(classes, width + 1)`.

    Args:
        rows: `(n, width)`, best on principal axes (`Standardised`).
        targets: `(n, classes)`, each row sums to 1.
        weights: `(n,)`, of the rows.
        strength: C, the inverse of the L2 penalty.
        start: weights to begin with, those of a similar problem.
        rough: stop early, when the scores change no more.
    """
    from scipy.optimize import minimize

    (n, width), classes, total = rows.shape, targets.shape[1], weights.sum()
    penalty = 1 / (strength * total)
    uncertain = (classes - 1) / classes**2  # p (1 - p) of an undecided model
    curvature = uncertain * np.append((rows * rows).sum(axis=0) / n, 1.0)
    scale = 1 / np.sqrt(curvature + np.append(np.full(width, penalty), 0.0))
    share = (weights / total)[:, None]

    def loss(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        model = scaled.reshape(classes, width + 1) * scale
        scores = rows @ model[:, :-1].T + model[:, -1]
        scores -= scores.max(axis=1, keepdims=True)
        powers = np.exp(scores)
        sums = powers.sum(axis=1, keepdims=True)
        value = (share * (np.log(sums) - (targets * scores).sum(axis=1, keepdims=True))).sum()
        error = share * (powers / sums - targets)
        gradient = np.column_stack([error.T @ rows + penalty * model[:, :-1], error.sum(axis=0)])
        square = 0.5 * penalty * (model[:, :-1] ** 2).sum()
        return float(value + square), (gradient * scale).ravel()

    first = np.zeros((classes, width + 1)) if start is None else start / scale
    options = {"maxiter": MOST_STEPS, "gtol": ROUGH if rough else TOLERANCE, "ftol": 0.0}
    minimum = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    solution: np.ndarray = minimum.x.reshape(classes, width + 1) * scale
    return solution


def ridge(rows: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    """Return weights and bias of ridge regressions: float64 `(targets, width + 1)`.

    Args:
        rows: `(n, width)`.
        targets: `(n, targets)`, NaN where unknown; each column is a regression on the rows where
            it is known, and 0 where none is.
        penalty: alpha, of the sum of squares.
    """
    models = np.zeros((targets.shape[1], rows.shape[1] + 1))
    for model, target in zip(models, targets.T, strict=True):
        rated = ~np.isnan(target)
        if not rated.any():
            continue
        mean, level = rows[rated].mean(axis=0), target[rated].mean()
        centred = rows[rated] - mean
        square = centred.T @ centred + penalty * np.eye(rows.shape[1])
        model[:-1] = np.linalg.solve(square, centred.T @ (target[rated] - level))
        model[-1] = level - model[:-1] @ mean
    return models


def predict(model: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the scores `(n, outputs)` of weights and bias."""
    scores: np.ndarray = rows @ model[:, :-1].T + model[:, -1]
    return scores
