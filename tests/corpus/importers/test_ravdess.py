import os
from pathlib import Path

import polars as pl
import pytest

from ser.corpus.errors import UserError
from ser.corpus.importers.registry import import_corpus

needs_shared = pytest.mark.skipif(not os.environ.get("SER_SHARED"), reason="SER_SHARED is not set")


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_everything_is_read_from_the_name(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "Actor_24/03-01-08-02-02-01-24.wav",
        "Actor_17/03-01-01-01-01-02-17.wav",
        "03-01-06-01-01-01-16.flac",
    )
    manifest = import_corpus("ravdess", tmp_path)
    assert manifest.classes == ("neutral", "fear", "surprise")
    columns = ["path", "split", "speaker", "gender", "emotion", "transcript", "intensity"]
    dogs, kids = "Dogs are sitting by the door.", "Kids are talking by the door."
    rows = [
        ("Actor_17/03-01-01-01-01-02-17.wav", "dev", "17", "male", "neutral", kids, "normal"),
        ("03-01-06-01-01-01-16.flac", "train", "16", "female", "fear", kids, "normal"),
        ("Actor_24/03-01-08-02-02-01-24.wav", "test", "24", "female", "surprise", dogs, "strong"),
    ]
    rows = [(path, split, f"ravdess-{speaker}", *rest) for path, split, speaker, *rest in rows]
    assert manifest.frame.select(columns).rows() == rows
    assert manifest.utterances() == [Path(row[0]).stem for row in rows]


def test_song_video_and_second_copies_are_passed_over(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "a/03-01-03-01-01-01-01.wav",
        "b/03-01-03-01-01-01-01.wav",
        "a/03-02-03-01-01-01-01.wav",
        "a/01-01-03-01-01-01-01.wav",
        "a/03-01-03-01-01-01-01.mp4",
        "a/._03-01-03-01-01-01-01.wav",
    )
    assert import_corpus("ravdess", tmp_path).frame["path"].to_list() == [
        "a/03-01-03-01-01-01-01.wav"
    ]


def test_a_folder_of_something_else_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        import_corpus("ravdess", touch(tmp_path, "speech.wav"))
    assert str(caught.value) == (
        f"{tmp_path}: none of its 1 audio file matches the pattern of ravdess; a path that would "
        "match is 03-01-05-02-01-01-12."
    )


@needs_shared
def test_the_real_corpus_equals_its_table() -> None:
    corpora = Path(os.environ["SER_SHARED"]) / "corpora"
    expected = pl.read_csv(corpora / "ravdess.csv").rename({"file": "path"}).sort("path")
    ours = {"fearful": "fear", "surprised": "surprise"}  # as the other corpora call them
    expected = expected.with_columns(pl.col("emotion").replace(ours))
    manifest = import_corpus("ravdess", corpora / "ravdess")
    assert len(manifest) == 1440
    assert manifest.frame.select(expected.columns).sort("path").equals(expected)
