"""The risk-coverage curve by hand, and against all orders of equal confidences."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.score.abstention import (
    COVERAGES,
    aurc,
    choose_threshold,
    risk_at_coverages,
    selective_risk,
)


def test_aurc_by_hand():
    confidence = np.array([0.4, 0.9, 0.7, 0.6])
    correct = np.array([False, True, False, True])
    # most confident first: right, wrong, right, wrong
    assert selective_risk(confidence, correct).tolist() == [0, 1 / 2, 1 / 3, 1 / 2]
    assert aurc(confidence, correct) == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_aurc_is_0_for_a_perfect_system_and_the_error_rate_for_equal_confidences():
    assert aurc(np.array([0.9, 0.8]), np.array([True, True])) == 0.0
    assert aurc(np.full(4, 0.5), np.array([True, False, True, True])) == pytest.approx(1 / 4)
    with pytest.raises(ValueError, match="there are no labelled rows"):
        aurc(np.zeros(0), np.zeros(0, bool))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.3, 0.6]), st.booleans()), min_size=1, max_size=5))
def test_ties_are_the_mean_of_all_orders(rows):
    confidence, correct = (np.array(column) for column in zip(*rows, strict=True))
    curves = []
    for order in permutations(range(len(rows))):
        places = sorted(order, key=lambda i: -confidence[i])
        curves.append((~correct[places]).cumsum() / np.arange(1, len(rows) + 1))
    expected = np.mean(curves, axis=0)
    assert selective_risk(confidence, correct) == pytest.approx(expected)


def test_the_curve_of_metrics_json_has_the_risk_at_twenty_coverages():
    confidence = np.linspace(1, 0.5, 40)
    correct = np.arange(40) < 20  # the most confident half
    risk = risk_at_coverages(confidence, correct)
    assert len(risk) == len(COVERAGES) == 20
    assert risk[:10] == [0.0] * 10
    assert (risk[14], risk[-1]) == (pytest.approx(10 / 30), 0.5)


def test_the_threshold_has_the_highest_coverage_that_keeps_to_the_risk():
    confidence = np.array([0.9, 0.8, 0.8, 0.7, 0.6])
    correct = np.array([True, True, False, True, False])
    assert choose_threshold(confidence, correct, 0.25) == 0.7  # 1 of 4 is wrong
    assert choose_threshold(confidence, correct, 0.24) == 0.9
    assert choose_threshold(confidence, correct, 1.0) == 0.6
    assert choose_threshold(confidence[2:3], correct[2:3], 0.1) is None
