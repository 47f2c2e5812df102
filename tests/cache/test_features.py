"""The feature cache: what is written is read back, or named as damaged."""

import doctest
import json
import pickle
import shutil
import subprocess
import sys
from contextlib import ExitStack

import numpy as np
import polars as pl
import pytest
import tensorstore
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.cache.features import FeatureCache
from ser.cache.index_file import Snapshot, missing
from ser.corpus.errors import UserError
from tests.cache.factories import SPEC, make_cache, ragged


def test_frames_come_back_as_float16(tmp_path):
    data = ragged(0, 20)
    cache = make_cache(tmp_path, data)
    for utterance, frames in data.items():
        np.testing.assert_array_equal(
            cache.frames(utterance, check=True), frames.astype(np.float16)
        )
    assert cache.lengths(["u3", "u0"]).tolist() == [len(data["u3"]), len(data["u0"])]


def test_frames_are_a_read_only_view(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 2))
    with pytest.raises(ValueError, match="read-only"):
        cache.frames("u0")[0] = 1


def test_small_shards_hold_everything_and_the_index_lists_each_once(tmp_path):
    data = ragged(1, 20)
    cache = make_cache(tmp_path, data, shard_bytes=1)
    assert len(list((cache.path / "data.zarr").glob("*/"))) == 20
    assert sorted(cache.index()["utterance"]) == sorted(data)


def test_layers_are_kept(tmp_path):
    data = {"a": np.arange(24, dtype=np.float32).reshape(2, 3, 4)}
    cache = make_cache(tmp_path, data)
    assert cache.item_shape == (3, 4)
    np.testing.assert_array_equal(cache.frames("a"), data["a"])


def test_what_float16_cannot_hold_is_stored_as_float32_and_reported(tmp_path):
    data = {"small": np.ones((2, 4), np.float32), "large": np.full((3, 4), 1e5, np.float32)}
    cache = FeatureCache.create(tmp_path, "x", SPEC, {"item_shape": [4]})
    with cache.writer() as writer:
        for utterance, frames in data.items():
            writer.append(utterance, frames, 1, 2)
        assert writer.overflowed == ["large"]
    again = FeatureCache(cache.path)
    assert again.frames("small").dtype == np.float16
    np.testing.assert_array_equal(again.frames("large"), data["large"])


def test_nan_is_refused_and_the_rest_is_kept(tmp_path):
    cache = FeatureCache.create(tmp_path, "x", SPEC, {"item_shape": [1]})
    with cache.writer() as writer:
        writer.append("good", np.ones((2, 1), np.float32), 1, 2)
        with pytest.raises(ValueError, match="NaN"):
            writer.append("bad", np.full((2, 1), np.nan, np.float32), 1, 2)
    assert FeatureCache(cache.path).index()["utterance"].to_list() == ["good"]


@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
def test_any_zarr_reader_opens_it(tmp_path, precision):
    data = ragged(2, 30, dim=5)
    cache = make_cache(tmp_path, data, precision=precision)
    group = zarr.open_group(str(cache.path / "data.zarr"), mode="r")
    (name,) = group.group_keys()
    shard = group[name]
    ids = [bytes(row).rstrip(b"\0").decode() for row in shard["utterance"][:]]
    store = tensorstore.open(
        {"driver": "zarr3", "kvstore": f"file://{cache.path}/data.zarr/{name}/frames"}
    ).result()
    for frames in (shard["frames"][:], store.read().result()):
        for i, (row, length) in enumerate(zip(shard["row"][:], shard["length"][:], strict=True)):
            read = frames[row : row + length]
            if precision == "int8":
                read = read * shard["scale"][i]
            np.testing.assert_array_equal(read, cache.frames(ids[i], check=True))
    assert sorted(ids) == sorted(data)


