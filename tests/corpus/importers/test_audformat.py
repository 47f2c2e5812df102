from pathlib import Path
from typing import Any

import pytest

from ser.corpus.errors import UserError
from ser.corpus.importers.registry import import_corpus

audformat: Any = pytest.importorskip("audformat")
CODE = '!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["{}"]]'


def database(folder: Path) -> Path:
    """Save two tables of emotions, one of them with segments, and one of speakers."""
    db = audformat.Database("mydb", languages=["deu"])
    db.schemes["emotion"] = audformat.Scheme(labels=["joy", "anger"])
    people = {"a": {"gender": "female"}, "b": {"gender": "male", "language": "ita"}}
    db.schemes["speaker"] = audformat.Scheme(labels=people)
    for split in ("train", "test"):
        db.splits[split] = audformat.Split(split)
    index = audformat.filewise_index(["wav/0.wav", "wav/1.wav"])
    db["emotion.train"] = audformat.Table(index, split_id="train")
    index = audformat.segmented_index(["wav/3.wav"] * 2, ["0s", "0.5s"], ["0.5s", None])
    db["emotion.test"] = audformat.Table(index, split_id="test")
    for name, labels in (("emotion.train", ["anger", None]), ("emotion.test", ["joy", "joy"])):
        db[name]["emotion"] = audformat.Column(scheme_id="emotion")
        db[name]["emotion"].set(labels)
    db["files"] = audformat.Table(audformat.filewise_index([f"wav/{i}.wav" for i in (0, 1, 3)]))
    db["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    db["files"]["speaker"].set(["a", "a", "b"])
    db["files"]["text"] = audformat.Column()
    db["files"]["text"].set(["Ja.", None, "Si."])
    db.save(str(folder), storage_format="csv")
    return folder


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        import_corpus("audformat", folder, **options)
    return str(caught.value).replace(f"{folder}", "DB")


def test_tables_are_joined_by_file_and_segment(tmp_path: Path) -> None:
    manifest = import_corpus("audformat", database(tmp_path), transcript="text")
    assert manifest.classes == ("joy", "anger")
    columns = ["utterance", "path", "start", "end", "split", "speaker", "gender", "emotion"]
    assert sorted(manifest.frame.select(columns).rows()) == [
        ("0", "wav/0.wav", None, None, "train", "a", "female", "anger"),
        ("1", "wav/1.wav", None, None, "train", "a", "female", None),
        ("3-00000.000", "wav/3.wav", None, 0.5, "test", "b", "male", "joy"),
        ("3-00000.500", "wav/3.wav", 0.5, None, "test", "b", "male", "joy"),
    ]
    frame = manifest.frame.sort("utterance")
    assert frame["language"].to_list() == ["de", "de", "it", "it"]
    assert frame["transcript"].to_list() == ["Ja.", None, "Si.", "Si."]
    assert frame["corpus"].unique().to_list() == ["mydb"]


def test_emotions_map_labels(tmp_path: Path) -> None:
    manifest = import_corpus("audformat", database(tmp_path), emotions={"anger": "angry"})
    assert manifest.classes == ("angry",)
    assert manifest.frame["emotion"].null_count() == 3


def test_what_would_run_code_is_refused(tmp_path: Path) -> None:
    header = database(tmp_path) / "db.yaml"
    mark, text = tmp_path / "ran", header.read_text()
    header.write_text(f"{text}author: {CODE.format(mark)}\n")
    assert refusal(tmp_path).startswith("DB/db.yaml: not a database of audformat (could not")
    assert not mark.exists()
    header.write_text(text.replace("  files:", "  /../x:"))
    assert "'/../x' is no name of a table" in refusal(tmp_path)
    header.write_text(text)
    (tmp_path / "db.files.pkl").touch()
    assert refusal(tmp_path) == (
        "DB: loading db.files.pkl would run code of its author; delete the .pkl files, or "
        "save the tables as csv or parquet."
    )


def test_a_column_that_is_named_has_to_exist(tmp_path: Path) -> None:
    database(tmp_path)
    assert refusal(tmp_path, speaker="speakr") == (
        "DB: no table has the column 'speakr'; name it with "
        "`--option speaker=COLUMN`; did you mean 'speaker'?"
    )
    assert refusal(tmp_path, emotions={"angry": "x"}).startswith(
        "DB: no utterance has the emotion 'angry' that is mapped to 'x'"
    )


def test_mistakes_are_reported_in_one_sentence(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        "DB/db.yaml: there is no such file; give the folder of the database."
    )
    database(tmp_path)
    assert refusal(tmp_path, emotion="emotions") == (
        "DB: no table has the column 'emotions'; name it with "
        "`--option emotion=COLUMN`; did you mean "
        "'emotion'?"
    )
    table = tmp_path / "db.emotion.train.csv"
    table.write_text(table.read_text().replace("wav/0.wav", "../0.wav"))
    assert refusal(tmp_path) == (
        "DB: the file '../0.wav' is outside the folder; make the database portable, with paths "
        "below it."
    )
    table.unlink()
    assert refusal(tmp_path).startswith(
        "DB: the table 'emotion.train' is not readable (No file found for table"
    )
