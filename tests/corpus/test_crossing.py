import polars as pl
import pytest

from ser.corpus.crossing import crossings
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest

ROWS = [  # corpus, emotion, split
    ("a", "angry", "train"),
    ("a", "sad", "train"),
    ("a", "sad", "test"),
    ("b", "sad", "train"),
    ("b", "calm", "train"),
    ("b", "calm", "dev"),
    ("b", "sad", ""),
    (None, "sad", "train"),
]


def corpora(rows=ROWS, **columns):
    frame = pl.DataFrame(rows, ["corpus", "emotion", "split"], orient="row")
    ids = [f"u{i}" for i in range(len(rows))]
    frame = frame.with_columns(utterance=pl.Series(ids), path=pl.Series(ids))
    return Manifest(frame, ("angry", "sad", "calm"))


def splits(plans):
    return {plan.name: " ".join(s or "-" for s in plan.split) for plan in plans}


def test_trained_on_one_and_tested_on_the_other():
    a, b = crossings(corpora())
    assert splits([a, b]) == {
        "train-a": "train train test test test test - -",
        "train-b": "test test test train train dev - -",
    }
    assert (a.trained, a.left_out, a.classes) == ("a", None, ("angry", "sad"))
    assert b.classes == ("sad", "calm")


def test_three_corpora_are_left_out_one_by_one():
    rows = [*ROWS, ("c", "angry", "train"), ("c", "calm", "train"), ("c", "calm", "test")]
    plans = crossings(corpora(rows))
    names = [plan.name for plan in plans]
    assert names == ["train-a", "train-b", "train-c", "without-a", "without-b", "without-c"]
    without = plans[3]
    assert (without.trained, without.left_out) == (None, "a")
    assert without.classes == ("angry", "sad", "calm")
    assert splits([without])["without-a"] == ("test test test train train dev - - train train -")


def test_one_corpus_or_one_that_is_not_split():
    with pytest.raises(UserError) as error:
        crossings(corpora(ROWS[:3]))
    assert str(error.value) == (
        "manifest: corpus has 1 value; training on one and testing on another needs 2 or more: "
        "`ser corpus join` joins corpora."
    )
    unsplit = [
        (corpus, emotion, "") if corpus == "b" else (corpus, emotion, split)
        for corpus, emotion, split in ROWS
    ]
    with pytest.raises(UserError) as error:
        crossings(corpora(unsplit))
    assert str(error.value) == (
        "manifest: the train rows of corpus 'b' have fewer than two classes (0); `ser corpus "
        "split` divides a corpus into train, dev and test."
    )