def test_the_store_is_a_read_only_zarr_group(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder().find(
        FeatureCache.group, "group", globs={"FeatureCache": FeatureCache, "np": np}
    )
    assert len(example.examples) == 4
    assert doctest.DocTestRunner().run(example).failed == 0
    cache = FeatureCache.open("cache", "toy")
    with pytest.raises(ValueError, match="read-only"):
        cache.group.create_group("mine")
    empty = FeatureCache.create("cache", "other", {}, {"item_shape": [2]})
    with pytest.raises(UserError, match="nothing has been written yet; run `ser extract --all`"):
        _ = empty.group


def test_the_index_is_rebuilt_from_the_shards(tmp_path):
    cache = make_cache(tmp_path, ragged(3, 12), shard_bytes=200)
    before = cache.index()
    (cache.path / "index.parquet").write_bytes(b"not parquet")
    assert FeatureCache(cache.path).index().equals(before)
    (cache.path / "index.parquet").unlink()
    assert FeatureCache(cache.path).index().equals(before)


def test_an_utterance_written_twice_has_its_newest_frames(tmp_path):
    make_cache(tmp_path, {"a": np.ones((2, 3), np.float32)})
    cache = make_cache(tmp_path, {"a": np.full((4, 3), 7, np.float32)})
    np.testing.assert_array_equal(cache.frames("a"), np.full((4, 3), 7))
    assert cache.index().height == 1


def test_another_spec_is_another_folder_and_open_names_the_difference(tmp_path):
    make_cache(tmp_path, ragged(0, 2), spec=SPEC | {"window": "full"})
    wanted = {"kind": "whisper", "layer": -1, "window": "trim"}
    folder = next((tmp_path / "whisper").iterdir())
    message = (
        f"{folder}: it was extracted with window='full', but pipeline.yaml asks for window='trim'; "
        "run `ser extract whisper`."
    )
    with pytest.raises(UserError) as error:
        FeatureCache.open(tmp_path, "whisper", wanted)
    assert str(error.value) == message
    trimmed = make_cache(tmp_path, ragged(0, 2), spec=SPEC | {"window": "trim"})
    assert FeatureCache.open(tmp_path, "whisper", wanted).path == trimmed.path


def test_find_refuses_to_choose_between_two_weights(tmp_path):
    for digest in ("a", "b"):
        make_cache(tmp_path, ragged(0, 1), spec={"kind": "text", "weights": digest}, name="t")
    with pytest.raises(UserError, match="2 folders fit feature 't'"):
        FeatureCache.open(tmp_path, "t", {"kind": "text"})


def test_a_feature_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError) as error:
        FeatureCache.open(tmp_path, "wavlm", {})
    assert str(error.value) == (
        f"{tmp_path / 'wavlm'}: feature 'wavlm' is not in the cache; run `ser extract wavlm` first."
    )


def test_missing_utterances_are_counted_and_named(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 2))
    with pytest.raises(UserError) as error:
        cache.require(["u0", "x", "y"])
    assert "2 of 3 utterances are not cached (x, y)" in str(error.value)


@pytest.mark.parametrize("position", [0, 7, -1])
def test_a_flipped_bit_is_found(tmp_path, position):
    data = ragged(4, 10)
    cache = make_cache(tmp_path, data)
    (file,) = cache.path.glob("data.zarr/*/frames/c/0/0")
    damaged = bytearray(file.read_bytes())
    used = sum(len(x) for x in data.values()) * 8 * 2
    damaged[range(used)[position]] ^= 1
    file.write_bytes(damaged)
    (damage,) = FeatureCache(cache.path).verify()
    (bad,) = damage.utterances
    with pytest.raises(UserError, match=f"the frames of '{bad}' in feature 'whisper' are damaged"):
        FeatureCache(cache.path).frames(bad, check=True)


def test_a_truncated_or_missing_shard_is_named(tmp_path):
    cache = make_cache(tmp_path, ragged(5, 4))
    (file,) = cache.path.glob("data.zarr/*/frames/c/0/0")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"has \d+ bytes, not \d+"):
        FeatureCache(cache.path).frames("u0")
    file.unlink()
    with pytest.raises(UserError, match="the shard is missing"):
        FeatureCache(cache.path).frames("u0")


def test_a_foreign_shard_index_is_refused(tmp_path):
    cache = make_cache(tmp_path, ragged(5, 4))
    (file,) = cache.path.glob("data.zarr/*/frames/c/0/0")
    damaged = bytearray(file.read_bytes())
    damaged[-12] ^= 255
    file.write_bytes(damaged)
    with pytest.raises(UserError, match="the shard index is damaged or not ours"):
        FeatureCache(cache.path).frames("u0")


def test_what_failed_is_listed_until_it_succeeds(tmp_path):
    cache = make_cache(tmp_path, {"good": np.ones((1, 2), np.float32)})
    cache.record({"bad": "no such file", "worse": "empty file (0 bytes)"})
    cache.record({"bad": "not audio"})
    failed = cache.failed()
    assert failed["utterance"].to_list() == ["bad", "worse"]
    assert failed["error"].to_list() == ["not audio", "empty file (0 bytes)"]
    again = make_cache(tmp_path, {"bad": np.ones((1, 2), np.float32)})
    assert again.failed()["utterance"].to_list() == ["worse"]


def test_stale_rows_are_missing_and_touched_ones_are_not(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 3))  # stat 1, source 2
    stats = {"u0": 1, "u1": 9, "u2": 9, "new": 1}
    contents = {"u1": 2, "u2": 3}
    assert missing(cache.index(), stats, contents.__getitem__) == {"u2", "new"}
    assert missing(None, stats, contents.__getitem__) == set(stats)


