"""CCC, against its definition and its properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from score.attributes import ccc

COLUMN = arrays(np.float64, st.tuples(st.integers(2, 30), st.just(1)), elements=st.floats(1, 7))


def test_a_case_by_hand():
    truth, said = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [2.0], [5.0]])
    # means 2 and 3, variances 2/3 and 2, covariance (1*1 + 0 + 1*2) / 3 = 1
    assert ccc(truth, said) == pytest.approx([2 * 1 / (2 / 3 + 2 + 1)])


def test_it_is_the_correlation_scaled_for_shift_and_spread():
    rng = np.random.default_rng(0)
    x, y = rng.normal(4, 1, (50, 2)), rng.normal(3, 2, (50, 2))
    for i in range(2):
        rho = np.corrcoef(x[:, i], y[:, i])[0, 1]
        sx, sy = x[:, i].std(), y[:, i].std()
        expected = 2 * rho * sx * sy / (sx**2 + sy**2 + (x[:, i].mean() - y[:, i].mean()) ** 2)
        assert ccc(x, y)[i] == pytest.approx(expected)


def test_unknown_truth_is_left_out_column_by_column():
    truth = np.array([[1.0, np.nan], [2.0, 5.0], [np.nan, 6.0]])
    said = np.array([[2.0, 9.0], [1.0, 5.0], [9.0, 6.0]])
    assert ccc(truth, said).tolist() == [ccc(truth[:2, :1], said[:2, :1])[0], 1.0]


def test_constants_and_nothing_agree_about_nothing():
    four = np.full((3, 1), 4.0)
    assert ccc(four, four).tolist() == [0.0]
    assert ccc(four, np.array([[1.0], [2.0], [3.0]])).tolist() == [0.0]
    assert ccc(np.empty((0, 2)), np.empty((0, 2))).tolist() == [0.0, 0.0]


@settings(deadline=None)
@given(COLUMN, st.integers(0, 9))
def test_it_is_symmetric_within_one_and_one_for_identity(x, seed):
    y = np.random.default_rng(seed).permutation(x)
    assert ccc(x, y) == pytest.approx(ccc(y, x))
    assert abs(ccc(x, y)[0]) <= 1 + 1e-9
    if x.std() > 1e-3:
        assert ccc(x, x) == pytest.approx([1.0])
