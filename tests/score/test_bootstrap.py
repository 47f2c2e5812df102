import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ser.score.bootstrap import Resamples, balanced_bootstrap, balanced_subsets, resample_speakers
from ser.score.metrics import accuracy, confusion, macro_f1

MATRIX = np.array([[30, 10, 0], [5, 60, 5], [2, 3, 10]])


@settings(deadline=None)
@given(arrays(np.int64, (4, 4), elements=st.integers(0, 30)).filter(np.any), st.integers(0, 99))
def test_a_subset_cuts_every_class_that_occurs_to_the_rarest(matrix, seed):
    drawn = balanced_subsets(matrix, 10, seed)
    counts = matrix.sum(axis=1)
    wanted = np.where(counts > 0, counts[counts > 0].min(), 0)
    assert (drawn.sum(axis=2) == wanted).all()
    assert (drawn >= 0).all()
    assert (drawn <= matrix).all()  # without replacement: never more than there are


def test_the_distribution_is_that_of_drawing_rows():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), MATRIX.sum(axis=1))
    predictions = np.concatenate([np.repeat(np.arange(3), row) for row in MATRIX])
    by_rows = []
    for _ in range(3000):
        rows = [rng.choice(np.flatnonzero(labels == c), 15, replace=False) for c in range(3)]
        rows = np.concatenate(rows)
        by_rows.append(macro_f1(confusion(labels[rows], predictions[rows], 3)))
    ours = macro_f1(balanced_subsets(MATRIX, 3000, 1))
    # The standard error of both means is 0.001.
    assert ours.mean() == pytest.approx(np.mean(by_rows), abs=0.005)
    assert ours.std() == pytest.approx(np.std(by_rows), rel=0.08)


def test_a_balanced_split_has_one_subset_itself():
    matrix = np.array([[3, 1], [2, 2]])
    value = float(macro_f1(matrix))
    assert balanced_bootstrap(matrix, 5, 0) == {"mean": value, "min": value, "max": value}


def test_the_seed_decides_the_draw():
    first = balanced_bootstrap(MATRIX, 100, 42)
    assert first == balanced_bootstrap(MATRIX, 100, 42)
    assert first != balanced_bootstrap(MATRIX, 100, 43)
    assert first["min"] < first["mean"] < first["max"]


@settings(deadline=None)
@given(arrays(np.int64, (3, 3), elements=st.integers(0, 30)).filter(np.any), st.integers(0, 99))
def test_the_mean_is_in_the_range(matrix, seed):
    actual = balanced_bootstrap(matrix, 20, seed)
    assert actual["min"] - 1e-12 <= actual["mean"] <= actual["max"] + 1e-12


def test_an_absent_class_leaves_the_others_balanced():
    matrix = np.array([[4, 0, 0], [0, 0, 0], [0, 0, 9]])
    assert balanced_bootstrap(matrix, 3, 0) == {"mean": 1.0, "min": 1.0, "max": 1.0}


def test_no_rows_have_no_subset():
    with pytest.raises(ValueError, match="matrix without rows has no balanced subset"):
        balanced_bootstrap(np.zeros((2, 2), np.int64), 3, 0)


def test_a_resample_has_as_many_speakers_each_with_all_rows():
    speakers = ["a", "b", "a", "", "c", None, "b"]
    draw = resample_speakers(speakers, 30, 1)
    assert draw.cluster.tolist() == [0, 1, 0, 2, 3, 4, 1]  # each unknown one is its own
    assert draw.counts.sum(axis=1).tolist() == [5] * 30
    labels, predictions = np.array([0, 0, 1, 1, 2, -1, 2]), np.array([0, 1, 1, 0, 2, 2, 2])
    values = np.arange(14.0).reshape(7, 2)
    matrices, sums = draw.confusions(labels, predictions, 3), draw.sums(values)
    for i in range(30):
        rows = np.repeat(np.arange(7), draw.counts[i][draw.cluster])
        assert matrices[i].tolist() == confusion(labels[rows], predictions[rows], 3).tolist()
        assert sums[i].tolist() == values[rows].sum(axis=0).tolist()


def test_the_same_seed_draws_the_same_and_another_does_not():
    speakers = [f"s{i % 9}" for i in range(40)]
    one, two, other = (resample_speakers(speakers, 200, seed).counts for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()
    # Each speaker is drawn once on average: the standard error is 0.07 at 200 resamples.
    assert one.mean(axis=0) == pytest.approx(np.ones(9), abs=0.3)


def plain(rows=400, speakers=40, seed=0, spread=0.0):
    """Make labels, predictions right for 70 % of rows, give or take by speaker, and speakers."""
    rng = np.random.default_rng(seed)
    labels, speaker = rng.integers(0, 3, rows), np.arange(rows) % speakers
    right = rng.random(rows) < (0.7 + spread * rng.choice([-1, 1], speakers))[speaker]
    return labels, np.where(right, labels, (labels + 1) % 3), [f"s{i}" for i in speaker]


@settings(deadline=None)
@given(st.integers(0, 999))
def test_the_interval_contains_the_point_estimate_on_plain_data(seed):
    labels, predictions, speakers = plain(seed=seed)
    draw = resample_speakers(speakers, 300, seed)
    low, high = draw.interval(macro_f1(draw.confusions(labels, predictions, 3)))
    assert low < macro_f1(confusion(labels, predictions, 3)) < high


def width(speakers, labels, predictions):
    draw = resample_speakers(speakers, 1000, 0)
    low, high = draw.interval(accuracy(draw.confusions(labels, predictions, 3)))
    return high - low


def test_unknown_speakers_give_the_interval_of_independent_rows():
    labels, predictions, _ = plain()
    p = (labels == predictions).mean()
    binomial = 2 * 1.96 * (p * (1 - p) / 400) ** 0.5
    assert width([""] * 400, labels, predictions) == pytest.approx(binomial, rel=0.1)


def test_speakers_that_differ_widen_the_interval():
    labels, predictions, speakers = plain(spread=0.25)
    # Per speaker the share is 0.45 or 0.95: its standard error is that of 40 such means.
    share = np.bincount(np.arange(400) % 40, labels == predictions) / 10
    expected = 2 * 1.96 * share.std() / 40**0.5
    assert width(speakers, labels, predictions) == pytest.approx(expected, rel=0.1)
    assert width(speakers, labels, predictions) > 1.3 * width([""] * 400, labels, predictions)


def test_the_interval_is_of_percentiles_and_leaves_nan_out():
    draw = Resamples(np.arange(5), np.ones((4, 5), np.uint16))
    values = np.append(np.arange(101.0), np.nan)
    assert draw.interval(values) == [2.5, 97.5]
    assert draw.interval(np.full(3, np.nan)) is None


def test_an_interval_needs_five_known_speakers():
    values = np.arange(10.0)
    for speakers, number, narrow in (
        ("aabbccdd", 4, True),
        ("aabbccdde", 5, False),
        ([""] * 3, None, False),  # where no speaker is known, each row is drawn alone
        ([None], None, True),
    ):
        draw = resample_speakers(list(speakers), 10, 0)
        assert draw.speakers == number
        assert (draw.interval(values) is None) == narrow


def test_no_row_cannot_be_resampled():
    with pytest.raises(ValueError, match="there are no rows to resample"):
        resample_speakers([], 10, 0)
