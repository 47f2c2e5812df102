import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from score.bootstrap import balanced_bootstrap, balanced_subsets
from score.metrics import confusion, macro_f1

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


def test_an_absent_class_leaves_the_others_balanced():
    matrix = np.array([[4, 0, 0], [0, 0, 0], [0, 0, 9]])
    assert balanced_bootstrap(matrix, 3, 0) == {"mean": 1.0, "min": 1.0, "max": 1.0}


def test_no_rows_have_no_subset():
    with pytest.raises(ValueError, match="matrix without rows has no balanced subset"):
        balanced_bootstrap(np.zeros((2, 2), np.int64), 3, 0)
