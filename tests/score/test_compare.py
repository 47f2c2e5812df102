"""Paired tests, against scipy and cases by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2

from ser.score.attributes import ccc
from ser.score.compare import compare_attributes, compare_classes, mcnemar
from ser.score.metrics import accuracy, confusion, macro_f1


def disagreeing(both: int, first: int, second: int):
    """Make rows that both systems, only the first, or only the second get right."""
    one = np.repeat([0, 0, 1], [both, first, second])
    other = np.repeat([0, 1, 0], [both, first, second])
    return np.zeros(both + first + second, np.int64), one, other


def test_mcnemar_by_hand():
    # 2 * (C(4,0) + C(4,1)) / 2^4
    assert mcnemar(*disagreeing(5, 1, 3)) == {
        "first_only": 1,
        "second_only": 3,
        "test": "exact",
        "p": pytest.approx(2 * 5 / 16),
    }
    assert mcnemar(*disagreeing(5, 0, 0))["p"] == 1.0
    unlabelled = mcnemar(np.array([-1, 0]), np.array([1, 0]), np.array([0, 0]))
    assert (unlabelled["first_only"], unlabelled["second_only"]) == (0, 0)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_binomial_for_few_rows_and_chi_squared_for_many(b, c):
    actual = mcnemar(*disagreeing(3, b, c))
    assert actual["test"] == ("exact" if b + c < 25 else "chi2")
    if b + c >= 25:
        expected = chi2.sf(max(abs(b - c) - 1, 0) ** 2 / (b + c), 1)
    else:
        expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert actual["p"] == pytest.approx(expected)


def systems(first: float, second: float, rows=600, seed=0):
    """Make labels and two systems that are right this often, over 30 speakers."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    predictions = [
        np.where(rng.random(rows) < p, labels, (labels + 1) % 3) for p in (first, second)
    ]
    return labels, *predictions, [f"s{i % 30}" for i in range(rows)]


def test_a_better_system_differs_significantly_from_a_worse_one():
    labels, first, second, speakers = systems(0.8, 0.6)
    actual = compare_classes(labels, first, second, speakers, 3)
    f1 = [float(macro_f1(confusion(labels, predictions, 3))) for predictions in (first, second)]
    assert actual["difference"] == pytest.approx(f1[0] - f1[1])
    low, high = actual["interval"]
    assert 0 < low < actual["difference"] < high
    assert actual["p"] == pytest.approx(2 / 1001)  # no resample of 1,000 turns it round
    assert actual["mcnemar"] == mcnemar(labels, first, second)
    assert actual == compare_classes(labels, first, second, speakers, 3)


def test_the_other_way_round_changes_the_sign_alone():
    labels, first, second, speakers = systems(0.7, 0.68)
    one = compare_classes(labels, first, second, speakers, 3, metric=accuracy)
    other = compare_classes(labels, second, first, speakers, 3, metric=accuracy)
    assert one["difference"] == -other["difference"]
    assert one["interval"] == pytest.approx([-other["interval"][1], -other["interval"][0]])
    assert one["p"] == other["p"]
    assert one["mcnemar"]["p"] == other["mcnemar"]["p"]


def test_p_is_twice_the_share_on_the_other_side():
    labels, first, second, speakers = systems(0.7, 0.68)
    actual = compare_classes(labels, first, second, speakers, 3, metric=accuracy)
    # Speakers have 20 rows each, so a resample's difference is the mean of theirs.
    gain = (first == labels).astype(float) - (second == labels)
    per_speaker = gain.reshape(20, 30).mean(axis=0)
    rng = np.random.default_rng(42)
    drawn = np.array([per_speaker[rng.integers(0, 30, 30)].mean() for _ in range(1000)])
    assert actual["interval"] == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    tail = min((drawn <= 1e-12).sum(), (drawn >= -1e-12).sum())
    assert actual["p"] == pytest.approx(2 * (1 + tail) / 1001)
    assert 0.05 < actual["p"] < 1


def test_a_system_does_not_differ_from_itself():
    labels, first, _, speakers = systems(0.7, 0.7)
    actual = compare_classes(labels, first, first, speakers, 3)
    assert (actual["difference"], actual["interval"], actual["p"]) == (0, [0, 0], 1)


def test_rows_without_a_label_take_no_part():
    labels, first, second, speakers = systems(0.8, 0.7)
    actual = compare_classes(labels, first, second, speakers, 3)
    more = compare_classes(
        np.append(labels, -1), np.append(first, 0), np.append(second, 1), [*speakers, "new"], 3
    )
    assert more == actual


@pytest.mark.parametrize("speakers", [1, 4])
def test_under_five_speakers_there_is_no_interval_and_no_p(speakers):
    labels, first, second, _ = systems(0.8, 0.7)
    names = [f"s{i % speakers}" for i in range(len(labels))]
    result = compare_classes(labels, first, second, names, 3)
    assert (result["interval"], result["p"], result["speakers"]) == (None, None, speakers)
    assert result["mcnemar"] == mcnemar(labels, first, second) | {"p": None}
    truth = np.random.default_rng(0).normal(size=(len(labels), 1))
    result = compare_attributes(truth, truth + 1, truth + 2, names)
    assert (result["interval"], result["p"], result["speakers"]) == (None, None, speakers)


def test_attributes_are_compared_by_their_mean_ccc():
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 7, (400, 3))
    first, second = (truth + rng.normal(0, spread, (400, 3)) for spread in (0.5, 1.5))
    speakers = [f"s{i % 20}" for i in range(400)]
    comparison = compare_attributes(truth, first, second, speakers)
    assert comparison["difference"] == pytest.approx(
        (ccc(truth, first) - ccc(truth, second)).mean()
    )
    assert 0 < comparison["interval"][0] < comparison["difference"] < comparison["interval"][1]
    assert comparison["p"] == pytest.approx(2 / 1001)
    unknown = np.vstack([truth, [[np.nan] * 3]])
    first, second = (np.vstack([predictions, [[9, 9, 9]]]) for predictions in (first, second))
    assert compare_attributes(unknown, first, second, [*speakers, "new"]) == comparison
