"""The logits file: one head, every split, readable without torch."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from cache.logits import HeadLogits, SplitLogits
from corpus.errors import UserError


def make_logits(split_rows=3, rows="in-sample"):
    return SplitLogits(
        utterance=[f"é{i}" for i in range(split_rows)],
        logits=np.arange(split_rows * 2, dtype=np.float32).reshape(-1, 2),
        label=np.array([0, 1, -1], np.int8)[:split_rows],
        speaker=["s1", "", "s2"][:split_rows],
        fold=np.full(split_rows, -1, np.int8),
        rows=rows,
    )


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


def test_texts_are_padded_and_an_older_file_with_texts_of_any_length_is_read_too(tmp_path):
    import h5py

    path = tmp_path / "logits.h5"
    HeadLogits("h", ("sad", "happy"), "f", {}, {"dev": make_logits(0), "": make_logits()}).write(
        path
    )
    assert HeadLogits.read(path).splits["dev"].utterance == []
    with h5py.File(path, "r+") as file:
        for name in ("utterance", "speaker"):
            assert h5py.check_string_dtype(file["unlabelled"][name].dtype).length is not None
            texts = file["unlabelled"][name].asstr()[:]
            del file["unlabelled"][name]
            file["unlabelled"].create_dataset(name, data=texts, dtype=h5py.string_dtype())
    read = HeadLogits.read(path).splits[""]
    assert (read.utterance, read.speaker) == (["é0", "é1", "é2"], ["s1", "", "s2"])
    assert HeadLogits.read_header(path).splits[""].utterance == []


def test_an_absent_a_broken_and_a_foreign_file_are_one_sentence_each(tmp_path):
    import h5py

    path = tmp_path / "logits.h5"
    with pytest.raises(UserError) as error:
        HeadLogits.read(path)
    assert str(error.value) == (
        f"{path}: there are no logits; train the head with `ser heads train`."
    )
    path.write_text("hello")
    with pytest.raises(UserError, match="not an HDF5 file"):
        HeadLogits.read(path)
    path.unlink()
    h5py.File(path, "w").close()
    with pytest.raises(UserError, match="the format is None, not 'ser-logits/1'"):
        HeadLogits.read(path)


def test_the_cache_imports_no_torch():
    code = "import cache.logits, cache.reader, sys; assert 'torch' not in sys.modules"
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
