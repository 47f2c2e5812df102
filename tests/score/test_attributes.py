"""CCC, Pearson and RMSE, against their definitions, scikit-learn and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr
from sklearn.metrics import confusion_matrix, root_mean_squared_error

from ser.score.attributes import (
    binned_confusion,
    ccc,
    pearson,
    resampled_ccc,
    rmse,
    score_attributes,
)
from ser.score.bootstrap import resample_speakers

COLUMN = arrays(np.float64, st.tuples(st.integers(2, 30), st.just(1)), elements=st.floats(1, 7))


def test_a_case_by_hand():
    truth, predicted = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [2.0], [5.0]])
    # means 2 and 3, variances 2/3 and 2, covariance (1*1 + 0 + 1*2) / 3 = 1
    assert ccc(truth, predicted) == pytest.approx([2 * 1 / (2 / 3 + 2 + 1)])


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
    predicted = np.array([[2.0, 9.0], [1.0, 5.0], [9.0, 6.0]])
    assert ccc(truth, predicted).tolist() == [ccc(truth[:2, :1], predicted[:2, :1])[0], 1.0]


def test_constants_and_nothing_agree_about_nothing():
    four = np.full((3, 1), 4.0)
    assert ccc(four, four).tolist() == [0.0]
    assert ccc(four, np.array([[1.0], [2.0], [3.0]])).tolist() == [0.0]
    assert ccc(np.empty((0, 2)), np.empty((0, 2))).tolist() == [0.0, 0.0]
    rounded = np.full((3, 1), 4.1)  # whose mean is not 4.1
    assert ccc(rounded, rounded).tolist() == [0.0]
    assert pearson(rounded, np.array([[1.0], [2.0], [3.0]])).tolist() == [0.0]


@settings(deadline=None)
@given(COLUMN, st.integers(0, 9))
def test_it_is_symmetric_within_one_and_one_for_identity(x, seed):
    y = np.random.default_rng(seed).permutation(x)
    assert ccc(x, y) == pytest.approx(ccc(y, x))
    assert abs(ccc(x, y)[0]) <= 1 + 1e-9
    if x.std() > 1e-3:
        assert ccc(x, x) == pytest.approx([1.0])


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(3, 40))
def test_pearson_and_rmse_are_those_of_scipy_and_scikit_learn(seed, rows):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.uniform(1, 7, (rows, 2)), rng.uniform(1, 7, (rows, 2))
    r = [pearsonr(truth[:, i], predicted[:, i]).statistic for i in range(2)]
    assert pearson(truth, predicted) == pytest.approx(r)
    errors = root_mean_squared_error(truth, predicted, multioutput="raw_values")
    assert rmse(truth, predicted) == pytest.approx(errors)
    # Rows without a truth change nothing, whatever the prediction.
    truth, predicted = (
        np.vstack([x, more]) for x, more in ((truth, [[np.nan] * 2]), (predicted, [[9, 9]]))
    )
    assert pearson(truth, predicted) == pytest.approx(r)
    assert rmse(truth, predicted) == pytest.approx(errors)


def test_ccc_of_a_resample_is_that_of_its_rows():
    rng = np.random.default_rng(0)
    truth, predicted = rng.uniform(1, 7, (40, 2)), rng.uniform(1, 7, (40, 2))
    truth[::7, 0] = np.nan
    draw = resample_speakers([f"s{i % 6}" for i in range(40)], 20, 3)
    for i, values in enumerate(resampled_ccc(draw, truth, predicted)):
        rows = np.repeat(np.arange(40), draw.counts[i][draw.cluster])
        assert values == pytest.approx(ccc(truth[rows], predicted[rows]), abs=1e-12)


def test_a_resample_without_a_truth_has_no_ccc():
    truth, predicted = np.array([[1.0], [np.nan], [3.0]]), np.array([[1.0], [2.0], [2.0]])
    draw = resample_speakers(["a", "b", "a"], 50, 0)
    without = draw.counts[:, 0] == 0
    assert without.any()
    assert np.isnan(resampled_ccc(draw, truth, predicted)[:, 0]).tolist() == without.tolist()


def test_six_bins_of_width_one_with_the_last_closed():
    truth = np.array([[1.0, np.nan], [1.99, 2.0], [7.0, 6.0], [4.5, 3.0]])
    predicted = np.array([[0.2, 9.0], [2.0, 2.5], [6.5, 7.9], [4.0, 3.99]])
    first, second = binned_confusion(truth, predicted)
    assert first.tolist() == confusion_matrix([0, 0, 5, 3], [0, 1, 5, 3], labels=range(6)).tolist()
    assert second.tolist() == confusion_matrix([1, 5, 2], [1, 5, 2], labels=range(6)).tolist()


def test_score_attributes_by_hand():
    truth = np.array([[1.0, np.nan, np.nan], [2.0, 3.0, np.nan], [3.0, 5.0, np.nan]])
    predicted = np.array([[2.0, 1.0, 1.0], [2.0, 3.0, 1.0], [5.0, 5.0, 1.0]])
    assert score_attributes(truth, predicted, ("arousal", "valence", "dominance")) == {
        "arousal": {
            "ccc": pytest.approx(6 / 11),
            "rmse": pytest.approx((5 / 3) ** 0.5),
            "pearson": pytest.approx(1 / (4 / 3) ** 0.5),
            "n": 3,
        },
        "valence": {"ccc": 1.0, "rmse": 0.0, "pearson": pytest.approx(1.0), "n": 2},
        "dominance": {"ccc": 0.0, "rmse": 0.0, "pearson": 0.0, "n": 0},
        "mean": {
            "ccc": pytest.approx((6 / 11 + 1) / 2),
            "rmse": pytest.approx((5 / 3) ** 0.5 / 2),
            "pearson": pytest.approx((1 / (4 / 3) ** 0.5 + 1) / 2),
            "n": 3,
        },
    }
    assert score_attributes(truth[:, 2:], predicted[:, 2:], ("dominance",))["mean"]["n"] == 0
