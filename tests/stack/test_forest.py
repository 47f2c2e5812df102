import re
import subprocess
import sys
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from ser.corpus.errors import UserError
from ser.stack import trees
from ser.stack.folds import FoldedClassifier
from ser.stack.forest import ExtraTrees, Forest
from tests.stack.factories import trials

SMALL = {"n_estimators": 5, "max_depth": 8, "min_samples_leaf": 10, "min_samples_split": 10}


def stacker(kind=Forest, trees=5, jobs=-1, **options):
    return FoldedClassifier(kind(trees=trees, jobs=jobs), **{"folds": 2} | options)


def logits(rows=300, classes=3, heads=2, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, rows, p=[0.5, 0.3, 0.2])
    X = rng.normal(size=(rows, heads * classes)) + np.tile(np.eye(classes)[y], heads)
    return X.astype(np.float32), y


def dump_skops(forest, path, **options):
    import skops.io  # takes a second, which other workers save

    skops.io.dump(forest, path, **options)


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
    fitted = FoldedClassifier(Forest()).fit(X, y)
    assert np.array_equal(fitted.predict_proba(X), np.mean(collected, axis=0))
    assert np.array_equal(fitted.predict(X), np.mean(collected, axis=0).argmax(axis=1))
    assert np.array_equal(fitted.rows_, rows)


