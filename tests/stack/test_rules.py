import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stack.rules import Majority, MeanLogits

# Three heads, two classes: a row is head by head.
X = np.array([[4, 0, 0, 1, 0, 1], [0, 1, 2, 0, 0, 3]], np.float32)
LOGITS = arrays(np.float32, (4, 12), elements=st.floats(-9, 9, width=32))


def test_mean_logits_lets_a_sure_head_win():
    rule = MeanLogits(2).fit()
    mean = np.array([[4 / 3, 2 / 3], [2 / 3, 4 / 3]])
    wanted = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)
    assert rule.predict_proba(X) == pytest.approx(wanted)
    assert rule.predict(X).tolist() == [0, 1]


def test_majority_counts_heads():
    rule = Majority(2).fit()
    assert rule.predict_proba(X) == pytest.approx(np.array([[1 / 3, 2 / 3], [1 / 3, 2 / 3]]))
    assert rule.predict(X).tolist() == [1, 1]


def test_a_tied_vote_goes_to_the_class_with_more_probability():
    two_heads = np.array([[0, 1, 2, 0], [0, 2, 1, 0], [0, 1, 1, 0]], np.float32)
    assert Majority(2).predict_proba(two_heads).tolist() == [[0.5, 0.5]] * 3
    assert Majority(2).predict(two_heads).tolist() == [0, 1, 0]


def test_a_class_without_a_vote_never_wins_a_tie():
    # The third class is every head's second choice and has the most probability of all.
    row = np.array([[2, -9, 1.9, -9, 2, 1.9]], np.float32)
    assert Majority(3).predict(row).tolist() == [0]


@settings(deadline=None)
@given(LOGITS)
def test_a_head_asked_alone_is_followed_by_both_rules(logits):
    for rule in (MeanLogits(12).fit(), Majority(12).fit()):
        assert np.array_equal(rule.predict(logits), logits.argmax(axis=1))


@settings(deadline=None)
@given(LOGITS)
def test_the_order_of_the_heads_does_not_matter_to_the_votes(logits):
    turned = logits.reshape(4, 3, 4)[:, ::-1].reshape(4, 12)
    assert np.array_equal(Majority(4).predict_proba(logits), Majority(4).predict_proba(turned))


def test_they_are_estimators():
    assert Majority(3).fit().classes_.tolist() == [0, 1, 2]
    assert MeanLogits(2).fit().score(X, [0, 1]) == 1.0
