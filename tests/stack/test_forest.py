import re
import subprocess
import sys
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from ser.corpus.errors import UserError
from ser.stack.forest import ExtraTreesStacker, ForestStacker, _skops
from tests.stack.factories import trials

SMALL = {"trees": 5, "folds": 2}


def logits(rows=300, classes=3, heads=2, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, rows, p=[0.5, 0.3, 0.2])
    X = rng.normal(size=(rows, heads * classes)) + np.tile(np.eye(classes)[y], heads)
    return X.astype(np.float32), y


def test_equals_the_published_recipe_written_out():
    X, y = logits()
    rng = np.random.default_rng(42)
    rarest = np.bincount(y).min()
    rows = [rng.choice(np.flatnonzero(y == c), rarest, replace=False) for c in range(3)]
    rows = np.sort(np.concatenate(rows))
    X_bal, y_bal = X[rows], y[rows]
    collected = []
    for train, _ in StratifiedKFold(5, shuffle=True, random_state=42).split(X_bal, y_bal):
        forest = RandomForestClassifier(
            n_estimators=200,
            max_depth=8,
            criterion="gini",
            min_samples_leaf=10,
            min_samples_split=10,
            random_state=42,
        )
        collected.append(forest.fit(X_bal[train], y_bal[train]).predict_proba(X))
    stacker = ForestStacker().fit(X, y)
    assert np.array_equal(stacker.predict_proba(X), np.mean(collected, axis=0))
    assert np.array_equal(stacker.predict(X), np.mean(collected, axis=0).argmax(axis=1))
    assert np.array_equal(stacker.rows_, rows)


def test_jobs_change_no_number_and_balance_and_seed_do():
    X, y = logits()
    one = ForestStacker(jobs=1, **SMALL).fit(X, y).predict_proba(X)
    assert np.array_equal(ForestStacker(jobs=2, **SMALL).fit(X, y).predict_proba(X), one)
    other = ForestStacker(jobs=1, balance=False, **SMALL).fit(X, y)
    assert len(other.rows_) == len(y)
    assert not np.array_equal(other.predict_proba(X), one)
    assert not np.array_equal(ForestStacker(seed=1, **SMALL).fit(X, y).predict_proba(X), one)


def test_it_keeps_labels_of_any_kind():
    X, y = logits()
    names = np.array(["sad", "angry", "fear"])[y]
    stacker = ForestStacker(**SMALL).fit(X, names)
    assert stacker.classes_.tolist() == ["angry", "fear", "sad"]
    assert stacker.score(X, names) > 0.6
    assert stacker.get_params()["trees"] == 5


def test_it_predicts_as_the_forests_for_any_block_size(monkeypatch):
    X, y = logits()
    stacker = ForestStacker(**SMALL).fit(X, y)
    wanted = np.mean([forest.predict_proba(X) for forest in stacker.members_], axis=0)
    for block in (8192, 7):
        monkeypatch.setattr("ser.stack.forest.BLOCK", block)
        assert np.array_equal(stacker.predict_proba(X), wanted)
    assert stacker.predict_proba(X[:0]).shape == (0, 3)


@pytest.mark.parametrize("kind", [ForestStacker, ExtraTreesStacker])
def test_saved_and_loaded_it_gives_the_same_numbers(tmp_path, kind):
    X, y = logits()
    stacker = kind(**SMALL).fit(X, y)
    stacker.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold-0.skops", "fold-1.skops"]
    loaded = clone(stacker).load(tmp_path, 3, 6)
    assert np.array_equal(loaded.predict_proba(X), stacker.predict_proba(X))


def test_extra_trees_are_others_and_no_forest_is_taken_for_them(tmp_path):
    X, y = logits()
    extra, forest = ExtraTreesStacker(**SMALL).fit(X, y), ForestStacker(**SMALL).fit(X, y)
    assert not np.array_equal(extra.predict_proba(X), forest.predict_proba(X))
    forest.save(tmp_path)
    with pytest.raises(UserError, match="it is not a forest with 3 classes"):
        ExtraTreesStacker(**SMALL).load(tmp_path, 3, 6)


def refusal(path, classes=3, dim=6) -> str:
    with pytest.raises(UserError) as error:
        ForestStacker().read_member(path, classes, dim)
    return str(error.value)


def test_a_file_with_foreign_types_is_not_loaded(tmp_path):
    path = tmp_path / "fold-0.skops"
    X, y = logits()
    forest = RandomForestClassifier(2).fit(X, y)
    forest.extra = subprocess.CompletedProcess([], 0)
    _skops().dump(forest, path)
    assert refusal(path) == (
        f"{path}: it contains subprocess.CompletedProcess, which no forest needs; do not trust the "
        "file and fit the stack again with `ser stack fit`."
    )


