"""The challenge's csv files, byte by byte, and every sentence of `submit`."""

import json

import numpy as np
import polars as pl
import pytest

from ser.cache.logits import HeadLogits, SplitLogits
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.score.report.submission import read_expected, submit

CLASSES = ("angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral")
ATTRIBUTES = ("valence", "arousal", "dominance")


def manifest(count=8):
    """Make rows whose order is not that of the logits, and whose truth is unknown."""
    ids = [f"u{i}" for i in reversed(range(count))]
    frame = pl.DataFrame({"utterance": ids, "path": [f"Audios/{u}.wav" for u in ids]})
    train = pl.DataFrame({"utterance": "t", "path": "Audios/t.wav", "split": "train"})
    rows = pl.concat([frame.with_columns(split=pl.lit("test")), train])
    return Manifest(rows, CLASSES, "m.csv")


def write_head(run, name="a", classes=CLASSES, attributes=(), rows=8):
    """Write a head that says class i of utterance ui, and i.5, i.25 and i.125 of attributes."""
    predicted = np.arange(rows)[:, None] + np.array([0.5, 0.25, 0.125])[: len(attributes)]
    splits = {
        split: SplitLogits(
            utterance=[f"u{i}" for i in range(rows)] if split == "test" else ["t"],
            logits=np.eye(8)[:n, : len(classes)],
            label=np.full(n, -1),
            speaker=[""] * n,
            fold=np.full(n, -1),
            rows="held-out",
            predicted=predicted[:n] if attributes else None,
        )
        for split, n in (("train", 1), ("test", rows))
    }
    head = HeadLogits(name, classes, f"made {name}", {}, splits, attributes)
    head.write(run / "heads" / name / "logits.h5")


def write_stack(run, columns, made_from="made a"):
    """Write predictions, of utterances u0 … and with the split test unless columns say so."""
    (run / "stack").mkdir(parents=True)
    (run / "stack" / "stack.json").write_text(json.dumps({"heads": {"a": made_from}}))
    count = len(next(iter(columns.values())))
    rows = {"utterance": [f"u{i}" for i in range(count)], "split": ["test"] * count} | columns
    pl.DataFrame(rows).write_parquet(run / "stack" / "predictions.parquet")


def text_of(error):
    return str(error.value)


def test_a_head_predicts_both_tasks_in_the_order_of_the_manifest(tmp_path):
    write_head(tmp_path, attributes=ATTRIBUTES)
    written = submit(tmp_path, manifest(), head="a")
    assert [path.name for path in written] == [
        "submission-emotion.csv",
        "submission-attributes.csv",
    ]
    assert (tmp_path / "report" / "submission-emotion.csv").read_bytes() == (
        b"FileName,EmoClass\nu7.wav,N\nu6.wav,C\nu5.wav,D\nu4.wav,F\nu3.wav,U\nu2.wav,H\n"
        b"u1.wav,S\nu0.wav,A\n"
    )
    text = (tmp_path / "report" / "submission-attributes.csv").read_bytes()
    assert text.startswith(
        b"FileName,EmoAct,EmoVal,EmoDom\nu7.wav,7.250000,7.500000,7.125000\nu6.wav,6.250000,"
    )
    assert text.endswith(b"\nu0.wav,0.250000,0.500000,0.125000\n")
    assert not list((tmp_path / "report").glob(".*"))


def test_the_stack_predicts_in_the_order_of_the_expected_list(tmp_path):
    write_head(tmp_path)
    write_stack(
        tmp_path, {"prediction": ["sad", "fear", "sad"], "p.sad": [1, 0, 1], "p.fear": [0.0] * 3}
    )
    (tmp_path / "list.txt").write_text("u1.wav\n\nu0.wav\nu2.wav")
    written = submit(
        tmp_path, manifest(3), expected=tmp_path / "list.txt", folder=tmp_path / "mine"
    )
    assert list(written) == [tmp_path / "mine" / "submission-emotion.csv"]
    assert (tmp_path / "mine" / "submission-emotion.csv").read_bytes() == (
        b"FileName,EmoClass\nu1.wav,F\nu0.wav,S\nu2.wav,S\n"
    )
    assert not (tmp_path / "report").exists()


def test_attributes_alone_are_one_file_and_some_of_them_none(tmp_path):
    write_head(tmp_path)
    columns = {f"predicted.{name}": [3.0] for name in ATTRIBUTES}
    write_stack(tmp_path, columns)
    written = submit(tmp_path, manifest(1))
    assert [path.name for path in written] == ["submission-attributes.csv"]
    pl.read_parquet(tmp_path / "stack" / "predictions.parquet").drop(
        "predicted.valence"
    ).write_parquet(tmp_path / "stack" / "predictions.parquet")
    with pytest.raises(UserError) as error:
        submit(tmp_path, manifest(1))
    assert text_of(error) == (
        f"{tmp_path}/stack/predictions.parquet: it has neither classes nor all of arousal, "
        "valence, dominance; train heads that predict them."
    )


@pytest.mark.parametrize("text", ["u0.wav\nu1.wav\n", "\ufeffu0.wav\r\nu1.wav\r\n"])
def test_a_list_is_lines(tmp_path, text):
    (tmp_path / "x").write_text(text, newline="")
    assert read_expected(tmp_path / "x") == ["u0.wav", "u1.wav"]


