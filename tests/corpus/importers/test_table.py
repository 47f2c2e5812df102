import os
from pathlib import Path

import polars as pl
import pytest

from ser.corpus.errors import UserError
from ser.corpus.importers.registry import import_corpus
from ser.corpus.manifest import missing_audio

CASES = os.environ.get("SER_SHARED", "/none") + "/cases"
FOUR = [
    ("0001", "angry", "s1", "train"),
    ("0002", "sad", "s1", "train"),
    ("0003", "angry", "s2", "dev"),
    ("0004", "sad", "s3", "test"),
]


def four(folder: Path, **options: object) -> list[tuple[object, ...]]:
    frame = import_corpus("csv", folder, path="file", **options).frame
    return frame.select("utterance", "emotion", "speaker", "split").rows()


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        import_corpus("csv", folder, **options)
    return str(caught.value)


def test_columns_are_named_by_options(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "file,label,who,set,from,to,act,votes.angry,note\n"
        "sub/007.wav,A,007,Train,0.5,1.5,3.5,2,x\n"
        "sub/1e5.flac,Q,,VALIDATION,,,,,y\n"
    )
    manifest = import_corpus(
        "csv",
        tmp_path,
        table=path,
        path="file",
        emotion="label",
        emotions={"A": "angry"},
        speaker="who",
        split="set",
        start="from",
        end="to",
        arousal="act",
    )
    assert manifest.classes == ("angry",)
    columns = ["utterance", "path", "emotion", "speaker", "split", "start", "end", "arousal"]
    assert manifest.frame.select(columns).rows() == [
        ("007", "sub/007.wav", "angry", "007", "train", 0.5, 1.5, 3.5),
        ("1e5", "sub/1e5.flac", None, None, "dev", None, None, None),
    ]
    assert manifest.frame["votes.angry"].to_list() == [2.0, None]
    assert "note" not in manifest.frame.columns
    assert manifest.notes == (
        "columns used: file (as path), from (as start), to (as end), set (as split), "
        "who (as speaker), label (as emotion), act (as arousal), votes.angry",
        "columns left out: note",
        "no class, because not in emotions: 'Q' (1 row)",
    )


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_same_named_columns_are_taken_from_any_format(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame(
        {"utterance": ["b", "a"], "path": ["1.wav", "2.wav"], "emotion": ["sad", "fear"]}
    )
    path = tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if suffix == "tsv" else ",")
    manifest = import_corpus("csv", tmp_path, table=str(path))
    assert manifest.frame.select(frame.columns).equals(frame)
    assert manifest.classes == ("fear", "sad")


def test_wrong_tables_are_reported_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert refusal(tmp_path, table=path) == (
        f"{path}: there is no such table; give a .csv, .tsv or .parquet with `--option table=FILE`."
    )
    path.write_text("file,emotion,arousal\na.wav,sad,high\n")
    assert refusal(tmp_path, table=path) == (
        f"{path}: there is no column 'path'; name the column of audio files with "
        "`--option path=COLUMN`; the columns are: file, emotion, arousal."
    )
    assert refusal(tmp_path, table=path, path="file", speaker="who") == (
        f"{path}: there is no column 'who' for speaker; its columns are: file, emotion, arousal."
    )
    assert refusal(tmp_path, table=path, path="file") == (
        f"{path}: arousal is 'high' for 'a', not a number; leave the cell empty where it is "
        "unknown."
    )
    bad = tmp_path / "t.parquet"
    bad.write_text("not parquet")
    assert refusal(tmp_path, table=bad).startswith(f"{bad}: not readable as a table (")


def test_the_error_for_a_missing_table_says_how_to_give_one(tmp_path: Path) -> None:
    (tmp_path / "t.csv").touch()
    assert refusal(tmp_path, table="t.csv") == (
        "t.csv: there is no such table; give a .csv, .tsv or .parquet with `--option table=FILE`; "
        f"did you mean table={tmp_path}/t.csv?"
    )
    assert refusal(tmp_path).endswith("give a .csv, .tsv or .parquet with `--option table=FILE`.")


