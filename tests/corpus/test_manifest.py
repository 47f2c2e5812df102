from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpus.columns import COLUMNS
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest, missing_audio

CLASSES = ("surprise", "angry", "neutral")


def frame(**columns: list[Any]) -> pl.DataFrame:
    rows = len(next(iter(columns.values()), [0, 0, 0]))
    names = [f"u{i}" for i in range(rows)]
    return pl.DataFrame({"utterance": names, "path": [f"{n}.wav" for n in names], **columns})


def refusal(table: pl.DataFrame, classes: tuple[str, ...] | None = CLASSES) -> str:
    with pytest.raises(UserError) as caught:
        Manifest(table, classes, "m.csv")
    return str(caught.value)


def test_missing_columns_are_filled_in() -> None:
    manifest = Manifest(frame(extra=["x"]))
    assert manifest.frame.columns == ["utterance", "path", "extra", *list(COLUMNS)[2:]]
    row = manifest.frame.row(0, named=True)
    assert (row["split"], row["emotion"], row["start"], row["extra"]) == ("", None, None, "x")
    assert len(manifest) == 1


def test_empty_cells_are_unknown() -> None:
    manifest = Manifest(frame(emotion=[""], speaker=[""], gender=[""], split=[None]))
    row = manifest.frame.row(0, named=True)
    assert (row["emotion"], row["speaker"], row["gender"], row["split"]) == (None, None, None, "")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_written_and_read_it_is_the_same(tmp_path: Path, suffix: str) -> None:
    table = frame(
        emotion=["angry", None, "neutral"],
        speaker=["007", "1e5", None],
        split=["train", "", "dev"],
        arousal=[1.0, None, 6.5],
        transcript=['Yes, "he" said,\nand left.', "", None],
        **{"votes.angry": [3, 0, None]},
    )
    manifest = Manifest(table, CLASSES)
    manifest.write(tmp_path / "new" / f"m.{suffix}")
    again = Manifest.read(tmp_path / "new" / f"m.{suffix}", CLASSES)
    assert again.frame.equals(manifest.frame)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"m.{suffix}"]


def test_labels_and_columns_are_looked_up_by_id_in_class_order() -> None:
    manifest = Manifest(frame(emotion=["neutral", None, "angry"], speaker=["a", "b", "c"]), CLASSES)
    labels = manifest.labels(["u2", "u1", "u0", "u2"])
    np.testing.assert_array_equal(labels, [1, -1, 2, 1])
    assert labels.dtype == np.int64
    assert manifest.column("speaker", ["u2", "u0"]) == ["c", "a"]


def test_classes_default_to_what_is_found() -> None:
    assert Manifest(frame(emotion=["sad", "angry", None])).classes == ("angry", "sad")


def test_utterances_of_a_split_keep_their_order() -> None:
    manifest = Manifest(frame(split=["dev", "train", "dev"]))
    assert manifest.utterances("dev") == ["u0", "u2"]
    assert manifest.utterances() == ["u0", "u1", "u2"]
    assert manifest.utterances("test") == []


def test_votes_are_counts_in_class_order_and_then_of_all_others() -> None:
    cells = {"votes.angry": [3, 0, None], "votes.neutral": [1, 0, 2], "votes.other": [4, None, 0]}
    bored = {"votes.bored": [0.5, 5, None], "votes2.angry": [7, 7, 7]}
    manifest = Manifest(frame(**cells, **bored), CLASSES)
    votes = manifest.votes(["u2", "u0", "u1", "u2"])
    expected = [[0, 0, 2, 0], [0, 3, 1, 4.5], [0, 0, 0, 5], [0, 0, 2, 0]]
    assert votes.tolist() == expected
    assert votes.dtype == np.float64
    assert manifest.votes(["u1"], "votes2.").tolist() == [[0, 7, 0, 0]]


