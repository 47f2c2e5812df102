import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.score.heads import softmax
from ser.stack.folds import FoldedClassifier, MissingClassError, balanced_rows
from ser.stack.linear import Logistic


def folded(**options):
    return FoldedClassifier(Logistic(), **options)


LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(np.array)


@settings(deadline=None)
@given(LABELS, st.integers(0, 99))
def test_every_class_is_cut_to_the_rarest_without_replacement(labels, seed):
    rows = balanced_rows(labels, seed)
    _, counts = np.unique(labels, return_counts=True)
    _, kept = np.unique(labels[rows], return_counts=True)
    assert kept.tolist() == [counts.min()] * len(counts)
    assert rows.tolist() == sorted(set(rows.tolist()))


def test_the_seed_decides_the_rows():
    labels = np.repeat([0, 1], [5, 50])
    assert balanced_rows(labels, 1).tolist() == balanced_rows(labels, 1).tolist()
    assert balanced_rows(labels, 1).tolist() != balanced_rows(labels, 2).tolist()


def logits(rows=200, classes=3, heads=2, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    X = rng.normal(size=(rows, heads * classes)) + 2 * np.tile(np.eye(classes)[y], heads)
    return X.astype(np.float32), y


def test_no_member_is_fitted_on_what_is_held_out_of_it(monkeypatch):
    X, y = logits()
    fold = np.arange(200) % 4
    fitted = []
    fit = Logistic.fit

    def remember(self, rows, y):
        fitted.append({row.tobytes() for row in rows})
        return fit(self, rows, y)

    monkeypatch.setattr(Logistic, "fit", remember)
    stacker = folded(folds=4, draws=2).fit(X, y, fold)
    assert len(fitted) == len(stacker.members_) == 8
    for i, (rows, held_out) in enumerate(zip(fitted, stacker.held_out_, strict=True)):
        assert set(fold[held_out]) == {i % 4}
        assert not rows & {row.tobytes() for row in X[fold == i % 4]}
        assert len(rows) + len(held_out) == 3 * np.bincount(y).min()


def test_held_out_probabilities_are_those_of_the_members_that_have_not_seen_the_row():
    X, y = logits()
    fold = np.arange(200) % 2
    stacker = folded(folds=2, balance=False).fit(X, y, fold)
    values = [stacker.predict_member(member, X) for member in stacker.members_]
    assert stacker.rows_.tolist() == list(range(200))
    assert np.array_equal(stacker.held_out_proba(X), np.where(fold[:, None] == 0, *values))


def test_draws_use_more_of_the_frequent_classes_and_are_averaged():
    X, y = logits()
    X, y = np.concatenate([X, X[y == 0] + 1]), np.concatenate([y, y[y == 0]])
    one, four = (folded(draws=draws).fit(X, y) for draws in (1, 4))
    assert len(one.rows_) == 3 * np.bincount(y).min() < len(four.rows_)
    values = np.mean([four.predict_member(member, X) for member in four.members_], axis=0)
    assert np.array_equal(four.predict_proba(X), values)


def test_a_class_that_a_fold_takes_away_is_named():
    X, y = logits()
    with pytest.raises(MissingClassError) as error:
        folded(folds=2).fit(X, np.array(["a", "b", "c"])[y], (y != 1).astype(int))
    assert error.value.label == "b"


def test_inputs_may_be_probabilities_or_both_and_other_columns_are_passed_on():
    X, y = logits()
    X = np.concatenate([X, X[:, :1]], axis=1)
    proba = softmax(X[:, :6].reshape(200, 2, 3)).reshape(200, 6)
    wanted = folded().fit(np.concatenate([proba, X[:, 6:]], axis=1), y)
    stacker = folded(input="probabilities", extra=1).fit(X, y)
    assert np.allclose(stacker.members_[0].coef_, wanted.members_[0].coef_, atol=1e-6)
    both = folded(input="both", extra=1).fit(X, y)
    assert both.members_[0].coef_.shape == (3, 6 + 6 + 1)


def test_with_folds_every_row_is_predicted_by_the_members_of_its_fold():
    rng = np.random.default_rng(0)
    y, fold = np.arange(90) % 3, np.arange(90) // 3 % 3
    X = (np.eye(3)[y] + rng.normal(size=(90, 3))).astype(np.float32)
    whole = folded(folds=3, balance=False, draws=2).fit(X, y, fold)
    assert whole.held_out_proba(X, fold) == pytest.approx(whole.held_out_proba(X))
    y[:20] = 0  # the draws leave rows out
    drawn = folded(folds=3).fit(X, y, fold)
    every = drawn.held_out_proba(X, fold)
    assert len(drawn.rows_) < len(every) == 90
    assert every[drawn.rows_] == pytest.approx(drawn.held_out_proba(X))
