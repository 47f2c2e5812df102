"""Tables of predictions of any tool, as people have them."""

import numpy as np
import polars as pl
import pytest

from ser.corpus.errors import UserError
from ser.score.external import read_external

CLASSES = ("angry", "sad")


@pytest.fixture
def read(tmp_path):
    """Write a table and read it against four utterances, two of each split."""

    def read(text, ids=("a", "b", "c", "d"), name="other.csv", **options):
        (tmp_path / name).write_text(text)
        truth = pl.DataFrame(
            {
                "utterance": ids,
                "split": ["dev", "dev", "test", "test"],
                "label": [0, 1, 0, -1],
                "truth.arousal": [np.nan, np.nan, np.nan, 4.0],
            }
        )
        return read_external(tmp_path / name, truth, CLASSES, **options)

    return read


def refused(read, text, **options):
    with pytest.raises(UserError) as error:
        read(text, **options)
    return str(error.value).partition("other.csv: ")[2]


def test_predictions_are_matched_by_id(read):
    tool = read("prediction,Utterance\nsad,b\nANGRY,c\nsad,d\nangry,a\n")
    assert (tool.name, tool.classes, tool.notes) == ("other.csv", CLASSES, ())
    assert tool.missing == {"dev": 0, "test": 0}
    assert tool.frame.rows() == [
        ("a", "dev", "angry"),
        ("b", "dev", "sad"),
        ("c", "test", "angry"),  # in the spelling of the class
        ("d", "test", "sad"),
    ]


def test_prediction_comes_before_emotion_which_may_be_the_label(read):
    tool = read("utterance,emotion,prediction\na,sad,angry\nb,sad,angry\n")
    assert tool.frame["prediction"].to_list() == ["angry", "angry"]
    assert tool.missing == {"dev": 0}  # and no row of test: it is left out


@pytest.mark.parametrize(
    ("ids", "given", "expected"),
    [
        ("abcd", "a.wav x/b.FLAC c d", "abcd"),
        (["a.wav", "b.wav", "c.wav", "d.wav"], "a b c.wav d.mp3", None),
        (["x/a.wav", "x/b.wav", "y/a.wav", "y/b.wav"], "x/a x\\b y/a y/b.wav", None),
        (["a.1", "b.1", "c", "d"], "clips/a.1 b.1.wav c d", None),
    ],
)
def test_ids_may_be_the_names_of_files(read, ids, given, expected):
    rows = "".join(f"{text},sad\n" for text in given.split())
    tool = read("path,emotion\n" + rows, ids=list(ids))
    assert tool.frame["utterance"].to_list() == list(expected or ids)


def test_an_id_that_can_mean_two_utterances_is_refused(read):
    ids = ["x/a.wav", "y/a.wav", "c", "d"]
    assert refused(read, "utterance,emotion\na,sad\n", ids=ids) == (
        "'a' can mean x/a.wav, y/a.wav; write the ids as in the manifest."
    )
    assert refused(read, "utterance,emotion\na,sad\na.wav,sad\n") == (
        "'a' and 'a.wav' are the same utterance; keep one row of it."
    )


def test_an_incomplete_split_is_refused_or_counted(read):
    text = "utterance,prediction\na,sad\nb,\nc,sad\nnobody,sad\n"
    assert refused(read, text) == (
        "1 of 2 utterances of dev have no prediction ('b' is the first); a challenge refuses such "
        "a file: add them, or give --partial to score the others alone."
    )
    tool = read(text, partial=True)
    assert tool.missing == {"dev": 1, "test": 0}  # d has no label that a prediction could miss
    assert tool.frame["utterance"].to_list() == ["a", "c"]
    assert [note.partition("other.csv: ")[2] for note in tool.notes] == [
        "1 row of no utterance left out.",
        "1 utterance of dev without a prediction left out.",
    ]


def test_classes_that_only_the_tool_has_are_kept_and_wrong(read):
    tool = read("utterance,prediction\na,calm\nb,sad\nc,angry\n")
    assert tool.classes == ("angry", "sad", "calm")
    assert tool.notes[0].endswith(
        "other.csv: it predicts calm, which no utterance is: those are wrong."
    )
    assert refused(read, "utterance,prediction\na,A\nb,S\n") == (
        "none of its predictions (A, S) is a class of the corpus (angry, sad); rename them."
    )


def test_probabilities_alone_predict_their_highest(read):
    tool = read("utterance,p.sad,P.Angry\na,0.3,0.7\nb,1,0\nc,0.5,0.4\n")
    assert tool.frame.select("prediction", "p.angry", "p.sad").rows() == [
        ("angry", 0.7, 0.3),
        ("sad", 0.0, 1.0),
        ("sad", 0.4, 0.5),
    ]
    text = "utterance,prediction,p.sad\na,sad,1.5\nb,sad,1\n"
    assert refused(read, text) == (
        "p.sad is 1.5 for 'a'; probabilities are numbers from 0 to 1, in every row."
    )


def test_attributes_are_read_too(read):
    tool = read("utterance,predicted.arousal\nd,4.5\n")
    assert tool.frame.rows() == [("d", "test", 4.5)]
    assert tool.missing == {"test": 0}


def test_a_table_of_something_else_is_refused(read):
    assert refused(read, "clip,prediction\na,sad\n") == (
        "there is no column 'utterance'; its columns are: clip, prediction."
    )
    assert refused(read, "utterance,label\na,sad\n") == (
        "there is no column 'prediction', and none of arousal, valence and dominance; its columns "
        "are: utterance, label."
    )
    assert refused(read, "utterance,prediction\nx,sad\ny,sad\n") == (
        "none of its 2 rows is of an utterance of the corpus ('x' is the first id); its ids must "
        "be those of the manifest."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("utterance,prediction\na,\nb,NA\n", "the column 'prediction' is empty; write the"),
        (
            "utterance,p.angry,p.Angry\na,1,0\n",
            "the column 'p.Angry' is a second one of 'angry'; rename or remove it.",
        ),
        ("utterance,p.sad,p.\na,1,0\n", "the column 'p.' names no class; rename or remove it."),
        (
            "utterance,p.angry,p.sad\na,0.5,0.5\nb,0.9,0.9\n",
            "the probabilities of 'b' sum to 1.8, not to 1; divide them by their sum, or leave",
        ),
        ("utterance,p.angry,p.sad\na,0,0\n", "the probabilities of 'a' sum to 0, not to 1; divide"),
    ],
)
def test_predictions_that_are_none_are_refused(read, text, sentence):
    assert refused(read, text, partial=True).startswith(sentence)


def test_probabilities_may_be_rounded(read):
    tool = read("utterance,p.angry,p.sad\na,0.33,0.64\n", partial=True)
    assert tool.frame["prediction"].to_list() == ["sad"]


def test_an_empty_column_of_predictions_beside_attributes_is_none(read):
    tool = read("utterance,emotion,arousal\nd,,3\n", partial=True)
    assert tool.frame.columns == ["utterance", "split", "predicted.arousal"]
