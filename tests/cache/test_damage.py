"""Any damage to a cache is reported to its reader, or changes nothing."""

import errno
import os
import random
import shutil

import numpy as np
import polars as pl
import pytest

from ser.cache.features import FeatureCache
from ser.cache.reader import BatchReader, FeatureInput
from ser.cache.transcripts import TranscriptCache
from ser.cache.upkeep import repair
from ser.corpus import parquet
from ser.corpus.errors import UserError
from tests.cache.factories import flip, frames_file, make_cache, make_transcripts, ragged


def damaged_message(file, utterance, problem="are damaged (their crc32c differs)"):
    return (
        f"{file}: the frames of '{utterance}' in feature 'whisper' {problem}; run `ser cache "
        "verify whisper --repair`, then `ser extract whisper`."
    )


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_checking_read_names_feature_utterance_file_and_remedy(tmp_path, in_memory):
    cache = make_cache(tmp_path, ragged(0, 3))
    flip(frames_file(cache), 0)
    cache = FeatureCache(cache.path)
    if in_memory:
        assert cache.load()
    reader = BatchReader({"x": FeatureInput(cache)}, check=True)
    with pytest.raises(UserError) as error:
        list(reader.batches([["u2"], ["u0", "u1"]]))
    assert str(error.value) == damaged_message(frames_file(cache), "u0")
    with pytest.raises(UserError, match="the frames of 'u0' in feature 'whisper' are damaged"):
        cache.moments(["u1", "u0"])


def test_damage_after_the_first_epoch_is_found_in_the_next(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 3))
    reader = BatchReader({"x": FeatureInput(cache)}, check=True)
    assert len(list(reader.batches([["u0"], ["u1"]]))) == 2
    flip(frames_file(cache), 0)  # the mapped pages change with the file
    with pytest.raises(UserError, match="'u0' in feature 'whisper' are damaged"):
        list(reader.batches([["u0"], ["u1"]]))


def test_a_file_that_shrinks_while_it_is_mapped_is_an_error_and_no_sigbus(tmp_path):
    cache = make_cache(tmp_path, {"u0": np.ones((4_000, 8), np.float32)})
    cache.frames("u0", check=True)
    os.truncate(frames_file(cache), 4_096)
    with pytest.raises(UserError) as error:
        cache.frames("u0", check=True)
    problem = f"cannot be read ({os.strerror(errno.EIO)})"
    assert str(error.value) == damaged_message(frames_file(cache), "u0", problem)


def test_a_flipped_int8_scale_is_found_by_a_checking_read(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 3), precision="int8")
    (file,) = cache.path.glob("data.zarr/*/scale/c/0/0")
    flip(file, 9)
    with pytest.raises(UserError, match="the frames of 'u0' in feature 'whisper' are damaged"):
        FeatureCache(cache.path).frames("u0", check=True)


def test_an_index_whose_bits_flipped_is_not_believed(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 6))
    file, before = cache.path / "index.parquet", cache.index()
    whole = file.read_bytes()
    rng = random.Random(0)
    for _ in range(30):
        flip(file, rng.randrange(len(whole)), rng.randrange(8))
        assert FeatureCache(cache.path).index().equals(before)
        file.write_bytes(whole)


@pytest.mark.parametrize("damage", ["cut", "empty", "folder"])
def test_an_index_that_is_cut_empty_or_a_folder_is_rebuilt(tmp_path, damage):
    cache = make_cache(tmp_path, ragged(0, 6))
    file, before = cache.path / "index.parquet", cache.index()
    content = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    assert FeatureCache(cache.path).index().equals(before)
    assert FeatureCache(cache.path).verify() == []


def test_any_flipped_bit_of_feature_json_is_reported_or_changes_nothing(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 2))
    file, about = cache.path / "feature.json", cache.metadata
    size = file.stat().st_size
    rng = random.Random(0)
    for _ in range(100):
        byte, bit = rng.randrange(size), rng.randrange(8)
        flip(file, byte, bit)
        try:
            read = FeatureCache(cache.path).metadata
        except UserError as error:
            assert str(error).startswith(f"{file}: ")
        else:
            assert {key: read[key] for key in about} == about  # the name of the checksum
        flip(file, byte, bit)


