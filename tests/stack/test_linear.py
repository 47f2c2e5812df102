import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ser.corpus.errors import UserError
from ser.score.heads import softmax
from ser.stack.folds import FoldedClassifier, balanced_rows
from ser.stack.linear import Logistic, MetaSoup


def logits(rows=300, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, rows)
    X = 5 * rng.normal(size=(rows, 2 * classes)) + 3 * np.tile(np.eye(classes)[y], 2) + 7
    return X.astype(np.float32), y


@pytest.mark.parametrize("classes", [2, 3])
def test_one_member_is_a_standardised_logistic_regression(classes):
    X, y = logits(classes=classes)
    member = Logistic(c=0.3).fit(X, y)
    wanted = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1000))
    wanted.fit(X.astype(np.float64), y)
    assert np.allclose(member.predict_proba(X), wanted.predict_proba(X.astype(np.float64)))


def test_a_constant_column_changes_nothing():
    X, y = logits()
    member = Logistic().fit(X, y)
    more = Logistic().fit(np.pad(X, ((0, 0), (0, 1)), constant_values=3), y)
    padded = np.pad(X, ((0, 0), (0, 1)))
    assert np.allclose(more.decision_function(padded), member.decision_function(X))


def test_the_soup_is_one_model_of_averaged_weights():
    X, y = logits()
    soup = MetaSoup(draws=3, folds=2).fit(X, y)
    assert len(soup.members_) == 6
    mean = np.mean([member.coef_ for member in soup.members_], axis=0)
    assert np.array_equal(soup.soup_.coef_, mean)
    proba = softmax(X.reshape(-1, 2, 3)).reshape(-1, 6)
    values = np.mean([member.decision_function(proba) for member in soup.members_], axis=0)
    assert np.allclose(soup.predict_proba(X), softmax(values), atol=1e-6)
    seeds = [balanced_rows(y, seed) for seed in (42, 43, 44)]
    assert np.array_equal(soup.rows_, np.unique(np.concatenate(seeds)))


@pytest.mark.parametrize(
    "stacker", [FoldedClassifier(Logistic(), folds=2, draws=2), MetaSoup(extra=1)], ids=str
)
def test_saved_as_json_and_loaded_it_gives_the_same_numbers(tmp_path, stacker):
    X, y = logits()
    X = np.concatenate([X, X[:, : stacker.extra]], axis=1)
    stacker.fit(X, y).save(tmp_path)
    names = ["soup.json"] if stacker.extra else [f"fold-{i}.json" for i in range(4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    loaded = clone(stacker).load(tmp_path, 3, X.shape[1])
    assert np.array_equal(loaded.predict_proba(X), stacker.predict_proba(X))


def test_what_is_not_a_model_of_this_shape_is_refused(tmp_path):
    path = tmp_path / "soup.json"
    X, y = logits()
    MetaSoup().fit(X, y).save(tmp_path)
    with pytest.raises(UserError) as error:
        Logistic().read(path, 3, 7)
    assert str(error.value) == (
        f"{path}: it is not a model with 3 classes and 7 inputs; fit the stack again with "
        "`ser stack fit`."
    )
    infinite = {"coefficient": np.ones((3, 6)).tolist(), "intercept": [0, 0, float("inf")]}
    for bad in ({"coefficient": [[1]]}, infinite, {"coefficient": "x", "intercept": {}}, {}):
        path.write_text(json.dumps(bad))
        with pytest.raises(UserError, match="it is not a model with 3 classes and 6 inputs"):
            Logistic().read(path, 3, 6)
