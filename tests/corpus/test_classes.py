import polars as pl
import pytest
from pydantic import ValidationError

from ser.corpus.classes import map_emotions, read_with_classes
from ser.corpus.config import CorpusConfig
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest

EMOTIONS = ["happy", "excited", "bored", None, "sad"]


def manifest(**columns: object) -> Manifest:
    ids = [f"u{i}" for i in range(5)]
    rows = {"utterance": ids, "path": ids, "emotion": EMOTIONS, **columns}
    return Manifest(pl.DataFrame(rows), source="m.csv")


def config(folder, **section: object) -> CorpusConfig:
    manifest().write(folder / "m.parquet")
    return CorpusConfig(manifest=folder / "m.parquet", classes=("happy", "sad"), **section)


def test_emotions_that_are_not_a_class_are_dropped_kept_unlabelled_or_an_error(tmp_path) -> None:
    mapping = {"excited": "happy"}
    dropped = read_with_classes(config(tmp_path, map=mapping, others="drop"))
    assert dropped.classes == ("happy", "sad")
    assert dropped.frame.select("utterance", "emotion").rows() == [
        *(("u0", "happy"), ("u1", "happy"), ("u3", None), ("u4", "sad"))
    ]
    assert dropped.notes == ("left out, as no class is called so: 'bored' (1 row)",)
    kept = read_with_classes(config(tmp_path, map=mapping, others="keep-unlabelled"))
    assert kept.frame["emotion"].to_list() == ["happy", "happy", None, None, "sad"]
    assert kept.notes == ("kept without a class, as no class is called so: 'bored' (1 row)",)
    with pytest.raises(UserError) as caught:
        read_with_classes(config(tmp_path, map=mapping))
    assert str(caught.value) == (
        f"{tmp_path}/m.parquet: no class is called 'bored' (1 row); map such emotions to a class, "
        "or give others as drop or keep-unlabelled."
    )
    with pytest.raises(UserError, match="emotion 'excited' is not one of the classes"):
        read_with_classes(config(tmp_path))


def test_rows_that_were_mapped_can_be_read_again_and_a_misspelt_emotion_is_named(tmp_path) -> None:
    once = config(tmp_path, map={"excited": "happy"}, others="drop")
    read = read_with_classes(once)
    read.write(once.manifest)
    assert read_with_classes(once).frame.equals(read.frame)
    with pytest.raises(UserError) as caught:
        read_with_classes(config(tmp_path, map={"exited": "happy"}, others="drop"))
    assert str(caught.value) == (
        f"{tmp_path}/m.parquet: no utterance has the emotion 'exited' that is mapped to 'happy'; "
        "did you mean 'excited'?"
    )


def test_emotions_are_swapped_at_once_and_votes_follow() -> None:
    votes = {"votes.happy": [3, 0, 1, None, 0], "votes.excited": [1, 4, None, None, 0]}
    swapped = map_emotions(
        manifest(**votes, **{"votes.sad": [0, 1, 0, 0, 5]}), {"happy": "sad", "sad": "happy"}
    ).frame
    assert swapped["emotion"].to_list() == ["sad", "excited", "bored", None, "happy"]
    assert swapped["votes.happy"].to_list() == [0, 1, 0, 0, 5]
    assert swapped["votes.sad"].to_list() == [3, 0, 1, None, 0]
    merged = map_emotions(manifest(**votes), {"excited": "happy"}).frame
    assert merged["votes.happy"].to_list() == [4, 4, 1, None, 0]
    assert "votes.excited" not in merged.columns


def test_without_a_mapping_the_manifest_is_what_it_was(tmp_path) -> None:
    section = config(tmp_path)
    plain = section.model_copy(update={"classes": ("bored", "excited", "happy", "sad")})
    assert read_with_classes(plain).frame.equals(Manifest.read(section.manifest).frame)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"map": {"joy": "hapy"}},
            "map: 'joy' becomes 'hapy', which is not a class; did you mean 'happy'?",
        ),
        ({"map": {"none": "sad"}}, "'none' is spelt like an empty cell"),
        ({"others": "skip"}, "Input should be 'error', 'drop' or 'keep-unlabelled'"),
    ],
)
def test_a_mistake_in_the_section_is_found_before_the_manifest_is_read(section, message) -> None:
    with pytest.raises(ValidationError) as caught:
        CorpusConfig(manifest="m.csv", classes=("happy", "sad"), **section)
    assert message in str(caught.value)
