import polars as pl
import pytest

from ser.corpus.errors import Note, UserError
from ser.corpus.manifest import Manifest
from ser.corpus.rotations import RotationConfig, rotations, slug


def corpus(speakers, genders=None, **columns):
    count = len(speakers)
    rows = {
        "utterance": [f"u{i}" for i in range(count)],
        "path": [f"u{i}.wav" for i in range(count)],
        "speaker": speakers,
        "gender": genders or [None] * count,
        "emotion": ["angry", "sad"] * (count // 2) + ["sad"] * (count % 2),
        **columns,
    }
    return Manifest(pl.DataFrame(rows, strict=False))


def splits(manifest, **options):
    parts = rotations(manifest, RotationConfig(**options))
    return {part.name: " ".join(s or "-" for s in part.split) for part in parts}


def test_each_speaker_is_tested_once_and_the_next_one_is_dev():
    assert splits(corpus(["a", "a", "b", "c"])) == {
        "speaker-a": "test test dev train",
        "speaker-b": "train train test dev",
        "speaker-c": "dev dev train test",
    }


def test_groups_alternate_women_and_men():
    manifest = corpus(["f1", "f2", "f3", "m1", "m2", "m3"], ["f"] * 3 + ["m"] * 3)
    parts = rotations(manifest, RotationConfig(groups=3))
    assert [part.tested for part in parts] == [("f1", "m1"), ("f2", "m2"), ("f3", "m3")]
    assert [part.name for part in parts] == ["group-1", "group-2", "group-3"]
    assert parts[2].split.to_list() == ["dev", "train", "test", "dev", "train", "test"]


def test_groups_of_speakers_whose_gender_is_unknown():
    parts = rotations(corpus(["b", "d", "a", "c", "e"]), RotationConfig(groups=3))
    assert [part.tested for part in parts] == [("a", "b"), ("c", "d"), ("e",)]


def test_a_fold_is_tested_and_dev_is_a_fifth_of_the_other_speakers():
    speakers = [f"s{i // 2}" for i in range(24)]
    manifest = corpus(speakers, fold=["1", "2"] * 6 + ["2", "1"] * 6)
    with pytest.raises(UserError, match=r"there is no column 'folds'; did you mean 'fold'\?"):
        rotations(manifest, RotationConfig(by="folds"))
    manifest = corpus(speakers, fold=[str(i // 12) for i in range(24)])
    first, second = rotations(manifest, RotationConfig(by="fold"))
    assert (first.name, second.name) == ("fold-0", "fold-1")
    assert first.split[:12].to_list() == ["test"] * 12
    dev = [i for i, split in enumerate(first.split) if split == "dev"]
    assert len(dev) == 2 and speakers[dev[0]] == speakers[dev[1]]  # one speaker of six
    assert first.split.to_list().count("train") == 10


def test_no_dev():
    expected = {"session-x": "test train train", "session-y_z": "train test test"}
    manifest = corpus(["a", "b", "c"], session=["x", "y/z", "y/z"])
    assert splits(manifest, by="session", dev="none") == expected


def test_rows_without_a_value_or_out_of_the_splits_are_left_out():
    manifest = corpus(["a", "b", None, "c", "a"], split=["train", "dev", "train", "test", ""])
    assert splits(manifest)["speaker-a"] == "test dev - train -"
    unsplit = corpus(["a", "b", "c", "d"], split=[""] * 4)
    assert splits(unsplit)["speaker-a"] == "test dev train train"


def test_too_few_parts():
    manifest = corpus(["a", "b"])
    with pytest.raises(UserError) as error:
        rotations(manifest, RotationConfig())
    assert str(error.value) == (
        "manifest: cv.by: speaker has 2 parts; `dev: next` needs 3 or more."
    )
    with pytest.raises(UserError) as error:
        rotations(manifest, RotationConfig(groups=3))
    assert str(error.value) == (
        "manifest: cv.groups is 3, but speaker has only 2 values; use 2 groups or fewer."
    )
    with pytest.raises(UserError) as error:
        rotations(manifest, RotationConfig(by="session"))
    assert str(error.value) == (
        "manifest: the column 'session' is empty; fill it in, or use one of those that have "
        "values: utterance, path, split, speaker, emotion."
    )


def test_a_column_that_divides_a_speaker():
    manifest = corpus(["a", "b", "a", None, None], session=["1", "2", "3", "1", "2"])
    with pytest.raises(UserError) as error:
        rotations(manifest, RotationConfig(by="session"))
    assert str(error.value) == (
        "manifest: cv.by: speaker 'a' has session '1' and '3', so a test speaker would be trained "
        "on; rotate a column with one value a speaker."
    )


def test_published_folds_may_divide_a_speaker():
    manifest = corpus(["a", "b", "a", "c"], fold=["1", "1", "2", "2"])
    with pytest.warns(Note) as notes:
        assert list(splits(manifest, by="fold", dev="none")) == ["fold-1", "fold-2"]
    assert str(notes[0].message) == (
        "manifest: speaker 'a' is in fold '1' and '2', so the scores are not those of unseen "
        "speakers."
    )


def test_values_that_give_one_name_are_numbered():
    manifest = corpus(["a", "b", "c"], session=["x y", "x_y", "z"])
    assert list(splits(manifest, by="session", dev="none")) == [
        "session-x_y-1",
        "session-x_y-2",
        "session-z-3",
    ]


def test_the_name_of_the_folder():
    assert RotationConfig().name == "speaker"
    assert RotationConfig(by="my column", groups=6).name == "my_column-6-groups"


def test_a_folder_is_never_another_one():
    assert [slug(name) for name in ("..", ".a", "a/../b", "a.b")] == ["_.", "_a", "a_.._b", "a.b"]
    assert slug("é" * 100) == "é" * 50