def test_what_is_not_a_forest_of_this_shape_is_refused(tmp_path):
    path = tmp_path / "fold-0.skops"
    X, y = logits()

    def wrong(why, dim=6):
        return (
            f"{path}: it is not a forest with 3 classes and {dim} inputs ({why}); fit the stack "
            "again with `ser stack fit`."
        )

    _skops().dump(LogisticRegression().fit(X, y), path)
    assert refusal(path) == wrong("it is not a RandomForestClassifier")
    _skops().dump(RandomForestClassifier(2).fit(X[:, :5], y), path)
    assert refusal(path, dim=4) == wrong("a tree does not take 4 inputs", 4)
    _skops().dump(RandomForestClassifier(2).fit(X, y % 2), path)
    assert refusal(path) == wrong("a tree does not have 3 classes")


@pytest.mark.parametrize("field", ["left_child", "right_child", "feature"])
def test_node_indices_that_would_read_beyond_memory_are_refused(tmp_path, field):
    path = tmp_path / "fold-0.skops"
    X, y = logits()
    forest = RandomForestClassifier(1).fit(X, y)
    tree = forest.estimators_[0].tree_
    state = tree.__getstate__()
    state["nodes"][field][0] = 10**9
    tree.__setstate__(state)
    _skops().dump(forest, path)
    assert refusal(path).startswith(f"{path}: it is not a forest with 3 classes and 6 inputs (")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda nodes, values: nodes["left_child"].__setitem__(0, 0), "its nodes do not form"),
        (lambda nodes, values: nodes["right_child"].__setitem__(0, 1), "its nodes do not form"),
        (lambda nodes, values: nodes["threshold"].__setitem__(0, np.nan), "does not take 6 inputs"),
        (lambda nodes, values: values.__setitem__(0, np.inf), "do not sum to 1"),
        (lambda nodes, values: values.__setitem__(0, 3), "do not sum to 1"),
    ],
)
def test_arrays_that_are_not_a_tree_are_refused(tmp_path, change, expected):
    path = tmp_path / "fold-0.skops"
    X, y = logits()
    forest = RandomForestClassifier(1).fit(X, y)
    tree = forest.estimators_[0].tree_
    state = tree.__getstate__()
    change(state["nodes"], state["values"])
    tree.__setstate__(state)
    _skops().dump(forest, path)
    assert expected in refusal(path)


def rewritten(source, target, change):
    """Write a skops file again, each member as `change(name, data)` has it."""
    with ZipFile(source) as old, ZipFile(target, "w", ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


def test_a_file_that_inflates_or_states_more_than_it_has_is_refused(tmp_path):
    X, y = logits()
    ForestStacker(**SMALL).fit(X, y).save(tmp_path)
    good, path = tmp_path / "fold-0.skops", tmp_path / "bad.skops"

    def filled(name, data):
        return data + b" " * 50_000_000 if name == "schema.json" else data

    rewritten(good, path, filled)
    assert "decompresses to" in refusal(path)

    def stated(name, data):
        return data.replace(b", 1, 3)", b", 9, 3)")

    rewritten(good, path, stated)
    assert "does not have the size that its header states" in refusal(path)

    def counted(name, data):  # what scikit-learn would take for the number of nodes
        return re.sub(rb'("node_count": \{[^}]*"content": )"\d+"', rb'\1"999999999"', data)

    rewritten(good, path, counted)
    stacker = ForestStacker(**SMALL)
    stacker.classes_ = np.arange(3)
    trees, same = (stacker.read_member(p, 3, 6) for p in (path, good))
    assert np.array_equal(stacker.predict_member(trees, X), stacker.predict_member(same, X))


def test_no_damaged_file_ends_the_process(tmp_path):
    X, y = logits()
    ForestStacker(trees=2, folds=2).fit(X, y).save(tmp_path)
    read, refused = trials("forest", tmp_path / "fold-0.skops", 150)
    assert read + refused == 150
    assert min(read, refused) > 15


def test_a_cut_file_is_refused(tmp_path):
    path = tmp_path / "fold-0.skops"
    path.write_bytes(b"PK")
    assert refusal(path) == (
        f"{path}: not readable as a forest (File is not a zip file); fit the stack again with "
        "`ser stack fit`."
    )


def test_skops_comes_without_torch_and_torch_still_comes_after():
    code = (
        "import sys, stack.forest; stack.forest._skops(); assert 'torch' not in sys.modules\n"
        "import sklearn.externals.array_api_compat as a; assert not hasattr(a, 'torch')\n"
        "assert 'sklearn.externals.array_api_compat.torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
