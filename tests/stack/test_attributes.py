import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge

from ser.corpus.errors import UserError
from ser.stack.attributes import MeanAttributes, RidgeAttributes


def ratings(rows=50, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(1, 7, (rows, 2))
    X = np.concatenate([truth + rng.normal(size=truth.shape) for _ in range(2)], axis=1)
    truth[::5, 1] = np.nan
    return X, truth


def test_the_mean_is_of_the_columns_that_predict_the_attribute():
    X, _ = ratings()
    predicted = MeanAttributes([[0, 2], [3]]).fit().predict(X)
    assert np.array_equal(predicted, np.stack([(X[:, 0] + X[:, 2]) / 2, X[:, 3]], axis=1))


def test_ridge_is_fitted_where_the_truth_is_known():
    X, truth = ratings()
    predicted = RidgeAttributes(2.0).fit(X, truth).predict(X)
    rows = ~np.isnan(truth[:, 1])
    assert np.allclose(predicted[:, 0], Ridge(2.0).fit(X, truth[:, 0]).predict(X))
    assert np.allclose(predicted[:, 1], Ridge(2.0).fit(X[rows], truth[rows, 1]).predict(X))


def test_saved_and_loaded_it_gives_the_same_numbers_and_another_shape_is_refused(tmp_path):
    X, truth = ratings()
    ridge = RidgeAttributes().fit(X, truth)
    ridge.save(tmp_path)
    assert np.array_equal(clone(ridge).load(tmp_path, 2, 4).predict(X), ridge.predict(X))
    path = tmp_path / "ridge.json"
    with pytest.raises(UserError) as error:
        RidgeAttributes().load(tmp_path, 3, 4)
    assert str(error.value) == (
        f"{path}: it is not a ridge regression of 3 attributes on 4 columns; fit the stack again "
        "with `ser stack fit`."
    )
    good = path.read_text()
    for bad in ("{}", good.replace("[", "[NaN, ", 1), good.replace("0", "[0]", 1), "[" * 99999):
        path.write_text(bad)
        with pytest.raises(UserError, match="; fit the stack again with `ser stack fit`"):
            RidgeAttributes().load(tmp_path, 2, 4)