@settings(deadline=None)
@given(
    st.lists(st.tuples(*[st.one_of(st.none(), st.integers(0, 9))] * 4), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
def test_votes_are_looked_up_by_id(cells: list[tuple[int | None, ...]], shuffle: Any) -> None:
    names = [*CLASSES, "other"]
    columns = {f"votes.{name}": [c[i] for c in cells] for i, name in enumerate(names)}
    order = [f"u{i}" for i in range(len(cells))]
    shuffle.shuffle(order)
    votes = Manifest(frame(**columns), CLASSES).votes(order)
    assert votes.tolist() == [[cell or 0 for cell in cells[int(u[1:])]] for u in order]


@pytest.mark.parametrize("prefix", ["votes.", "votes2."])
def test_soft_labels_without_any_votes_are_refused(prefix: str) -> None:
    manifest = Manifest(frame(**{f"{prefix}other": [1, 2, 3]}), CLASSES, "m.csv")
    with pytest.raises(UserError) as caught:
        manifest.votes(["u0"], prefix)
    assert str(caught.value) == (
        f"m.csv: there are no {prefix}<class> columns, so soft labels cannot be computed; "
        "import a corpus with rater votes or use hard labels."
    )


def test_votes_that_a_csv_gives_as_text_become_numbers() -> None:
    manifest = Manifest(frame(**{"votes.angry": ["2", None]}), CLASSES)
    assert manifest.frame["votes.angry"].to_list() == [2.0, None]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"split": ["train", "train", "eval"]},
            "m.csv: unknown split: 'eval' (1 row); use train, dev, test or leave it empty.",
        ),
        (
            {"emotion": ["angry", None, "bored"]},
            "m.csv: emotion 'bored' is not one of the classes (surprise, angry, neutral); "
            "add it to corpus.classes in pipeline.yaml, or give corpus.map or corpus.others.",
        ),
        (
            {"valence": [None, 7.0, 7.5]},
            "m.csv: valence is 7.5 for 'u2'; attributes are on the 1-7 scale.",
        ),
        (
            {"arousal": [None, 7.0, float("inf")]},
            "m.csv: arousal is 'inf' for 'u2', not a number; leave the cell empty where it is "
            "unknown.",
        ),
        (
            {"votes.angry": [None, 0, -1]},
            "m.csv: votes.angry is -1 for 'u2'; votes are numbers of raters, so 0 or more.",
        ),
        (
            {"votes.angry": [None, 0.0, float("inf")]},
            "m.csv: votes.angry is 'inf' for 'u2', not a number; leave the cell empty where it is "
            "unknown.",
        ),
        (
            {"start": [0.0, 1.0, 2.0], "end": [1.0, None, 2.0]},
            "m.csv: start and end of 'u2' are not a span of time; "
            "start must be 0 or more and end greater than start (seconds).",
        ),
        (
            {"start": [0.0, 0.0, -1.0]},
            "m.csv: start and end of 'u2' are not a span of time; "
            "start must be 0 or more and end greater than start (seconds).",
        ),
    ],
)
def test_bad_cells_are_reported_in_one_sentence(
    columns: dict[str, list[Any]], message: str
) -> None:
    assert refusal(frame(**columns)) == message


def test_bad_ids_are_reported_in_one_sentence() -> None:
    table = pl.DataFrame({"utterance": ["b", "a", "b", "a"], "path": ["x"] * 4})
    assert refusal(table) == (
        "m.csv: utterance 'a' appears more than once (2 such ids); give every row a unique id."
    )
    table = pl.DataFrame({"utterance": ["a", "", "c", None], "path": ["x", "x", "", "x"]})
    assert refusal(table) == "m.csv: 3 rows have no utterance id or no path; fill in both."
    assert refusal(pl.DataFrame({"utterance": ["a"]})) == (
        "m.csv: the column 'path' is missing; every row needs an id (utterance) "
        "and an audio file (path); its columns are: utterance."
    )


def test_text_in_a_column_of_numbers_is_reported_in_one_sentence() -> None:
    assert refusal(frame(arousal=["high"])) == (
        "m.csv: arousal is 'high' for 'u0', not a number; leave the cell empty where it is unknown."
    )


def test_the_error_for_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    with pytest.raises(UserError) as caught:
        Manifest.read(path)
    assert str(caught.value) == (
        f"{path}: there is no such manifest; make one with "
        f"`ser corpus import NAME FOLDER --out {path}`."
    )


