import numpy as np
import pytest
from sklearn.metrics import f1_score

from ser.corpus.errors import UserError
from ser.score.heads import softmax
from ser.stack.offsets import fit_offsets, with_offsets


def skewed(rows=1500, seed=0):
    """Return probabilities that are biased to frequent classes, labels, and 30 speakers."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, rows, p=[0.8, 0.14, 0.06])
    logits = 2 * np.eye(3)[y] + rng.normal(size=(rows, 3)) + np.log([0.8, 0.14, 0.06])
    return softmax(logits), y, [f"s{i % 30}" for i in range(rows)]


def test_offsets_change_the_odds_by_their_exponent():
    shifted = with_offsets(np.array([[0.6, 0.3, 0.1], [1, 0, 0]]), np.log([1.0, 1.0, 6.0]))
    assert shifted[0] == pytest.approx([0.4, 0.2, 0.4])
    assert shifted[1] == pytest.approx([1, 0, 0])
    assert np.isfinite(shifted).all()


def test_rare_classes_are_raised_and_new_rows_score_higher():
    offsets = fit_offsets(*skewed(), folds=5, seed=42)
    assert offsets.sum() == pytest.approx(0)
    assert offsets[0] < offsets.min(initial=9, where=[False, True, True])
    probability, y, _ = skewed(seed=1)
    before, after = (
        f1_score(y, p.argmax(axis=1), average="macro")
        for p in (probability, with_offsets(probability, offsets))
    )
    assert after > before + 0.02


def test_a_gain_within_the_noise_is_no_gain():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    probability = softmax(np.eye(3)[y] + rng.normal(size=(90, 3)))
    assert fit_offsets(probability, y, ["a", "b", "c"] * 30, 3, 42).tolist() == [0, 0, 0]


def test_the_same_rows_give_the_same_offsets_and_too_few_speakers_are_named():
    first, second = (fit_offsets(*skewed(600), folds=5, seed=1) for _ in range(2))
    assert np.array_equal(first, second)
    with pytest.raises(UserError, match="there are only 2 speakers"):
        fit_offsets(*skewed(60)[:2], ["a", "b"] * 30, 5, 42)