@pytest.mark.parametrize(
    "text", ["FileName\nu0.wav\nu1.wav\n", '\ufeffEmoClass,"FileName"\n,u0.wav\nA,u1.wav \n']
)
def test_or_a_csv_with_the_column(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    assert read_expected(tmp_path / "x.csv") == ["u0.wav", "u1.wav"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the list is empty; name every expected file."),
        (b"FileName\n", "the list is empty; name every expected file."),
        (
            b"name,class\nu0.wav,\n",
            "there is no column FileName; give a csv that has one, or one name a line.",
        ),
        (
            b"u1.wav\nu0.wav\nu1.wav\nu0.wav\nu0.wav\n",
            "2 files ('u1.wav' is the first) are named more than once; name each file once.",
        ),
        (
            b"\xff\xfe\x00",
            "not readable as a list of files ('utf-8' codec can't decode byte 0xff in position 0: "
            "invalid start byte); give a csv with a column FileName, or one name a line.",
        ),
    ],
)
def test_a_list_that_is_none(tmp_path, content, message):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_expected(path)
    assert text_of(error) == f"{path}: {message}"


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(UserError) as error:
        read_expected(tmp_path / "no")
    assert text_of(error) == (
        f"{tmp_path}/no: not readable as a list of files ([Errno 2] No such file or directory: "
        f"'{tmp_path}/no'); give a csv with a column FileName, or one name a line."
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["u0.wav", "u1.wav", "u2.wav", "x.wav", "y.wav"],
            "2 files ('x.wav' is the first) are missing from the split test of m.csv; import the "
            "whole corpus, or give the list of this split.",
        ),
        (
            ["u0.wav", "u2.wav"],
            "1 file ('u1.wav') is of the split test of m.csv but not in the list; take such rows "
            "out of the split, or give the list of this split.",
        ),
    ],
)
def test_other_files_than_expected(tmp_path, names, message):
    write_head(tmp_path, rows=3)
    (tmp_path / "list").write_text("\n".join(names))
    with pytest.raises(UserError) as error:
        submit(tmp_path, manifest(3), head="a", expected=tmp_path / "list")
    assert text_of(error) == f"{tmp_path}/list: {message}"
    assert not (tmp_path / "report").exists()


def test_a_file_without_a_prediction_is_not_left_out(tmp_path):
    write_head(tmp_path, rows=6)
    with pytest.raises(UserError) as error:
        submit(tmp_path, manifest(8), head="a")
    assert text_of(error) == (
        f"{tmp_path}/heads/a/logits.h5: 2 utterances ('u7' is the first) are of the split test "
        "without a prediction; extract what failed, train the heads and fit the stack again."
    )


def test_two_utterances_of_one_file(tmp_path):
    write_head(tmp_path, rows=2)
    frame = manifest(2).frame.with_columns(path=pl.lit("long.wav"))
    with pytest.raises(UserError) as error:
        submit(tmp_path, Manifest(frame, CLASSES, "m.csv"), head="a")
    assert text_of(error) == (
        "m.csv: 1 file ('long.wav') is of more than one utterance of test; a submission has one "
        "row a file."
    )


def test_a_split_without_rows(tmp_path):
    write_head(tmp_path)
    with pytest.raises(UserError) as error:
        submit(tmp_path, manifest(), "Test3", head="a")
    assert text_of(error) == "m.csv: no row has the split 'Test3'; choose another with `--split`."


def test_a_class_that_the_challenge_does_not_have(tmp_path):
    write_head(tmp_path, classes=("angry", "calm"), rows=2)
    write_stack(tmp_path, {"prediction": ["angry"], "p.angry": [1.0], "p.calm": [0.0]})
    for head, path in (("a", "heads/a/logits.h5"), (None, "stack/predictions.parquet")):
        with pytest.raises(UserError) as error:
            submit(tmp_path, manifest(1), head=head)
        assert text_of(error) == (
            f"{tmp_path}/{path}: the class 'calm' has no letter in the challenge; train on its "
            "eight, angry, sad, happy, surprise, fear, disgust, contempt, neutral."
        )


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), None])
def test_numbers_that_are_none(tmp_path, broken):
    write_head(tmp_path)
    columns = {f"predicted.{name}": [3.0, 3.0] for name in ATTRIBUTES}
    write_stack(tmp_path, columns | {"predicted.valence": [3.0, broken]})
    with pytest.raises(UserError) as error:
        submit(tmp_path, manifest(2))
    assert text_of(error) == (
        f"{tmp_path}/stack/predictions.parquet: 1 utterance ('u1') is without a finite valence; "
        "train the heads again with a lower lr."
    )


def test_no_stack_and_a_stack_of_other_logits(tmp_path):
    write_head(tmp_path)
    with pytest.raises(UserError) as error:
        submit(tmp_path, manifest())
    assert text_of(error) == (
        f"{tmp_path}/stack/stack.json: there is no stack; fit it with `ser stack fit`, or submit "
        "a head with `--head NAME`."
    )
    write_stack(tmp_path, {"prediction": ["sad"], "p.sad": [1.0]}, made_from="older")
    with pytest.raises(UserError) as error:
        submit(tmp_path, manifest(1))
    assert text_of(error) == (
        f"{tmp_path}/stack/stack.json: the stack was fitted on other logits of head 'a'; fit it "
        "again with `ser stack fit`."
    )
