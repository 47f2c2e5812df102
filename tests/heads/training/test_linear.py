import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from ser.heads.training import linear
from ser.heads.training.linear import Standardised, logistic, predict, ridge


def make_rows(count=60, width=8, classes=3):
    rng = np.random.default_rng(0)
    labels = np.r_[np.arange(classes), rng.integers(classes, size=count - classes)]
    values = rng.standard_normal((count, width)) + 0.8 * np.eye(classes, width)[labels]
    return values, labels


@pytest.mark.parametrize("strength", [1e-3, 1e-1, 1.0])
def test_logistic_is_that_of_scikit_learn(monkeypatch, strength):
    monkeypatch.setattr(linear, "TOLERANCE", 1e-8)
    values, labels = make_rows()
    weights = (len(labels) / (3 * np.bincount(labels)))[labels]
    model = logistic(values, np.eye(3)[labels], weights, strength)
    other = LogisticRegression(C=strength, class_weight="balanced", tol=1e-9, max_iter=5000)
    expected = other.fit(values, labels).decision_function(values)
    scores = predict(model, values)
    np.testing.assert_allclose(scores - scores.mean(1, keepdims=True), expected, atol=1e-4)


def test_votes_are_rows_that_are_repeated(monkeypatch):
    monkeypatch.setattr(linear, "TOLERANCE", 1e-9)
    values, labels = make_rows()
    votes = 0.75 * np.eye(3)[labels] + 0.25 * np.eye(3)[(labels + 1) % 3]
    repeated = np.concatenate([values] * 4)
    targets = np.concatenate([np.eye(3)[labels]] * 3 + [np.eye(3)[(labels + 1) % 3]])
    soft = logistic(values, votes, np.ones(60), 0.4)
    hard = logistic(repeated, targets, np.ones(240), 0.1)  # the same penalty for each row
    np.testing.assert_allclose(soft, hard, atol=1e-5)


def test_a_start_changes_no_solution(monkeypatch):
    monkeypatch.setattr(linear, "TOLERANCE", 1e-9)
    values, labels = make_rows()
    problem = values, np.eye(3)[labels], np.ones(60)
    start = logistic(*problem, 1e-3)
    np.testing.assert_allclose(logistic(*problem, 1.0, start), logistic(*problem, 1.0), atol=1e-4)


def test_ridge_is_that_of_scikit_learn_on_the_rows_that_are_known():
    values, labels = make_rows()
    targets = np.column_stack([2.0 + labels, 6.0 - labels, np.full(60, np.nan)])
    targets[:20, 1] = np.nan
    models = ridge(values, targets, 10.0)
    for target, model in zip(targets.T[:2], models, strict=False):
        known = ~np.isnan(target)
        expected = Ridge(alpha=10.0).fit(values[known], target[known])
        np.testing.assert_allclose(model, [*expected.coef_, expected.intercept_])
    assert not models[2].any()


@pytest.mark.parametrize("count", [5, 60])
def test_axes_keep_the_scores(count):
    values, _ = make_rows(count=count)
    values[:, 3] = 2.0  # a constant
    standard = Standardised.of(values.astype(np.float32))
    deviation = np.where(np.arange(8) == 3, 1.0, values.std(axis=0))
    expected = (values - values.mean(axis=0)) / deviation
    np.testing.assert_allclose(standard.rows @ standard.axes.T, expected, atol=1e-6)
    np.testing.assert_allclose(expected @ standard.axes, standard.rows, atol=1e-6)