def test_a_file_that_is_no_table_is_reported_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    path.write_text("not parquet")
    with pytest.raises(UserError) as caught:
        Manifest.read(path)
    assert str(caught.value).startswith(f"{path}: not readable as a table (")
    assert str(caught.value).endswith("); write it as .csv, .tsv or .parquet with a header line.")


NAN = float("nan")


@pytest.mark.parametrize("name", ["start", "end", "arousal", "votes.angry", "votes2.angry"])
@pytest.mark.parametrize("cells", [[3.0, NAN], ["3", "NaN"], ["3", " n/a"], ["3", "-"]])
def test_nan_is_unknown_in_every_column_of_numbers(
    tmp_path: Path, name: str, cells: list[Any]
) -> None:
    path = tmp_path / "m.parquet"
    frame(**{name: cells}).write_parquet(path)
    manifest = Manifest.read(path, CLASSES)
    assert manifest.frame[name].to_list() == [3.0, None]
    assert manifest.column("utterance", ["u1"]) == ["u1"]


def test_names_that_pandas_wrote_as_nan_are_unknown() -> None:
    columns = {"emotion": [NAN, NAN], "speaker": ["nan", "NA"], "gender": ["None", "f"]}
    manifest = Manifest(frame(split=["N/A", "-"], transcript=["nan", "none"], **columns))
    assert manifest.classes == ()
    read = manifest.frame.select("emotion", "speaker", "gender", "split", "transcript").rows()
    assert read == [(None, None, None, "", "nan"), (None, None, "f", "", "none")]


def test_a_class_may_be_called_none() -> None:
    manifest = Manifest(frame(emotion=["none", "NA"]), ["none", "angry"])
    assert manifest.frame["emotion"].to_list() == ["none", None]


def test_a_manifest_that_a_spreadsheet_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    rows = [
        "Utterance; Path ;START;End;Split;Speaker;Emotion;Arousal;Votes.angry;note;code",
        "a;clips\\a.wav;0,5;1,25;Training;007;angry ;3,5;2;x;007",
        ";;;;;;;;;;",
        "b;clips/b.wav;;NaN;VAL;;;NA;;;12",
    ]
    path.write_bytes("\r\n".join(rows).encode("utf-8-sig"))
    manifest = Manifest.read(path)
    columns = ["utterance", "path", "start", "end", "split", "speaker", "emotion", "arousal"]
    assert manifest.frame.select(columns).rows() == [
        ("a", "clips/a.wav", 0.5, 1.25, "train", "007", "angry", 3.5),
        ("b", "clips/b.wav", None, None, "dev", None, None, None),
    ]
    assert manifest.frame.select("votes.angry", "note", "code").rows() == [
        (2, "x", "007"),
        (None, None, "12"),
    ]


def test_further_columns_of_numbers_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("utterance,path,age,tall,room,old\na,a.wav,30,1.8,4a,true\nb,b.wav,,2,1e,\n")
    read = Manifest.read(path).frame.select("age", "tall", "room", "old")
    assert read.dtypes == [pl.Int64, pl.Float64, pl.String, pl.Boolean]
    assert read.rows() == [(30, 1.8, "4a", True), (None, 2.0, "1e", None)]


def test_odd_types_become_text_or_one_sentence() -> None:
    table = frame(
        speaker=[7, 8],
        emotion=pl.Series(["sad", None], dtype=pl.Categorical),
        gender=pl.Series(["f", "m"], dtype=pl.Enum(["f", "m"])),
        split=pl.Series([b"train", b"dev"]),
        arousal=pl.Series(["1.5", "2"]).cast(pl.Decimal(4, 2)),
    )
    row = Manifest(table).frame.row(0, named=True)
    assert [row[n] for n in ("speaker", "emotion", "gender", "split", "arousal")] == [
        "7",
        "sad",
        "f",
        "train",
        1.5,
    ]
    assert refusal(frame(start=[True])) == (
        "m.csv: the column 'start' is of type Boolean; start, end, the attributes and the votes "
        "are numbers."
    )
    assert refusal(frame(emotion=[["angry"]])) == (
        "m.csv: the column 'emotion' is of type List(String); write it as text."
    )


