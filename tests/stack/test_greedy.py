import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from ser.score.heads import softmax
from ser.stack.greedy import Greedy
from tests.stack.factories import noisy


def balanced_log_loss(weights, X, y, classes=3):
    mean = np.einsum("rhc,h->rc", softmax(X.reshape(len(X), -1, classes)), weights)
    return np.mean([-np.log(mean[y == c, c]).mean() for c in range(classes)])


def test_one_round_is_the_head_with_the_least_balanced_log_loss():
    X, y = noisy([9, 5, 3, 6])
    losses = [balanced_log_loss(np.eye(4)[i], X, y) for i in range(4)]
    assert Greedy(3, rounds=1).fit(X, y).weights_.tolist() == np.eye(4)[np.argmin(losses)].tolist()
    assert np.argmin(losses) == 2


def test_two_heads_get_the_weights_of_an_independent_minimiser():
    X, y = noisy([4, 6])
    rule = Greedy(3, rounds=100).fit(X, y)
    best = minimize_scalar(
        lambda w: balanced_log_loss(np.array([w, 1 - w]), X, y), bounds=(0, 1), method="bounded"
    ).x
    assert 0.05 < best < 0.95
    assert rule.weights_ == pytest.approx(np.array([best, 1 - best]), abs=0.02)
    assert (rule.weights_ * 100) == pytest.approx(np.round(rule.weights_ * 100))


def test_a_head_that_knows_nothing_is_not_added_and_rare_classes_count_as_much():
    X, y = noisy([3, 3])
    useless = np.zeros((len(y), 3))
    weights = Greedy(3).fit(np.concatenate([X, useless], axis=1), y).weights_
    assert weights.sum() == pytest.approx(1) and weights[2] == 0 and (weights[:2] > 0).all()
    frequent = 3 * np.eye(3)[np.zeros(len(y), int)]  # always the most frequent class
    blind = Greedy(3, rounds=1).fit(np.concatenate([frequent, useless], axis=1), y)
    assert blind.weights_.tolist() == [0, 1]


def test_ties_go_to_the_head_named_first():
    X, y = noisy([3])
    assert Greedy(3).fit(np.tile(X, 3), y).weights_.tolist() == [1, 0, 0]
