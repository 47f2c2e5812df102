"""Two runs compared on the utterances that both have, by hand."""

import numpy as np
import polars as pl
import pytest

from ser.corpus.errors import UserError
from ser.score.agreement import Agreement
from ser.score.pairs import System, compare_systems, read_system

SPEAKERS = [f"s{i}" for i in range(6)]


def system(emotions, predictions, ids=None, classes=("angry", "sad"), source="a", **columns):
    """Make a system on test, each utterance of another speaker."""
    ids = ids or [f"u{i}" for i in range(len(emotions))]
    rows = {"utterance": ids, "split": "test", "emotion": emotions, "speaker": ids}
    rows |= {"prediction": predictions} if predictions else {}
    schema = {"emotion": pl.String()}
    return System(source, "h", classes, pl.DataFrame(rows | columns, schema_overrides=schema))


def test_pairs_are_of_the_utterances_that_both_have():
    first = system(["angry", "angry", "sad", "sad"], ["angry", "sad", "sad", "sad"])
    second = system(
        ["sad", "sad", "angry", "angry", None],
        ["angry", "sad", "angry", "sad", "sad"],
        ids=["u3", "u2", "u0", "x", "y"],
        classes=("sad", "angry"),
        source="b",
    )
    comparison = compare_systems(first, second, resamples=200)
    assert (comparison.split, comparison.first, comparison.second) == ("test", "a: h", "b: h")
    assert (comparison.first_lacks, comparison.second_lacks, comparison.n, comparison.speakers) == (
        1,
        1,
        3,
        3,
    )
    # of u0 angry, u2 sad, u3 sad the first has all, the second mistakes u3
    assert comparison.macro_f1.first.value == 1.0
    assert comparison.macro_f1.second.value == pytest.approx(2 / 3)
    assert comparison.macro_f1.difference.value == pytest.approx(1 / 3)
    assert {name: pair.second.value for name, pair in comparison.per_class.items()} == {
        "angry": pytest.approx(2 / 3),
        "sad": pytest.approx(2 / 3),
    }
    assert (comparison.mcnemar["first_only"], comparison.mcnemar["second_only"]) == (1, 0)
    assert comparison.agreement == Agreement(
        kappa=pytest.approx((2 / 3 - 4 / 9) / (5 / 9)),
        same=pytest.approx(2 / 3),
        both_right=pytest.approx(2 / 3),
        only_first=pytest.approx(1 / 3),
        only_second=0.0,
        both_wrong=0.0,
    )
    assert comparison.ccc == {}


def test_interval_and_p_are_those_of_the_paired_bootstrap():
    from ser.score.compare import compare_classes

    rng = np.random.default_rng(0)
    names = np.array(["angry", "sad"], object)
    labels, one, other = (rng.integers(0, 2, 40) for _ in range(3))
    sides = [system(names[labels].tolist(), names[side].tolist()) for side in (one, other)]
    comparison = compare_systems(*sides, resamples=100, seed=7).macro_f1.difference
    speakers = [f"u{i}" for i in range(40)]
    expected = compare_classes(labels, one, other, speakers, 2, resamples=100, seed=7)
    assert (comparison.value, comparison.interval, comparison.p) == (
        expected["difference"],
        expected["interval"],
        expected["p"],
    )


def test_attributes_are_compared_by_ccc_and_their_mean():
    truth = {"truth.arousal": [1.0, 2.0, 3.0], "truth.valence": [3.0, np.nan, 1.0]}
    right = {"predicted.arousal": [1.0, 2.0, 3.0], "predicted.valence": [3.0, 9.0, 1.0]}
    wrong = {"predicted.arousal": [3.0, 2.0, 1.0], "predicted.valence": [3.0, 9.0, 1.0]}
    none = [None] * 3
    comparison = compare_systems(
        system(none, [], **truth, **right), system(none, [], **truth, **wrong)
    )
    assert (comparison.n, comparison.macro_f1, comparison.agreement, comparison.per_class) == (
        3,
        None,
        None,
        {},
    )
    assert {name: pair.difference.value for name, pair in comparison.ccc.items()} == pytest.approx(
        {"arousal": 2.0, "valence": 0.0, "mean": 1.0}
    )


def test_other_labels_of_the_same_utterance_are_refused():
    first = system(["angry", "sad"], ["sad", "sad"])
    second = system(["angry", "angry"], ["sad", "sad"], source="b")
    with pytest.raises(UserError) as error:
        compare_systems(first, second)
    assert str(error.value) == (
        "'u1': its emotion is sad in a and angry in b (1 such utterance); compare runs with the "
        "same labels."
    )


def test_nothing_in_common_is_refused():
    first, second = system(["sad"], ["sad"]), system(["sad"], ["sad"], ids=["x"], source="b")
    with pytest.raises(UserError, match="no labelled utterance of test in common"):
        compare_systems(first, second)
    with pytest.raises(UserError, match="of dev in common"):
        compare_systems(first, first, "dev")
    with pytest.raises(UserError, match="predict nothing that both have labels of on test"):
        compare_systems(first, system(["sad"], []))


def test_the_system_of_a_run_is_its_stack_or_the_head_that_is_best_on_dev(tmp_path, write_head):
    dev = [0, 1]
    write_head("poor", {"dev": ([[0, 1], [0, 1]], dev), "test": ([[1, 0]], [0])})
    write_head("good", {"dev": ([[1, 0], [0, 1]], dev), "test": ([[0, 1]], [0])})
    best = read_system(tmp_path)
    assert (best.name, best.classes) == ("good", ("angry", "sad"))
    assert best.rows["utterance", "split", "emotion", "prediction"].rows() == [
        ("dev0", "dev", "angry", "angry"),
        ("dev1", "dev", "sad", "sad"),
        ("test0", "test", "angry", "sad"),
    ]
    assert read_system(tmp_path, "poor").rows["prediction"].to_list() == ["sad", "sad", "angry"]
    with pytest.raises(UserError) as error:
        read_system(tmp_path, "stack")
    assert str(error.value) == (
        f"{tmp_path}: it has no system 'stack'; its systems are good, poor."
    )
    for name in ("one", "two"):
        write_head(f"../pooled/heads/{name}", {"test": ([[1, 0]], [0])})
    with pytest.raises(UserError) as error:
        read_system(tmp_path / "pooled")
    assert str(error.value) == (
        f"{tmp_path}/pooled: there is no stack, and no dev split to choose a head by; name one of "
        "one, two."
    )
    with pytest.raises(UserError, match="no head of it is trained"):
        read_system(tmp_path / "none")
