import json

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from ser.corpus.errors import UserError
from ser.score.heads import softmax
from ser.stack.pools import Greedy, LogPool, MeanScaled
from ser.stack.rules import MeanLogits
from tests.stack.factories import noisy


def loss_of_mean(weights, X, y, classes=3):
    mean = np.einsum("rhc,h->rc", softmax(X.reshape(len(X), -1, classes)), weights)
    return np.mean([-np.log(mean[y == c, c]).mean() for c in range(classes)])


def test_one_round_is_the_head_with_the_least_loss_of_mean():
    X, y = noisy([9, 5, 3, 6])
    losses = [loss_of_mean(np.eye(4)[i], X, y) for i in range(4)]
    assert Greedy(3, rounds=1).fit(X, y).weights_.tolist() == np.eye(4)[np.argmin(losses)].tolist()
    assert np.argmin(losses) == 2


def test_two_heads_get_the_weights_of_an_independent_minimiser():
    X, y = noisy([4, 6])
    rule = Greedy(3, rounds=100).fit(X, y)
    best = minimize_scalar(
        lambda w: loss_of_mean(np.array([w, 1 - w]), X, y), bounds=(0, 1), method="bounded"
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


def loss_of_pool(weights, X, y):
    probability = softmax(np.tensordot(X.reshape(len(X), -1, 3), weights, (1, 0)))
    return np.mean([-np.log(probability[y == c, c]).mean() for c in range(3)])


def test_the_weights_are_those_of_a_search_without_gradients():
    X, y = noisy([4, 6])
    wanted = minimize(loss_of_pool, [0.5, 0.5], (X, y), "Nelder-Mead", tol=1e-10).x
    assert (wanted > 0.05).all()
    assert LogPool(3).fit(X, y).weights_ == pytest.approx(wanted, rel=1e-2)


def test_a_head_that_misleads_gets_nothing_and_equal_weights_are_the_mean_of_the_logits():
    X, y = noisy([3, 3])
    misled = 3 * np.random.default_rng(1).normal(size=(len(y), 3)) - 4 * np.eye(3)[y]
    pool = LogPool(3).fit(np.concatenate([X, misled], axis=1), y)
    assert pool.weights_[1] > 0 and pool.weights_[2] == 0
    pool.weights_ = np.full(2, 0.5)
    assert pool.predict_proba(X) == pytest.approx(MeanLogits(3).fit().predict_proba(X))


def test_without_any_head_that_helps_all_count_the_same():
    y = np.arange(30) % 3
    wrong = -np.tile(np.eye(3)[y], 2)
    assert LogPool(3).fit(wrong, y).weights_.tolist() == [0.5, 0.5]


def test_what_was_saved_is_loaded_and_what_is_damaged_is_refused(tmp_path):
    X, y = noisy([3, 5])
    pool = LogPool(3).fit(X, y)
    pool.save(tmp_path)
    assert np.array_equal(LogPool(3).load(tmp_path, 3, 6).predict_proba(X), pool.predict_proba(X))
    for weights in ([1], [1, 1, 1], [-1, 1], [0, 0], [1e7, 1], [float("nan"), 1], ["1", 1], 1):
        (tmp_path / "rule.json").write_text(json.dumps({"weights": weights}))
        with pytest.raises(UserError, match="it is not a rule for these heads"):
            LogPool(3).load(tmp_path, 3, 6)


def test_the_scale_of_a_head_changes_nothing_in_the_mean_on_one_scale():
    X, y = noisy([3, 5])
    scaled = X * np.repeat([0.01, 1], 3)
    wanted = MeanScaled(3).fit(X, y).predict_proba(X).argmax(axis=1)
    pool = MeanScaled(3).fit(scaled, y)
    assert pool.predict_proba(scaled).argmax(axis=1).tolist() == wanted.tolist()
    heads = scaled.reshape(len(y), 2, 3)
    weighted = (heads - heads.mean(axis=2, keepdims=True)) * pool.weights_[:, None]
    assert weighted[:, 0].std() == pytest.approx(weighted[:, 1].std())


def test_a_head_that_says_the_same_of_every_class_has_no_weight():
    X, y = noisy([3])
    same = np.ones((len(y), 3))
    pool = MeanScaled(3).fit(np.concatenate([X, same], axis=1), y)
    assert pool.weights_.tolist() == [0.25, 0.0]
    assert MeanScaled(3).fit(np.concatenate([same, same], axis=1), y).weights_.tolist() == [
        0.5,
        0.5,
    ]
