"""A damaged cache is named to the utterance, repaired without losing the rest, and merged."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.cache.features import FeatureCache
from ser.cache.index_file import stored
from ser.cache.transcripts import TranscriptCache
from ser.cache.upkeep import content, every_folder, merge, remove, repair
from ser.corpus.errors import UserError
from tests.cache.factories import SPEC, flip, frames_file, make_cache, make_transcripts, ragged


def expected(data, utterance, precision):
    if precision == "int8":
        scale = np.abs(data[utterance]).max(axis=0) / np.float32(127)
        return np.rint(data[utterance] / scale).astype(np.int8).astype(np.float32) * scale
    return data[utterance].astype(precision)


@settings(deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), which=st.integers(0, 40))
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_any_flipped_bit_of_any_file_is_found_and_repaired(
    tmp_path_factory, precision, place, bit, which
):
    root = tmp_path_factory.mktemp("flip")
    data = ragged(0, 6, dim=3)
    cache = make_cache(root, data, precision=precision)
    (shard,) = cache.shards()
    files = sorted(f for f in (cache.path / "data.zarr" / shard).rglob("*") if f.is_file())
    file = files[which % len(files)]
    flip(file, int(place * file.stat().st_size), bit)
    again = FeatureCache(cache.path)
    damages = again.verify()
    assert [d.shard for d in damages] == [shard]
    gone = repair(again, damages)
    assert gone == sorted(damages[0].utterances)
    repaired = FeatureCache(cache.path)
    assert repaired.verify() == []
    assert sorted([*repaired.index()["utterance"], *gone]) == sorted(data)
    for utterance in repaired.index()["utterance"]:
        np.testing.assert_array_equal(
            repaired.frames(utterance, check=True), expected(data, utterance, precision)
        )
    shutil.rmtree(root)


def test_one_damaged_utterance_costs_one_utterance(tmp_path):
    data = ragged(4, 10)
    cache = make_cache(tmp_path, data)
    before = cache.index()
    flip(frames_file(cache), 3)
    cache = FeatureCache(cache.path)
    (damage,) = cache.verify()
    assert damage.utterances == ["u0"]
    assert damage.reason.endswith(": the frames of 1 utterance are damaged")
    assert repair(cache, [damage]) == ["u0"]
    after = FeatureCache(cache.path).index()
    assert sorted(after["utterance"]) == [f"u{i}" for i in range(1, 10)]
    kept = before.join(after, on=["utterance", "crc32c", "stat", "source", "created"], how="semi")
    assert kept.height == 9


def test_a_truncated_shard_keeps_what_is_before_the_cut(tmp_path):
    data = ragged(4, 10)
    cache = make_cache(tmp_path, data)
    file = frames_file(cache)
    lengths = [len(x) for x in data.values()]
    file.write_bytes(file.read_bytes()[: (sum(lengths[:4]) + 1) * 8 * 2])
    cache = FeatureCache(cache.path)
    (damage,) = cache.verify()
    assert damage.reason.startswith(f"{file}: the shard has ")
    assert damage.utterances == [f"u{i}" for i in range(4, 10)]
    assert repair(cache, [damage]) == damage.utterances
    assert FeatureCache(cache.path).verify() == []


def test_a_missing_frames_file_costs_the_shard_and_is_named(tmp_path):
    cache = make_cache(tmp_path, ragged(4, 3))
    frames_file(cache).unlink()
    cache = FeatureCache(cache.path)
    (damage,) = cache.verify()
    assert "frames/c/0/0: the shard is missing" in damage.reason
    assert repair(cache, [damage]) == ["u0", "u1", "u2"]
    assert FeatureCache(cache.path).index().height == 0


def test_a_shard_that_is_gone_is_named(tmp_path):
    cache = make_cache(tmp_path, ragged(4, 3))
    (shard,) = cache.shards()
    cache.index()
    shutil.rmtree(cache.path / "data.zarr" / shard)
    (damage,) = FeatureCache(cache.path).verify()
    assert (damage.shard, damage.reason) == (shard, "it is listed in index.parquet, but missing")
    assert sorted(damage.utterances) == ["u0", "u1", "u2"]


def test_a_foreign_shard_is_named_and_dropped(tmp_path):
    data = ragged(4, 3)
    cache = make_cache(tmp_path, data)
    foreign = cache.path / "data.zarr" / "theirs"
    foreign.mkdir()
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    (foreign / "zarr.json").write_text(json.dumps(group))
    with pytest.raises(UserError, match=r"theirs/row/zarr\.json: it is missing"):
        FeatureCache(cache.path).index()
    (damage,) = FeatureCache(cache.path).verify()
    assert (damage.shard, damage.utterances) == ("theirs", [])
    repair(FeatureCache(cache.path), [damage])
    assert sorted(FeatureCache(cache.path).index()["utterance"]) == sorted(data)


def test_a_damaged_index_is_rebuilt_by_verify(tmp_path):
    cache = make_cache(tmp_path, ragged(4, 3))
    before = cache.index()
    changed = before.with_columns(crc32c=before["crc32c"] + 1)
    changed.write_parquet(cache.path / "index.parquet")  # as older versions did, unchecked
    assert stored(FeatureCache(cache.path)).equals(changed)
    assert FeatureCache(cache.path).verify() == []
    assert FeatureCache(cache.path).index().equals(before)


def test_what_a_repair_dropped_an_older_shard_may_still_have(tmp_path):
    old = {"a": np.ones((2, 3), np.float32)}
    make_cache(tmp_path, old)
    cache = make_cache(tmp_path, {"a": np.full((4, 3), 7, np.float32)})
    newest = cache.index()["shard"][0]
    flip(cache.path / "data.zarr" / newest / "frames" / "c" / "0" / "0", 0)
    cache = FeatureCache(cache.path)
    assert repair(cache, cache.verify()) == []
    np.testing.assert_array_equal(FeatureCache(cache.path).frames("a", check=True), old["a"])


def test_words_that_were_changed_on_disk_are_found_and_dropped(tmp_path):
    cache = make_transcripts(tmp_path, {"a": "hello", "b": "there"})
    (part,) = (cache.path / "data").glob("*.parquet")
    frame = cache.index()
    changed = frame.with_columns(text=frame["text"].str.replace("hello", "jello"))
    changed.write_parquet(part)
    (cache.path / "index.parquet").unlink()
    cache = TranscriptCache(cache.path)
    (damage,) = cache.verify()
    assert damage.utterances == ["a"]
    assert repair(cache, [damage]) == ["a"]
    assert TranscriptCache(cache.path).verify() == []
    assert TranscriptCache(cache.path).texts(["a", "b"]) == [None, "there"]


def test_merge_brings_what_the_other_has_and_the_newest_counts(tmp_path):
    ours = make_cache(tmp_path / "a", {"x": np.ones((2, 3), np.float32)})
    make_cache(tmp_path / "b", {"x": np.full((4, 3), 7, np.float32), "y": np.zeros((1, 3))})
    make_cache(tmp_path / "b", {"z": np.ones((1, 2), np.float32)}, name="other")
    make_transcripts(tmp_path / "b", {"x": "hello"})
    theirs = FeatureCache.open(tmp_path / "b", "whisper")
    theirs.record({"bad": "not audio", "x": "was once"})
    fingerprint = ours.fingerprint
    copied = merge(tmp_path / "a", tmp_path / "b")
    assert copied[f"whisper/{fingerprint}"] == 1
    assert sorted(name.split("/")[0] for name in copied) == ["asr", "other", "whisper"]
    merged = FeatureCache(ours.path)
    assert merged.frames("x", check=True).shape == (4, 3)
    assert sorted(merged.index()["utterance"]) == ["x", "y"]
    assert merged.failed()["utterance"].to_list() == ["bad"]
    assert all(folder.verify() == [] for folder in every_folder(tmp_path / "a"))
    assert set(merge(tmp_path / "a", tmp_path / "b").values()) == {0}


def test_merge_refuses_what_is_no_cache(tmp_path):
    with pytest.raises(UserError, match="none: there is no feature in it; give the cache to copy"):
        merge(tmp_path / "a", tmp_path / "none")
    assert not (tmp_path / "a").exists()


def test_merge_refuses_a_feature_whose_name_is_a_path(tmp_path):
    theirs = make_cache(tmp_path / "b", ragged(0, 1))
    file = theirs.path / "feature.json"
    metadata = json.loads(file.read_text()) | {"feature": "../../x"}
    del metadata["crc32c"]
    file.write_text(json.dumps(metadata))
    with pytest.raises(UserError, match=r"feature\.json: it is damaged; "):
        merge(tmp_path / "a", tmp_path / "b")


def test_merge_refuses_frames_of_another_shape(tmp_path):
    ours = make_cache(tmp_path / "a", ragged(0, 1, dim=3))
    theirs = make_cache(tmp_path / "b", ragged(0, 1, dim=4))
    with pytest.raises(UserError) as error:
        merge(tmp_path / "a", tmp_path / "b")
    assert str(error.value) == (
        f"{ours.path}: its frames are of shape [3], those of {theirs.path} of [4]; they cannot be "
        "merged."
    )


def test_content_counts_and_remove_deletes(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 5), shard_bytes=100)
    cache.record({"bad": "not audio"})
    held = content(cache)
    assert (held.utterances, held.shards, held.failed) == (5, len(cache.shards()), 1)
    files = [f for f in (cache.path / "data.zarr").rglob("*") if f.is_file()]
    assert held.nbytes == sum(f.stat().st_size for f in files)
    remove(cache)
    assert list(tmp_path.iterdir()) == []
    assert list(every_folder(tmp_path)) == []


def test_a_folder_of_unknown_content_is_named(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 1), spec=SPEC)
    file = cache.path / "feature.json"
    about = json.loads(file.read_text().replace('"frames"', '"pictures"'))
    del about["crc32c"]
    file.write_text(json.dumps(about))
    with pytest.raises(UserError, match="its content is 'pictures', which this version"):
        list(every_folder(tmp_path))
