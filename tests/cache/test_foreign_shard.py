"""Shards that another Zarr program has written again: read, checked and repaired all the same."""

import warnings

import numpy as np
import pytest
import zarr
from zarr.codecs import ZstdCodec

from ser.cache.exchange import export_hdf5, import_features
from ser.cache.features import FeatureCache
from ser.cache.reader import BatchReader, FeatureInput
from ser.cache.shard import ShardFrames
from ser.cache.swap import replace_folder
from ser.cache.upkeep import repair
from ser.corpus.errors import Note, UserError
from tests.cache.factories import make_cache, ragged

LAYOUTS = {
    "compressed": {"frames": {"chunks": (64, 8), "compressors": [ZstdCodec(level=1)]}},
    "sharded": {"frames": {"chunks": (10, 4), "shards": (50, 8), "compressors": None}},
    "whole": {"*": {"chunks": "auto"}, "frames": {"chunks": (30, 8)}},
    "v2": {"*": {"zarr_format": 2}, "frames": {"chunks": (30, 8)}},
}


def write_again(cache, layout):
    """Write every shard as another program would, its frames or all arrays in other chunks."""
    options = LAYOUTS[layout]
    version = options.get("*", {}).get("zarr_format", 3)
    for shard in sorted((cache.path / "data.zarr").glob("*-*")):
        old = zarr.open_group(shard, mode="r")
        if "*" not in options:  # the other arrays stay
            replaced = zarr.open_group(shard, mode="a")
        else:
            replaced = zarr.open_group(shard.with_name(".new"), mode="w", zarr_format=version)
            replaced.attrs.update(dict(old.attrs))
        arrays = {name: array[:] for name, array in old.arrays()}
        for name, values in arrays.items():
            if "*" in options or name == "frames":
                if name in replaced:
                    del replaced[name]
                own = options.get("frames", {}) if name == "frames" else {}
                config = {"write_empty_chunks": True}
                replaced.create_array(name, data=values, config=config, **own)
        if "*" in options:
            replace_folder(shard.with_name(".new"), shard)
    (cache.path / "index.parquet").unlink()
    return FeatureCache(cache.path)


@pytest.fixture(autouse=True)
def no_notes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        yield


@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_the_same_cache(tmp_path, layout, precision):
    data = ragged(0, 9)
    cache = make_cache(tmp_path, data, precision=precision, shard_bytes=1_500)
    frames = {u: cache.frames(u).copy() for u in data}
    index = cache.index()
    again = write_again(cache, layout)
    assert again.index().equals(index)
    for utterance in data:
        read = again.frames(utterance, check=True)
        assert read.dtype == frames[utterance].dtype
        np.testing.assert_array_equal(read, frames[utterance])
    assert again.verify() == []
    assert not again.load() or again.frames("u0").shape == frames["u0"].shape


def test_batches_and_exports_are_those_of_before(tmp_path):
    data = ragged(0, 9)
    cache = make_cache(tmp_path / "here", data, precision="int8")
    plan = [["u0", "u5", "u3"], ["u8", "u1"]]

    def batches(cache):
        reader = BatchReader({"x": FeatureInput(cache, stride=2)}, check=True)
        return [batch.frames["x"].clone() for batch in reader.batches(plan)]

    before = batches(cache)
    again = write_again(cache, "compressed")
    assert all((x == y).all() for x, y in zip(before, batches(again), strict=True))
    assert export_hdf5(again, tmp_path / "x.h5").count == 9
    report = import_features(tmp_path / "x.h5", tmp_path / "there", "whisper")
    copy = FeatureCache.open(tmp_path / "there", "whisper")
    assert report.count == 9
    assert isinstance(copy.shard(next(iter(copy.shards()))), ShardFrames)  # fast again
    (shard,) = (cache.path / "data.zarr").glob("*-*")
    with pytest.raises(UserError) as error:
        export_hdf5(again, tmp_path / "view.h5", view=True)
    assert str(error.value) == (
        f"{shard}: another program has written it in other chunks; export without --view."
    )


def test_a_lost_chunk_is_named_and_repaired_without_the_others(tmp_path):
    data = {f"u{i}": np.full((64, 8), i + 1, np.float32) for i in range(3)}
    cache = write_again(make_cache(tmp_path, data), "compressed")
    (chunk,) = cache.path.glob("data.zarr/*/frames/c/1/0")
    chunk.unlink()
    cache = FeatureCache(cache.path)
    with pytest.raises(UserError) as error:
        cache.frames("u1")
    assert str(error.value) == (
        f"{chunk.parents[2]}: the frames of 'u1' in feature 'whisper' cannot be read (a chunk is "
        "not stored, which Zarr would read as the fill value (chunks of zeros are stored by "
        "write_empty_chunks)); run `ser cache verify whisper --repair`, then `ser extract whisper`."
    )
    damages = cache.verify()
    assert [d.utterances for d in damages] == [["u1"]]
    assert repair(cache, damages) == ["u1"]
    repaired = FeatureCache(cache.path)
    assert sorted(repaired.index()["utterance"]) == ["u0", "u2"]
    np.testing.assert_array_equal(repaired.frames("u2", check=True), data["u2"])
    assert isinstance(repaired.shard(next(iter(repaired.shards()))), ShardFrames)


def test_other_numbers_are_found_by_their_checksum(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 3))
    write_again(cache, "sharded")
    (frames,) = cache.path.glob("data.zarr/*/frames")
    array = zarr.open_array(frames)
    array[0, 0] = 77
    with pytest.raises(UserError, match="the frames of 'u0' in feature 'whisper' are damaged"):
        FeatureCache(cache.path).frames("u0", check=True)
    assert [d.utterances for d in FeatureCache(cache.path).verify()] == [["u0"]]


@pytest.mark.parametrize("layout", ["compressed", "whole"])
def test_a_remote_one_is_fetched_whole(tmp_path, monkeypatch, layout):
    data = ragged(0, 9)
    cache = make_cache(tmp_path / "far", data, precision="int8")
    frames = {u: cache.frames(u).copy() for u in data}
    write_again(cache, layout)
    monkeypatch.setenv("SER_MIRROR", str(tmp_path / "mirror"))
    remote = FeatureCache.open(f"file://{tmp_path}/far", "whisper")
    for utterance in data:
        np.testing.assert_array_equal(remote.frames(utterance, check=True), frames[utterance])
    assert remote.verify() == []


def test_the_user_is_warned_once_that_it_is_slow(tmp_path):
    cache = write_again(make_cache(tmp_path, ragged(0, 9), shard_bytes=500), "compressed")
    assert len(cache.shards()) > 1
    with pytest.warns(Note, match="through zarr-python, which is slower") as notes:
        for utterance in cache.index()["utterance"]:
            cache.frames(utterance)
    assert len(notes) == 1
