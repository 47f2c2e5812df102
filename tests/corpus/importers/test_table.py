from pathlib import Path

import polars as pl
import pytest

from corpus.errors import UserError
from corpus.importers.registry import import_corpus


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
        emotions={"H": "happy", "A": "angry"},
        speaker="who",
        split="set",
        start="from",
        end="to",
        arousal="act",
    )
    assert manifest.classes == ("happy", "angry")
    columns = ["utterance", "path", "emotion", "speaker", "split", "start", "end", "arousal"]
    assert manifest.frame.select(columns).rows() == [
        ("007", "sub/007.wav", "angry", "007", "train", 0.5, 1.5, 3.5),
        ("1e5", "sub/1e5.flac", None, None, "dev", None, None, None),
    ]
    assert manifest.frame["votes.angry"].to_list() == [2.0, None]
    assert "note" not in manifest.frame.columns


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


def test_wrong_tables_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert refusal(tmp_path, table=path) == (
        f"{path}: there is no such table; give a .csv, .tsv or .parquet with table=FILE."
    )
    path.write_text("file,emotion,arousal\na.wav,sad,high\n")
    assert refusal(tmp_path, table=path) == (
        f"{path}: there is no column 'path'; say with path=COLUMN which of its columns names the "
        "audio files: file, emotion, arousal."
    )
    assert refusal(tmp_path, table=path, path="file", speaker="who") == (
        f"{path}: there is no column 'who' for speaker; its columns are: file, emotion, arousal."
    )
    assert refusal(tmp_path, table=path, path="file").startswith(
        f"{path}: a column has the wrong type ("
    )
    bad = tmp_path / "t.parquet"
    bad.write_text("not parquet")
    assert refusal(tmp_path, table=bad).startswith(f"{bad}: not readable as a table (")


def test_without_a_table_it_says_how_to_give_one(tmp_path: Path) -> None:
    assert refusal(tmp_path).endswith("give a .csv, .tsv or .parquet with table=FILE.")