@pytest.mark.parametrize(
    ("header", "cells", "end", "tail"),
    [
        ("file,emotion,speaker,split", "{}.wav,{},{},{}", "\n", "\n\n\n,,,\n"),
        ("File,Emotion,SPEAKER,sPLIT", "{}.wav,{},{},{}", "\r\n", "\r\n"),
        ("file, emotion, speaker , split", "{}.wav, {}, {} ,{} ", "\n", ""),
        ("\ufefffile;emotion;speaker;split", "{}.wav;{};{};{}", "\r", "\r"),
        ("file\temotion\tspeaker\tsplit", "{}.wav\t{}\t{}\t{}", "\r\n", "\r\n"),
        ("file|emotion|speaker|split|note|", "{}.wav|{}|{}|{}|x|", "\n", "\n"),
        ('"file","emotion","speaker","split"', '"{}.wav","{}","{} ","{}"', "\n", "\n"),
    ],
)
def test_tables_as_spreadsheets_save_them(
    tmp_path: Path, header: str, cells: str, end: str, tail: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes((end.join([header, *(cells.format(*row) for row in FOUR)]) + tail).encode())
    assert four(tmp_path, table=path) == FOUR


@pytest.mark.skipif(not Path(CASES).is_dir(), reason="SER_SHARED is not set")
@pytest.mark.parametrize(
    "case",
    [
        "csv_blank_rows/blank",
        "csv_header_capitals/headcase",
        "csv_header_spaces/spaces",
        "csv_mac_line_ends/cr",
        "csv_semicolon/semi",
        "csv_utf16/utf16",
    ],
)
def test_the_tables_that_went_wrong(tmp_path: Path, case: str) -> None:
    assert four(tmp_path, table=f"{CASES}/{case}.csv") == FOUR


def test_codes_compare_as_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("file,emotion\n1.wav,04\n2.wav,05\n3.wav,NA\n4.wav,\n")
    options = {"table": path, "path": "file"}
    manifest = import_corpus("csv", tmp_path, emotions={"04": "sad", "05": "angry"}, **options)
    assert manifest.frame["emotion"].to_list() == ["sad", "angry", None, None]
    assert refusal(tmp_path, emotions={4: "sad", "05": "angry"}, **options) == (
        f"{path}: option emotions maps '4', but no cell has this value; did you mean '04'?"
    )
    assert refusal(tmp_path, emotions={"x": "sad"}, **options) == (
        f"{path}: option emotions maps 'x', but no cell has this value; choose from 04, 05, NA."
    )
    quiet = {"04": "sad", "05": "null"}
    again = import_corpus("csv", tmp_path, emotions=quiet, **options)
    assert again.frame["emotion"].to_list() == ["sad", None, None, None]
    assert again.classes == ("sad",)
    path.write_text("file,label\n1.wav,04\n")
    assert refusal(tmp_path, emotions={"04": "sad"}, **options) == (
        f"{path}: there is no column 'emotion' for option emotions; name it with "
        "`--option emotion=COLUMN`; "
        "the columns are: file, label."
    )


@pytest.mark.parametrize("given", ["angry", ["angry"], {"angry": 1}, {"angry": "1"}, {"a": ""}, {}])
def test_what_is_no_mapping_of_cells_to_names_is_reported_in_one_sentence(
    tmp_path: Path, given: object
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path,emotion\n1.wav,angry\n")
    message = refusal(tmp_path, table=path, emotions=given)
    assert message.startswith("option emotions ")
    assert message.endswith(" emotions={A: angry, S: sad}.")


def test_usual_names_of_splits_are_recognized_and_others_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    words = ["Training", "VAL", "validation ", "TEST", "eval", "Eval", "eval", ""]
    path.write_text("path,split\n" + "".join(f"{i}.wav,{w}\n" for i, w in enumerate(words)))
    assert refusal(tmp_path, table=path) == (
        f"{path}: unknown split: 'eval' (2 rows), 'Eval' (1 row); map it with "
        "splits={eval: test}, or leave these cells empty."
    )
    splits = {"eval": "test", "Eval": "dev"}
    frame = import_corpus("csv", tmp_path, table=path, splits=splits).frame
    assert frame["split"].to_list() == ["train", "dev", "dev", "test", "test", "dev", "test", ""]
    assert refusal(tmp_path, table=path, splits={"eval": "tst1"}) == (
        "option splits maps to 'tst1'; map to train, dev or test."
    )


def test_columns_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path,Emotion,emotion\n1.wav,a,b\n")
    assert refusal(tmp_path, table=path) == (
        f"{path}: the columns 'Emotion' and 'emotion' differ only in case; choose one with "
        "`--option emotion=COLUMN`."
    )
    frame = import_corpus("csv", tmp_path, table=path, emotion="Emotion").frame
    assert frame["emotion"].to_list() == ["a"]


def test_the_error_for_ambiguous_file_names_explains_how_to_give_ids(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("file,start\n1.wav,\nsub/1.wav,\n2.wav,\n")
    options = {"table": path, "path": "file"}
    assert refusal(tmp_path, **options) == (
        f"{path}: 2 rows share a file name with another row (such as '1'), so file names cannot "
        "serve as ids; name a column of ids with `--option utterance=COLUMN`, such as "
        "utterance=file."
    )
    frame = import_corpus("csv", tmp_path, utterance="file", **options).frame
    assert frame["utterance"].to_list() == ["1.wav", "sub/1.wav", "2.wav"]
    path.write_text("file,start\n1.wav,0\n1.wav,5\n")
    assert refusal(tmp_path, **options).endswith(
        "add a column of ids and name it with `--option utterance=COLUMN`."
    )


def test_backslashes_and_absolute_paths_are_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("sub/1.wav", "sub/2.wav", "odd\\3.wav"):
        (tmp_path / name).touch()
    path = tmp_path / "t.csv"
    path.write_text(f"path\nsub\\1.wav\n{tmp_path}/sub/2.wav\nodd\\3.wav\n/other/4.wav\n")
    manifest = import_corpus("csv", tmp_path, table=path)
    assert manifest.frame.select("utterance", "path").rows() == [
        ("1", "sub/1.wav"),
        ("2", "sub/2.wav"),
        ("odd\\3", "odd\\3.wav"),
        ("4", "/other/4.wav"),
    ]
    assert missing_audio(manifest) == "1 of 4 files, as /other/4.wav"


def test_a_table_without_a_header_is_reported_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("1.wav,angry\n2.wav,sad\n")
    assert refusal(tmp_path, table=path) == (
        f"{path}: the first line is not a header (1.wav, angry); add one above it, such as "
        "path,emotion,speaker,split."
    )


def test_options_describe_the_format_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('path#transcript#arousal\n1.wav#"Grüße"#3,5\n'.encode("cp1252"))
    options = {"separator": "#", "encoding": "cp1252", "quotes": "text"}
    frame = import_corpus("csv", tmp_path, table=path, **options).frame
    assert frame.select("transcript", "arousal").rows() == [('"Grüße"', 3.5)]


def test_a_typed_table_is_stripped_and_mapped_too(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {"Path": [" 1.wav", "2.wav"], "emotion": [4.0, float("nan")], "speaker": [1, 2]}
    pl.DataFrame(columns).write_parquet(path)
    frame = import_corpus("csv", tmp_path, table=path, emotions={"4.0": "sad"}).frame
    assert frame.select("path", "emotion", "speaker").rows() == [
        ("1.wav", "sad", "1"),
        ("2.wav", None, "2"),
    ]


def test_cells_that_mean_unknown_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        ",path,emotion\n0,1.wav,none\n1,2.wav,NA\n2,3.wav,None\n3,4.wav,sad\n4,5.wav,\n"
    )
    manifest = import_corpus("csv", tmp_path, table=path)
    assert manifest.frame["emotion"].to_list() == [None, None, None, "sad", None]
    assert manifest.notes[1:3] == (
        "columns left out: (no name)",
        "no class: 'NA' (1 row), 'None' (1 row), 'none' (1 row)",
    )


def test_a_column_may_be_called_anything(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("*;^.*$;a b;Ärger\n1.wav;sad;0,5;x\n")
    columns = {"path": "*", "emotion": "^.*$", "start": "a b", "speaker": "ärger"}
    frame = import_corpus("csv", tmp_path, table=path, **columns).frame
    assert frame.select("path", "emotion", "start", "speaker").row(0) == ("1.wav", "sad", 0.5, "x")


def test_only_the_first_of_many_columns_are_named(tmp_path: Path) -> None:
    more = [f"c{i}" for i in range(6373)]
    (tmp_path / "t.csv").write_text(f"path,{','.join(more)}\n1.wav{',0' * len(more)}\n")
    notes = import_corpus("csv", tmp_path, table=tmp_path / "t.csv").notes
    assert f"columns left out: {', '.join(more[:20])} and 6353 more" in notes
    (tmp_path / "t.csv").write_text(f"file,{','.join(more)}\n1.wav{',0' * len(more)}\n")
    assert len(refusal(tmp_path, table=tmp_path / "t.csv")) < 500
