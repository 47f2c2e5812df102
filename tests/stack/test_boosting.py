import numpy as np
import pytest

from ser.corpus.errors import UserError
from ser.stack.boosting import Boosting
from ser.stack.folds import FoldedClassifier
from tests.stack.factories import trials


def stacker(seed=42, **options):
    boosting = Boosting(**{"rounds": 5, "min_data_in_leaf": 5} | options)
    return FoldedClassifier(boosting, folds=2, seed=seed)


def logits(rows=300, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    X = rng.normal(size=(rows, 2 * classes)) + 2 * np.tile(np.eye(classes)[y], 2)
    return X.astype(np.float32), y


def test_it_learns_and_its_probabilities_are_ones():
    X, y = logits()
    fitted = stacker().fit(X, y)
    X, y = logits(seed=1)
    assert fitted.score(X, y) > 0.75
    np.testing.assert_allclose(fitted.predict_proba(X).sum(axis=1), 1)
    assert fitted.predict_proba(X).shape == (300, 3)


def test_two_classes_have_two_columns():
    X, y = logits(classes=2)
    assert stacker().fit(X, y).predict_proba(X).shape == (300, 2)


def test_jobs_change_no_number_and_the_seed_does():
    X, y = logits()
    one = stacker(jobs=1).fit(X, y).predict_proba(X)
    assert np.array_equal(stacker(jobs=2).fit(X, y).predict_proba(X), one)
    assert not np.array_equal(stacker(seed=1).fit(X, y).predict_proba(X), one)


def test_saved_as_text_and_loaded_it_gives_the_same_numbers(tmp_path):
    X, y = logits()
    fitted = stacker().fit(X, y)
    fitted.save(tmp_path)
    assert (tmp_path / "fold-1.txt").read_text().startswith("tree\n")
    loaded = stacker().load(tmp_path, 3, 6)
    assert np.array_equal(loaded.predict_proba(X), fitted.predict_proba(X))


def test_what_is_not_a_model_of_this_shape_is_refused(tmp_path):
    path = tmp_path / "fold-0.txt"
    X, y = logits()
    stacker().fit(X, y).save(tmp_path)
    with pytest.raises(UserError) as error:
        Boosting().read(path, 3, 9)
    assert str(error.value) == (
        f"{path}: it is not a model with 3 classes and 9 inputs; fit the stack again with "
        "`ser stack fit`."
    )
    path.write_text("not a model")
    with pytest.raises(UserError, match="not readable as a LightGBM model"):
        Boosting().read(path, 3, 6)
    path.unlink()
    with pytest.raises(UserError, match="it is missing; fit the stack again with `ser stack fit`"):
        Boosting().read(path, 3, 6)


@pytest.mark.parametrize("part", [1, 9, 50, 75, 97, 99.9])
def test_a_file_that_was_cut_short_is_refused(tmp_path, part):
    X, y = logits()
    stacker().fit(X, y).save(tmp_path)
    path = tmp_path / "fold-0.txt"
    text = path.read_text()
    path.write_text(text[: int(len(text) * part / 100)])
    with pytest.raises(UserError) as error:
        Boosting().read(path, 3, 6)
    assert str(error.value).startswith(f"{path}: not readable as a LightGBM model (")
    assert str(error.value).endswith("; fit the stack again with `ser stack fit`.")


def test_no_damaged_file_ends_the_process(tmp_path):
    X, y = logits(rows=120)
    stacker(rounds=2, num_leaves=5).fit(X, y).save(tmp_path)
    read, refused = trials("lightgbm", tmp_path / "fold-0.txt", 400)
    assert read + refused == 400
    assert min(read, refused) > 40  # many are changed only within what LightGBM can read
