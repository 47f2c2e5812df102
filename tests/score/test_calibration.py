"""Calibration, against scikit-learn, a search, and cases by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from ser.score.calibration import ece, equal_mass_curve, fit_temperature, reliability_curve
from ser.score.heads import softmax


def sample(seed: int, rows: int = 300, temperature: float = 1.0):
    """Make logits, and labels drawn from `softmax(logits / temperature)`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, 4))
    ladder = softmax(logits / temperature).cumsum(axis=1)
    return logits, (rng.random((rows, 1)) > ladder).sum(axis=1)


def test_ece_by_hand():
    # Bins (9/15, 10/15] and (13/15, 14/15]: half of the first are right, all of the second.
    sure = np.array([0.65, 0.61, 0.9, 0.9, 0.5])
    probabilities = np.stack([sure, 1 - sure], axis=1)
    labels = np.array([0, 1, 0, 0, -1])
    assert ece(probabilities, labels) == pytest.approx(2 / 4 * (0.63 - 0.5) + 2 / 4 * (1 - 0.9))
    curve = reliability_curve(probabilities, labels)
    assert curve["n"].to_list() == [0] * 9 + [2] + [0] * 3 + [2] + [0]
    assert curve.row(9) == pytest.approx((9 / 15, 10 / 15, 2, 0.63, 0.5))
    assert curve.row(0)[2:] == (0, None, None)
    halves = reliability_curve(np.array([[0.5, 0.5]]), np.array([0]), bins=2)
    assert halves["n"].to_list() == [1, 0]  # an edge belongs to the bin below


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(1, 20))
def test_the_curve_is_scikit_learns_and_ece_sums_it_up(seed, bins):
    logits, labels = sample(seed)
    p = softmax(logits)
    right, sure = p.argmax(axis=1) == labels, p.max(axis=1)
    accuracy, confidence = calibration_curve(right, sure, n_bins=bins)
    curve = reliability_curve(p, labels, bins).drop_nulls()
    assert curve["accuracy"].to_list() == pytest.approx(accuracy)
    assert curve["confidence"].to_list() == pytest.approx(confidence)
    expected = sum(
        mask.mean() * abs(right[mask].mean() - sure[mask].mean())
        for mask in ((sure > k / bins) & (sure <= (k + 1) / bins) for k in range(bins))
        if mask.any()
    )
    assert ece(p, labels, bins) == pytest.approx(expected)


def test_bins_of_equal_mass_by_hand():
    confidence = np.repeat([0.5, 0.6, 0.7, 0.8], 5)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.append(np.arange(20) >= 10, -1)  # the first half is right
    curve = equal_mass_curve(np.vstack([probabilities, [[1, 0]]]), labels)
    assert curve.rows() == [
        (0.5, 0.6, 10, pytest.approx(0.55), 1.0),
        (0.7, 0.8, 10, pytest.approx(0.75), 0.0),
    ]
    assert equal_mass_curve(probabilities[:3], labels[:3])["n"].to_list() == [3]


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 400))
def test_bins_of_equal_mass_hold_every_row_in_about_equal_parts(seed, rows):
    logits, labels = sample(seed, rows=rows)
    curve = equal_mass_curve(softmax(logits), labels)
    bins = max(1, min(10, rows // 10))
    assert curve["n"].sum() == rows
    assert curve.height == bins
    assert curve["n"].max() - curve["n"].min() <= 2
    assert (curve["upper"][:-1] < curve["lower"][1:]).all()


def test_rows_of_one_confidence_share_a_bin_in_any_order():
    confidence = np.array([0.9] * 30 + [0.6] * 10)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.arange(40) % 2
    curve = equal_mass_curve(probabilities, labels)
    assert curve["n"].to_list() == [10, 30]
    assert curve.equals(equal_mass_curve(probabilities[::-1], labels[::-1]))


def test_no_label_has_no_bin():
    assert equal_mass_curve(np.array([[0.5, 0.5]]), np.array([-1])).height == 0


@settings(deadline=None)
@given(st.integers(1, 9))
def test_perfect_calibration_has_no_error(k):
    # Of ten rows that are each sure by a half or more, exactly that share is right.
    share = max(k, 10 - k) / 10
    p = np.tile([share, 1 - share], (10, 1))
    assert ece(p, np.arange(10) >= 10 * share) == pytest.approx(0, abs=1e-12)
    assert ece(np.eye(3), np.arange(3)) == 0


def test_no_label_has_no_error():
    assert ece(np.array([[0.5, 0.5]]), np.array([-1])) == 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    logits, labels = sample(1, rows=20_000, temperature=temperature)
    actual = fit_temperature(logits, labels)
    assert actual == pytest.approx(temperature, rel=0.05)
    losses = [log_loss(labels, softmax(logits / (actual * by))) for by in (0.99, 1, 1.01)]
    assert losses[1] == min(losses)
    before, after = (ece(softmax(logits / t), labels) for t in (1, actual))
    assert after <= before + 1e-3
    assert after < 0.015


def test_unlabelled_rows_do_not_warm_and_certainty_stops_at_a_bound():
    logits, labels = sample(2)
    more, none = np.vstack([logits, [[99.0, 0, 0, 0]]]), np.append(labels, -1)
    assert fit_temperature(more, none) == fit_temperature(logits, labels)
    # No T is too small for these; from about 0.03 on, the NLL is 0 to the last digit.
    assert 0.01 <= fit_temperature(np.eye(3), np.arange(3)) < 0.04
    with pytest.raises(ValueError, match="no labelled rows to fit a temperature on"):
        fit_temperature(np.eye(2), np.array([-1, -1]))