@pytest.mark.parametrize(
    ("kind", "model"), [(Forest, RandomForestClassifier), (ExtraTrees, ExtraTreesClassifier)]
)
def test_the_arrays_predict_as_scikit_learn_to_the_last_bit(tmp_path, monkeypatch, kind, model):
    X, y = logits()
    forest = model(**SMALL, random_state=7).fit(X, y)
    unseen = np.random.default_rng(1).normal(size=(500, 6)).astype(np.float32) * 3
    root = forest.estimators_[0].tree_  # rows at a threshold, and just beside it
    unseen[:3, root.feature[0]] = np.nextafter(
        np.float32(root.threshold[0]), np.float32([-9, root.threshold[0], 9])
    )
    wanted = forest.predict_proba(unseen)
    ours = kind(trees=5, random_state=7).fit(X, y)
    assert np.array_equal(ours.predict_proba(unseen), wanted)
    assert np.array_equal(
        kind(trees=5, random_state=7, jobs=2).fit(X, y).predict_proba(X), ours.predict_proba(X)
    )
    ours.write(tmp_path / "forest.npz")
    assert np.array_equal(kind().read(tmp_path / "forest.npz", 3, 6).predict_proba(unseen), wanted)
    dump_skops(forest, tmp_path / "old.skops", compression=ZIP_DEFLATED)
    assert np.array_equal(kind().read(tmp_path / "old.npz", 3, 6).predict_proba(unseen), wanted)
    for cells in (1, 50):  # one row at a time, and ten
        monkeypatch.setattr(trees, "CELLS", cells)
        assert np.array_equal(ours.predict_proba(unseen), wanted)
    assert ours.predict_proba(X[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match="X has 5 columns, not 6"):
        ours.predict_proba(X[:, :5])


def test_a_tree_that_is_a_leaf_predicts_its_shares():
    X, y = logits()
    forest = Forest(trees=2, min_samples_leaf=200, random_state=0).fit(X, y)
    assert forest.trees_.depth == 0
    assert len(np.unique(forest.predict_proba(X), axis=0)) == 1


def test_jobs_change_no_number_and_balance_and_seed_do():
    X, y = logits()
    one = stacker(jobs=1).fit(X, y).predict_proba(X)
    assert np.array_equal(stacker(jobs=2).fit(X, y).predict_proba(X), one)
    other = stacker(jobs=1, balance=False).fit(X, y)
    assert len(other.rows_) == len(y)
    assert not np.array_equal(other.predict_proba(X), one)
    assert not np.array_equal(stacker(seed=1).fit(X, y).predict_proba(X), one)


def test_it_keeps_labels_of_any_kind():
    X, y = logits()
    names = np.array(["sad", "angry", "fear"])[y]
    fitted = stacker().fit(X, names)
    assert fitted.classes_.tolist() == ["angry", "fear", "sad"]
    assert fitted.score(X, names) > 0.6
    assert fitted.get_params()["estimator__trees"] == 5


@pytest.mark.parametrize("kind", [Forest, ExtraTrees])
def test_saved_and_loaded_it_gives_the_same_numbers_and_saved_twice_the_same_bytes(tmp_path, kind):
    X, y = logits()
    fitted = stacker(kind).fit(X, y)
    fitted.save(tmp_path)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(whole) == ["fold-0.npz", "fold-1.npz"]
    loaded = clone(fitted).load(tmp_path, 3, 6)
    assert np.array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    loaded.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole


def test_neither_skops_nor_scikit_learn_is_needed_to_predict(tmp_path):
    X, y = logits()
    Forest(trees=2, random_state=0).fit(X, y).write(tmp_path / "forest.npz")
    code = (
        "import sys, numpy, pathlib; from ser.stack.forest import Forest\n"
        "forest = Forest().read(pathlib.Path(sys.argv[1]), 3, 6)\n"
        "forest.predict(numpy.zeros((2, 6), numpy.float32))\n"
        "assert not {'sklearn', 'skops', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "forest.npz")], check=True)


def test_extra_trees_are_others_and_no_old_forest_is_taken_for_them(tmp_path):
    X, y = logits()
    extra, forest = stacker(ExtraTrees).fit(X, y), stacker().fit(X, y)
    assert not np.array_equal(extra.predict_proba(X), forest.predict_proba(X))
    dump_skops(RandomForestClassifier(2).fit(X, y), tmp_path / "fold-0.skops")
    with pytest.raises(UserError, match="it is not a ExtraTreesClassifier"):
        stacker(ExtraTrees).load(tmp_path, 3, 6)


def refusal(path, classes=3, dim=6) -> str:
    with pytest.raises(UserError) as error:
        Forest().read(path.with_suffix(".npz"), classes, dim)
    return str(error.value)


def test_a_file_with_foreign_types_is_not_loaded(tmp_path):
    path = tmp_path / "fold-0.skops"
    X, y = logits()
    forest = RandomForestClassifier(2).fit(X, y)
    forest.extra = subprocess.CompletedProcess([], 0)
    dump_skops(forest, path)
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

    dump_skops(LogisticRegression().fit(X, y), path)
    assert refusal(path) == wrong("it is not a RandomForestClassifier")
    dump_skops(RandomForestClassifier(2).fit(X[:, :5], y), path)
    assert refusal(path, dim=4) == wrong("a tree does not take 4 inputs", 4)
    dump_skops(RandomForestClassifier(2).fit(X, y % 2), path)
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
    dump_skops(forest, path)
    assert refusal(path).startswith(f"{path}: it is not a forest with 3 classes and 6 inputs (")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda nodes, values: nodes["left_child"].__setitem__(0, 0), "its nodes do not form"),
        (lambda nodes, values: nodes["right_child"].__setitem__(0, 1), "its nodes do not form"),
        (lambda nodes, values: nodes["threshold"].__setitem__(0, np.nan), "does not take 6 inputs"),
        (lambda nodes, values: values.__setitem__(-1, np.inf), "do not sum to 1"),
        (lambda nodes, values: values.__setitem__(-1, 3), "do not sum to 1"),
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
    dump_skops(forest, path)
    assert expected in refusal(path)


def rewritten(source, target, change):
    """Write a zip file again, each member as `change(name, data)` has it."""
    with ZipFile(source) as old, ZipFile(target, "w", ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


def test_an_old_file_that_inflates_or_states_more_than_it_has_is_refused(tmp_path):
    X, y = logits()
    good, path = tmp_path / "good.skops", tmp_path / "bad.skops"
    dump_skops(RandomForestClassifier(**SMALL, random_state=0).fit(X, y), good)

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
    forests = [Forest().read(p.with_suffix(".npz"), 3, 6) for p in (path, good)]
    assert np.array_equal(*(forest.predict_proba(X) for forest in forests))


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("roots", lambda a: a + 1, "its nodes do not form a tree"),
        ("roots", lambda a: a[:0], "its nodes do not form a tree"),
        ("roots", lambda a: np.repeat(a, 2), "its nodes do not form a tree"),
        ("children", lambda a: a[::-1], "a tree does not have 3 classes"),
        ("children", lambda a: a[:, :1], "its nodes do not form a tree"),
        ("children", lambda a: np.where(a == 1, 10**9, a), "its nodes do not form a tree"),
        ("children", lambda a: np.where(a == 1, -1, a), "its nodes do not form a tree"),
        ("children", lambda a: a.astype(np.int32), "its arrays are of other types"),
        ("feature", lambda a: a + 6, "a tree does not take 6 inputs"),
        ("feature", lambda a: a[1:], "a tree has no nodes"),
        ("threshold", lambda a: np.full_like(a, np.nan), "a tree does not take 6 inputs"),
        ("share", lambda a: a[:, :2], "a tree does not have 3 classes"),
        ("share", lambda a: a * 2, "a tree's shares of the classes do not sum to 1"),
        ("share", lambda a: -a, "a tree's shares of the classes do not sum to 1"),
        ("share", lambda a: np.zeros((0, 10**12)), "a tree does not have 3 classes"),
    ],
)
def test_arrays_that_are_not_trees_are_refused(tmp_path, name, change, expected):
    X, y = logits()
    path = tmp_path / "forest.npz"
    Forest(trees=2, random_state=0).fit(X, y).write(path)
    with np.load(path) as arrays:
        np.savez(path, **dict(arrays) | {name: change(arrays[name])})
    assert refusal(path) == (
        f"{path}: it is not a forest with 3 classes and 6 inputs ({expected}); fit the stack "
        "again with `ser stack fit`."
    )


@pytest.mark.parametrize("suffix", [".npz", ".skops"])
def test_no_damaged_file_ends_the_process(tmp_path, suffix):
    X, y = logits()
    path = tmp_path / f"fold-0{suffix}"
    if suffix == ".npz":
        Forest(trees=2, random_state=0).fit(X, y).write(path)
    else:
        dump_skops(RandomForestClassifier(2, max_depth=8, random_state=0).fit(X, y), path)
    read, refused = trials("forest", path, 150)
    assert read + refused == 150
    assert min(read, refused) > 15


def test_a_cut_file_is_refused(tmp_path):
    path = tmp_path / "fold-0.npz"
    path.write_bytes(b"PK")
    assert refusal(path) == (
        f"{path}: not readable as a forest (File is not a zip file); fit the stack again with "
        "`ser stack fit`."
    )
