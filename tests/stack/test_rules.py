import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.metrics import f1_score

from ser.corpus.errors import UserError
from ser.score.heads import softmax
from ser.stack.rules import Majority, MeanLogits, MeanProba, TopK, Weighted
from tests.stack.factories import noisy

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
def test_both_rules_return_the_predictions_of_a_single_head(logits):
    for rule in (MeanLogits(12).fit(), Majority(12).fit()):
        assert np.array_equal(rule.predict(logits), logits.argmax(axis=1))


@settings(deadline=None)
@given(LOGITS)
def test_the_order_of_the_heads_does_not_matter_to_the_votes(logits):
    turned = logits.reshape(4, 3, 4)[:, ::-1].reshape(4, 12)
    assert np.array_equal(Majority(4).predict_proba(logits), Majority(4).predict_proba(turned))


def test_mean_proba_lets_two_heads_outvote_a_sure_one():
    row = np.array([[9, 0, 0, 1, 0, 1]], np.float32)
    assert MeanLogits(2).fit().predict(row).tolist() == [0]
    wanted = (1 / (1 + np.exp(-9)) + 2 / (1 + np.e)) / 3
    assert MeanProba(2).fit().predict_proba(row)[0, 0] == pytest.approx(wanted)
    assert MeanProba(2).fit().predict(row).tolist() == [0]


def test_least_squares_weights_are_those_of_an_independent_solver():
    from scipy.optimize import lsq_linear

    X, y = noisy([2, 3, 9])
    rule = Weighted(3).fit(X, y)
    assert rule.weights_.sum() == pytest.approx(1)
    share = 1 / np.sqrt(np.bincount(y)[y])
    expected = softmax(X.reshape(-1, 3, 3)).transpose(0, 2, 1) * share[:, None, None]
    wanted = lsq_linear(
        expected.reshape(-1, 3), (np.eye(3)[y] * share[:, None]).ravel(), (0, np.inf), tol=1e-14
    ).x
    assert rule.weights_ == pytest.approx(wanted / wanted.sum(), abs=1e-5)
    assert rule.weights_[0] > rule.weights_[1] > rule.weights_[2]


def test_weights_by_dev_are_macro_f1():
    X, y = noisy([2, 3, 9])
    f1 = [f1_score(y, X[:, i : i + 3].argmax(axis=1), average="macro") for i in (0, 3, 6)]
    rule = Weighted(3, "macro_f1").fit(X, y)
    assert rule.weights_ == pytest.approx(np.array(f1) / sum(f1))
    mean = np.average(softmax(X.reshape(-1, 3, 3)), axis=1, weights=f1)
    assert rule.predict_proba(X) == pytest.approx(mean)


def test_heads_that_are_always_wrong_weigh_the_same():
    X = np.array([[0, 50, 0, 50], [50, 0, 50, 0]])
    assert Weighted(2).fit(X, np.array([0, 1])).weights_.tolist() == [0.5, 0.5]
    assert Weighted(2, "macro_f1").fit(X, np.array([0, 1])).weights_.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("by", "rule"), [("mean", MeanProba), ("plurality", Majority)])
def test_top_k_uses_the_best_heads(by, rule):
    X, y = noisy([9, 2, 5, 3])
    top = TopK(3, 3, by).fit(X, y)
    assert top.heads_.tolist() == [1, 3, 2]
    best = X.reshape(-1, 4, 3)[:, [1, 3, 2]].reshape(-1, 9)
    assert np.array_equal(top.predict_proba(X), rule(3).fit().predict_proba(best))
    assert np.array_equal(top.predict(X), rule(3).fit().predict(best))
    assert TopK(3, 9, by).fit(X, y).heads_.tolist() == [1, 3, 2, 0]
    assert TopK(3, 2).fit(np.tile(X[:, :3], 3), y).heads_.tolist() == [0, 1]


@pytest.mark.parametrize("rule", [Weighted(3), Weighted(3, "macro_f1"), TopK(3, 2)], ids=str)
def test_what_was_saved_is_loaded_and_what_is_damaged_is_refused(tmp_path, rule):
    X, y = noisy([9, 2, 5, 3])
    rule.fit(X, y).save(tmp_path)
    assert np.array_equal(clone(rule).load(tmp_path, 3, 12).predict_proba(X), rule.predict_proba(X))
    path = tmp_path / "rule.json"
    texts = {
        '{"other": 1}': "it is not a rule for these heads",
        '{"weights": [], "heads": []}': "it is not a rule for these heads",
        '{"weights": ["1"], "heads": [[0]]}': "it is not a rule for these heads",
        '{"weights": [NaN, 1, 0, 0], "heads": [0, 0]}': "it is not a rule for these heads",
        '{"weights": [1e308, 1, 0, 0], "heads": [1.0]}': "it is not a rule for these heads",
        "[]": "it holds no JSON object",
        "": "it is missing",
    }
    for text, problem in texts.items():
        path.write_text(text) if text else path.unlink()
        with pytest.raises(UserError) as error:
            clone(rule).load(tmp_path, 3, 12)
        assert str(error.value) == (f"{path}: {problem}; fit the stack again with `ser stack fit`.")
    for text in ('{"weights": [1, -1, 0, 1], "heads": [0, 4]}', '{"weights": [1], "heads": [-1]}'):
        path.write_text(text)
        with pytest.raises(UserError):
            clone(rule).load(tmp_path, 3, 12)


def test_they_are_estimators():
    with pytest.raises(ValueError, match="pass both"):
        TopK(3).fit()
    assert clone(TopK(3, 2, "mean")).get_params() == {"classes": 3, "k": 2, "by": "mean"}
    assert Majority(3).fit().classes_.tolist() == [0, 1, 2]
    assert MeanLogits(2).fit().score(X, [0, 1]) == 1.0