def test_leftovers_of_a_dead_writer_are_swept(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 1))
    host = next((cache.path / "data.zarr").glob("*/")).name.rsplit("-", 2)[0]
    dead, alive = cache.staging / f"{host}-999999999-ab", cache.staging / f"{host}-1-cd"
    dead.mkdir()
    alive.mkdir()
    make_cache(tmp_path, ragged(1, 1))
    assert not dead.exists()
    assert alive.exists()


def test_a_folder_of_another_format_is_refused(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 1))
    file = cache.path / "feature.json"
    metadata = json.loads(file.read_text()) | {"format": "ser-features/9"}
    del metadata["crc32c"]
    file.write_text(json.dumps(metadata))
    with pytest.raises(UserError, match="the format is 'ser-features/9', not"):
        FeatureCache(cache.path)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 600), min_size=1, max_size=12),
    dim=st.integers(1, 5),
    shard_bytes=st.sampled_from([1, 2_000, 1 << 20]),
    writers=st.integers(1, 4),
    order=st.randoms(use_true_random=False),
)
def test_any_ragged_arrays_of_any_writers_in_any_order_read_back_equal(
    tmp_path_factory, *, lengths, dim, shard_bytes, writers, order
):
    root = tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(0)
    data = {f"é{i}": rng.standard_normal((n, dim)).astype("f4") for i, n in enumerate(lengths)}
    names = list(data)
    order.shuffle(names)
    cache = FeatureCache.create(root, "x", SPEC, {"item_shape": [dim]})
    with ExitStack() as stack:
        several = [
            stack.enter_context(cache.writer(shard_bytes=shard_bytes)) for _ in range(writers)
        ]
        for utterance in names:
            order.choice(several).append(utterance, data[utterance])
    cache = FeatureCache(cache.path)
    for utterance, frames in data.items():
        np.testing.assert_array_equal(cache.frames(utterance, True), frames.astype(np.float16))
    shutil.rmtree(root)


def test_the_schema_of_the_index_is_fixed(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 1))
    cache.index()
    assert pl.read_parquet(cache.path / "index.parquet").schema == FeatureCache.INDEX


def test_frames_are_read_without_torch(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 3))
    program = f"""
import sys
from pathlib import Path
from ser.cache.features import FeatureCache
from ser.cache.index_file import Snapshot
cache = FeatureCache(Path({str(cache.path)!r}))
assert cache.frames("u1", check=True).shape == {cache.frames("u1").shape}
assert cache.verify() == []
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_more_shards_than_file_descriptors_are_read(tmp_path):
    # in a process of its own: the limit holds for all of a process, and this one has files open
    cache = make_cache(tmp_path, ragged(0, 80), shard_bytes=1)
    program = """
import resource
import sys
from pathlib import Path
from ser.cache.features import FeatureCache
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (60, hard))
cache = FeatureCache(Path(sys.argv[1]))
for i in range(80):
    assert cache.frames(f"u{i}", check=True).size
"""
    subprocess.run([sys.executable, "-c", program, str(cache.path)], check=True)


def test_a_cache_is_read_into_memory_if_it_fits(tmp_path, monkeypatch):
    data = ragged(0, 5)
    cache = make_cache(tmp_path, data, precision="int8", shard_bytes=200)
    before = {u: cache.frames(u).copy() for u in data}
    monkeypatch.setattr("ser.cache.features.available_memory", lambda: 1000)
    assert not cache.load()
    monkeypatch.setattr("ser.cache.features.available_memory", lambda: 1 << 30)
    assert cache.load()
    for file in (cache.path / "data.zarr").glob("*/frames/c/0/0"):
        file.write_bytes(b"")
    for utterance, frames in before.items():
        np.testing.assert_array_equal(cache.frames(utterance, check=True), frames)


def test_ids_whose_hashes_collide_are_distinguished(tmp_path, monkeypatch):
    data = ragged(0, 6)
    rows = make_cache(tmp_path, data).index()
    real = pl.Series.hash

    def colliding(self, seed=0):
        return real(self, seed) * 0 + 1 if seed == 0 else real(self, seed)

    monkeypatch.setattr(pl.Series, "hash", colliding)
    snapshot = Snapshot(rows)
    positions = snapshot.find(["u3", "nobody", "u0"])
    assert positions[1] == -1
    assert snapshot.utterance.gather(positions[[0, 2]]).to_list() == ["u3", "u0"]


def test_an_opened_cache_is_pickled_as_its_place(tmp_path):
    cache = FeatureCache.create(tmp_path, "a", {"kind": "a"}, {"item_shape": [2]})
    with cache.writer("float32") as writer:
        writer.append("u", np.ones((3, 2), np.float32))
    cache.frames("u")  # maps a shard
    copy = pickle.loads(pickle.dumps(cache))
    assert (copy.fingerprint, copy.frames("u").tolist()) == (cache.fingerprint, [[1, 1]] * 3)
    assert repr(copy) == f"FeatureCache('{cache.path}')"
