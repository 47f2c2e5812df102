"""The logits file: one head, every split, readable without torch."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.cache.logits import HeadLogits
from ser.corpus.errors import DamagedError, Note, UserError
from tests.cache.factories import make_logits


def test_it_comes_back_as_written(tmp_path):
    path = tmp_path / "heads" / "h" / "logits.h5"
    splits = {"train": make_logits(), "": make_logits(2, "held-out")}
    HeadLogits("h", ("sad", "happy"), "f" * 16, {"whisper": "0" * 16}, splits).write(path)
    read = HeadLogits.read(path)
    assert (read.head, read.classes, read.fingerprint) == ("h", ("sad", "happy"), "f" * 16)
    assert read.features == {"whisper": "0" * 16}
    assert set(read.splits) == {"train", ""}
    for name, rows in splits.items():
        again = read.splits[name]
        assert again.utterance == rows.utterance
        assert again.speaker == rows.speaker
        assert again.rows == rows.rows
        np.testing.assert_array_equal(again.logits, rows.logits)
        np.testing.assert_array_equal(again.label, rows.label)
        np.testing.assert_array_equal(again.fold, rows.fold)


def test_the_texts_that_several_heads_have_are_in_memory_once(tmp_path):
    rows = []
    for name in "ab":
        head = HeadLogits(name, ("sad", "happy"), "f", {}, {"dev": make_logits()})
        head.write(tmp_path / name)
        rows.append(HeadLogits.read(tmp_path / name).splits["dev"])
    for first, second in zip(*((r.utterance, r.speaker) for r in rows), strict=True):
        assert first is not second  # lists of their own
        assert all(a is b for a, b in zip(first, second, strict=True))


def test_groups_and_the_synthetic_share_come_back_and_older_files_have_none(tmp_path):
    rows = replace(make_logits(), groups=[["Female", "é"], ["", "b"], ["Male", ""]])
    path = tmp_path / "logits.h5"
    head = HeadLogits("h", ("sad", "happy"), "f", {}, {"dev": rows}, (), ("gender", "accent"), 0.25)
    head.write(path)
    read = HeadLogits.read(path)
    assert (read.groups, read.synthetic) == (("gender", "accent"), 0.25)
    assert read.splits["dev"].groups == rows.groups
    HeadLogits("h", ("sad", "happy"), "f", {}, {"dev": make_logits()}).write(path)
    read = HeadLogits.read(path)
    assert (read.groups, read.synthetic, read.splits["dev"].groups) == ((), None, None)


def test_texts_are_padded_and_an_older_file_with_texts_of_any_length_is_read_too(tmp_path):
    import h5py

    path = tmp_path / "heads" / "h" / "logits.h5"  # the note comes once for each run: tmp_path
    path.parent.mkdir(parents=True)
    HeadLogits("h", ("sad", "happy"), "f", {}, {"dev": make_logits(0), "": make_logits()}).write(
        path
    )
    assert HeadLogits.read(path).splits["dev"].utterance == []
    path.write_bytes(path.read_bytes()[512:])  # older files have no checksum before HDF5's part
    with h5py.File(path, "r+") as file:
        for name in ("utterance", "speaker"):
            assert h5py.check_string_dtype(file["unlabelled"][name].dtype).length is not None
            texts = file["unlabelled"][name].asstr()[:]
            del file["unlabelled"][name]
            file["unlabelled"].create_dataset(name, data=texts, dtype=h5py.string_dtype())
    with pytest.warns(Note, match="older version of ser"):
        read = HeadLogits.read(path).splits[""]
    assert (read.utterance, read.speaker) == (["é0", "é1", "é2"], ["s1", "", "s2"])
    assert HeadLogits.read_header(path).splits[""].utterance == []


def test_an_absent_a_broken_and_a_foreign_file_are_one_sentence_each(tmp_path):
    import h5py

    path = tmp_path / "logits.h5"
    with pytest.raises(UserError) as error:
        HeadLogits.read(path)
    assert str(error.value) == (
        f"{path}: there are no logits; train it with `ser heads train-all`."
    )
    path.write_text("hello")
    with pytest.raises(UserError, match="its checksum is not that of its content"):
        HeadLogits.read(path)
    path.unlink()
    h5py.File(path, "w").close()
    with pytest.raises(UserError, match="the format is None, not 'ser-logits/1'"):
        HeadLogits.read(path)


@given(st.data())
@settings(deadline=None)
def test_any_change_of_any_byte_is_reported_before_hdf5_reads_it(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "changed" / "logits.h5"
    HeadLogits("h", ("sad", "happy"), "f", {}, {"train": make_logits()}).write(path)
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        whole = whole[:place]
    path.write_bytes(whole)
    for read in (HeadLogits.read, HeadLogits.read_header):
        with pytest.raises(DamagedError, match=re.escape(f"{path}: it is damaged")):
            read(path)


def test_the_cache_imports_no_torch():
    code = "import ser.cache.logits, ser.cache.reader, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_only_some_heads_have_comes_back_too(tmp_path):
    path, some = tmp_path / "logits.h5", np.array([[1.0, np.nan]], np.float32)
    rows = replace(make_logits(1, "out-of-fold"), in_sample=some, predicted=some, truth=some)
    attributes = ("arousal", "valence")
    HeadLogits("h", ("a", "b"), "f", {}, {"train": rows, "dev": make_logits()}, attributes).write(
        path
    )
    read = HeadLogits.read(path)
    assert read.attributes == attributes
    for name in ("in_sample", "predicted", "truth"):
        np.testing.assert_array_equal(getattr(read.splits["train"], name), some)
        assert getattr(read.splits["dev"], name) is None


def test_columns_that_contradict_each_other_are_damage(tmp_path):
    path, rows = tmp_path / "logits.h5", make_logits()
    grouped = replace(rows, groups=[["a"], ["b"]])
    for problem, classes, changed, groups in (
        ("a label of dev is 2, but there are 2", "ab", {"label": np.array([0, 2, -1])}, ()),
        ("a label of dev is -2, but there are 2", "ab", {"label": np.array([0, -2, -1])}, ()),
        ("dev has 3 utterances, but 2 rows of label", "ab", {"label": rows.label[:2]}, ()),
        ("dev has 3 utterances, but 2 rows of speaker", "ab", {"speaker": ["", "s"]}, ()),
        ("dev has 3 utterances, but 2 rows of truth", "ab", {"truth": np.ones((2, 1))}, ()),
        ("dev has 3 utterances, but 2 rows of groups", "ab", {"groups": grouped.groups}, ("g",)),
        ("dev has no groups, although the file names g", "ab", {}, ("g",)),
        ("the classes are not unique (a, a)", "aa", {}, ()),
    ):
        splits = {"dev": replace(rows, **changed)}
        HeadLogits("h", tuple(classes), "f", {}, splits, (), groups).write(path)
        with pytest.raises(DamagedError) as error:
            HeadLogits.read(path)
        assert str(error.value).startswith(f"{path}: {problem}")
        remedy = f"train the head again with `ser heads train {tmp_path.name} --force`"
        assert str(error.value).endswith(f"; {remedy}.")