def test_words_that_are_damaged_are_not_taken_into_a_new_index(tmp_path):
    cache = make_transcripts(tmp_path, {"a": "hello", "b": "there"})
    (part,) = (cache.path / "data").glob("*.parquet")
    for byte in range(0, part.stat().st_size, 7):
        flip(part, byte, byte % 8)
        (cache.path / "index.parquet").unlink(missing_ok=True)
        try:
            texts = TranscriptCache(cache.path).texts(["a", "b"])
        except UserError as error:
            assert str(part) in str(error)
        else:
            assert texts == ["hello", "there"]  # the name of the checksum
        flip(part, byte, byte % 8)


def test_words_of_a_file_whose_checksum_differs_are_kept_where_theirs_are_right(tmp_path):
    cache = make_transcripts(tmp_path, {"a": "hello", "b": "there"})
    (part,) = (cache.path / "data").glob("*.parquet")
    data = part.read_bytes()
    at = data.rfind(parquet.KEY.encode()) + len(parquet.KEY) + parquet.GAP
    flip(part, at, 0)
    cache = TranscriptCache(cache.path)
    (damage,) = cache.verify()
    assert (damage.reason, damage.utterances) == (
        f"{part}: it is damaged (its checksum differs)",
        [],
    )
    assert repair(cache, [damage]) == []
    assert TranscriptCache(cache.path).verify() == []
    assert TranscriptCache(cache.path).texts(["a", "b"]) == ["hello", "there"]


def test_a_damaged_list_of_failures_is_reported_and_replaced(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 2))
    cache.record({"bad": "not audio"})
    file = cache.path / "failed.parquet"
    flip(file, file.stat().st_size // 2)
    again = FeatureCache(cache.path)
    with pytest.raises(UserError) as error:
        again.failed()
    assert str(error.value) == (
        f"{file}: it is damaged (its checksum differs); delete it and run `ser extract whisper`, "
        "which writes it again."
    )
    (damage,) = again.verify()
    assert (damage.shard, damage.utterances) == ("", [])
    again.record({"worse": "empty file (0 bytes)"})
    assert again.failed()["utterance"].to_list() == ["worse"]
    flip(file, file.stat().st_size // 2)
    repair(again, again.verify())
    assert again.verify() == []
    assert not file.exists()


def test_a_damaged_zarr_group_is_found_and_written_again(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 2))
    group = cache.path / "data.zarr" / "zarr.json"
    whole = group.read_bytes()
    flip(group, 5)
    (damage,) = FeatureCache(cache.path).verify()
    assert damage.reason == f"{group}: it is damaged"
    assert repair(cache, [damage]) == []
    assert group.read_bytes() == whole


def test_frames_of_another_shape_than_stated_are_reported(tmp_path):
    cache = make_cache(tmp_path / "a", ragged(0, 2, dim=8))
    other = make_cache(tmp_path / "b", {"u9": np.ones((2, 4), np.float32)})
    (shard,) = (other.path / "data.zarr").glob("*-*")
    shutil.copytree(shard, cache.path / "data.zarr" / shard.name)
    with pytest.raises(UserError, match=r"its frames are of shape \[4\], not \[8\] as feature"):
        FeatureCache(cache.path).frames("u9")


def test_what_may_not_be_read_is_not_taken_for_damage(tmp_path, monkeypatch):
    cache = make_cache(tmp_path, ragged(0, 2))
    real = type(cache.path).read_bytes

    def denied(path):
        if path.name == "0" and path.parent.parent.name == "crc32c":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(type(cache.path), "read_bytes", denied)
    with pytest.raises(UserError, match=r"not readable \(Permission denied\); correct its permi"):
        FeatureCache(cache.path).verify()


def test_a_cache_of_before_opens_without_checksums(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 4))
    cache.record({"bad": "not audio"})
    before = cache.index()
    for name in ("index.parquet", "failed.parquet"):
        pl.read_parquet(cache.path / name).write_parquet(cache.path / name)
        assert parquet.check((cache.path / name).read_bytes()) == "unknown"
    file = cache.path / "feature.json"
    lines = [line for line in file.read_text().splitlines() if "crc32c" not in line]
    file.write_text("\n".join(lines).replace(",\n}", "\n}"))
    again = FeatureCache(cache.path)
    assert again.index().equals(before)
    assert again.failed()["utterance"].to_list() == ["bad"]
    assert again.verify() == []
    assert parquet.check((cache.path / "index.parquet").read_bytes()) == "sound"