def test_columns_that_differ_in_capitals_alone_are_reported_in_one_sentence() -> None:
    table = frame(Emotion=["sad"], EMOTION=["angry"])
    assert refusal(table) == (
        "m.csv: the columns 'Emotion' and 'EMOTION' differ only in case; "
        "rename one of them to emotion."
    )
    both = Manifest(frame(emotion=["sad"], Emotion=["angry"]))
    assert both.frame.select("emotion", "Emotion").row(0) == ("sad", "angry")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_mark_of_synthetic_speech_survives(tmp_path: Path, suffix: str) -> None:
    real, made = frame(), frame(synthetic=[True, True, True])
    renamed = made.with_columns(pl.concat_str(pl.lit("s"), "utterance").alias("utterance"))
    path = tmp_path / f"m{suffix}"
    Manifest(pl.concat([real, renamed], how="diagonal")).write(path)
    manifest = Manifest.read(path)
    assert manifest.frame["synthetic"].to_list() == [False] * 3 + [True] * 3
    assert manifest.synthetic_share(manifest.utterances()) == 0.5
    assert manifest.synthetic_share(["su0", "u0", "u1", "u2"]) == 0.25
    assert manifest.synthetic_share([]) == 0.0
    kept = Manifest(manifest.frame.filter(pl.col("utterance").str.starts_with("s")))
    assert kept.synthetic_share(kept.utterances()) == 1.0
    assert Manifest(real).synthetic_share(["u0"]) == 0.0
    assert "synthetic" not in Manifest(real).frame.columns


@pytest.mark.parametrize(
    "cells", [["TRUE", "0", ""], [" yes ", "No", None], [1, 0, None], [1.0, 0.0, float("nan")]]
)
def test_the_mark_may_be_written_in_several_ways(cells: list[Any]) -> None:
    manifest = Manifest(frame(synthetic=cells))
    assert manifest.frame["synthetic"].to_list() == [True, False, False]


def test_the_mark_is_case_insensitive(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("utterance;path; Synthetic\na;a.wav;1\nb;b.wav;\n")
    assert Manifest.read(path).frame["synthetic"].to_list() == [True, False]


def test_another_mark_is_reported_in_one_sentence() -> None:
    assert refusal(frame(synthetic=["true", "espeak", None])) == (
        "m.csv: synthetic is 'espeak' for 'u1'; it states whether the speech was synthesized: "
        "write true or false."
    )


@pytest.mark.parametrize("name", ["speaker", "gender", "emotion", "corpus", "session", "fold"])
def test_a_name_with_a_line_break_or_control_character_is_refused(name: str) -> None:
    for text in ("a\nb", "\x1b[31ma", "a\u202eb", "a\u2028b"):
        assert refusal(frame(**{name: ["a", text]}), None) == (
            f"m.csv: {name} '{text.encode('unicode_escape').decode()}' has a line break or a "
            "control character (1 row); remove it from the cell."
        )
    assert refusal(frame(**{"votes.a\nb": [1]})) == (
        "m.csv: the name of the column 'votes.a\\nb' has a line break or a control character; "
        "rename it."
    )


def test_names_with_signs_of_any_script_are_kept() -> None:
    names = ["<b>&|$_%\\", "=cmd()", "\u0645\u200c\u0646", "a b"]
    assert Manifest(frame(speaker=names)).frame["speaker"].to_list() == names


def test_missing_audio_is_counted_in_a_sample_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "0.wav").touch()
    rows = [("a", "0.wav"), ("b", "0.wav"), ("c", "1.wav"), ("d", "ä" * 200 + ".wav")]
    few = Manifest(pl.DataFrame(rows, ["utterance", "path"], orient="row"), audio=tmp_path)
    assert missing_audio(few) == f"2 of 3 files, as {tmp_path}/1.wav"
    few.frame = few.frame.head(2)
    assert missing_audio(few) == ""
    paths = [f"{i}.wav" for i in range(1000)]
    many = Manifest(pl.DataFrame({"utterance": paths, "path": paths}), audio=tmp_path)
    assert missing_audio(many) == (f"99 of 100 files that were looked for, as {tmp_path}/10.wav")
