"""A feature and its views read as one: whose frames a row has, and when it is the clean ones."""

import shutil

import numpy as np
import pytest

from ser.cache.features import FeatureCache
from ser.cache.reader import FeatureInput, load_batch
from ser.corpus.errors import UserError
from ser.heads.training.views import join_views, require_views, view_rows
from tests.heads.factories import make_feature, make_manifest, make_view


def make_corpus(root):
    manifest = make_manifest(30)
    clean = {n: make_feature(root, n, manifest, seed=i) for i, n in enumerate("abc")}
    return manifest, clean


def read(joined, item):
    return joined.frames(item).tolist()


def test_a_row_holds_the_frames_of_its_view(tmp_path):
    manifest, clean = make_corpus(tmp_path)
    train = manifest.utterances("train")
    noise, speed = (make_view(tmp_path, f"a+{v}", manifest, seed=9) for v in ("noise", "speed"))
    joined = join_views(clean, {"a": {"noise": noise, "speed": speed}}, ["noise", "speed"], train)
    for utterance in train:
        assert read(joined["a"], f"noise\0{utterance}") == read(noise, utterance)
        assert read(joined["a"], f"speed\0{utterance}") == read(speed, utterance)
        assert read(joined["b"], f"noise\0{utterance}") == read(clean["b"], utterance)
    for utterance in manifest.utterances():
        assert read(joined["a"], utterance) == read(clean["a"], utterance)
    rows = [*manifest.utterances(), *view_rows(["noise", "speed"], train)]
    assert sorted(joined["a"].snapshot().utterance) == sorted(rows)


def test_a_clip_that_one_feature_lacks_is_read_clean_in_all(tmp_path):
    manifest, clean = make_corpus(tmp_path)
    train = manifest.utterances("train")
    views = {
        "a": {"noise": make_view(tmp_path, "a+noise", manifest, seed=9, skip=("u1",))},
        "b": {"noise": make_view(tmp_path, "b+noise", manifest, seed=9, skip=("u2", "u10"))},
    }
    joined = join_views(clean, views, ["noise"], train)
    for name in "ab":
        view = views[name]["noise"]
        for utterance in train:
            source = clean[name] if utterance in ("u1", "u2", "u10") else view
            assert read(joined[name], f"noise\0{utterance}") == read(source, utterance)


def test_a_batch_mixes_views_and_clean_rows(tmp_path):
    manifest, clean = make_corpus(tmp_path)
    noise = make_view(tmp_path, "a+noise", manifest, seed=9)
    train = manifest.utterances("train")
    joined = join_views(clean, {"a": {"noise": noise}}, ["noise"], train)
    columns = {name: FeatureInput(joined[name]) for name in "ab"}
    batch = load_batch(columns, ["u2", "noise\0u1", "noise\0u2", "u1"], check=True)
    expected = [clean["a"].frames("u2"), noise.frames("u1"), noise.frames("u2")]
    for row, frames in zip(batch.frames["a"], [*expected, clean["a"].frames("u1")], strict=True):
        assert np.array_equal(row[: len(frames)], frames)
        assert not row[len(frames) :].any()
    assert batch.lengths["b"][[0, 1]].tolist() == batch.lengths["b"][[2, 3]].tolist()


def test_shards_of_the_same_name_are_distinguished(tmp_path):
    manifest, clean = make_corpus(tmp_path)
    noise = make_view(tmp_path, "a+noise", manifest, seed=9)
    shard = next(iter(noise.shards()))
    (noise.path / "data.zarr" / shard).rename(
        noise.path / "data.zarr" / next(iter(clean["a"].shards()))
    )
    noise = FeatureCache(noise.path)
    assert noise.shards() == clean["a"].shards()
    joined = join_views(clean, {"a": {"noise": noise}}, ["noise"], manifest.utterances("train"))
    assert read(joined["a"], "u1") == read(clean["a"], "u1") != read(noise, "u1")
    assert read(joined["a"], "noise\0u1") == read(noise, "u1")


def test_ids_may_hold_what_they_like(tmp_path):
    manifest = make_manifest(30)
    ids = {"u0": "a/b c.wav", "u1": "noise+u2", "u2": "Zoë, 2", "u3": "noise"}
    frame = manifest.frame.with_columns(utterance=manifest.frame["utterance"].replace(ids))
    manifest = type(manifest)(frame, manifest.classes)
    clean = make_feature(tmp_path, "a", manifest)
    noise = make_view(tmp_path, "a+noise", manifest, seed=9)
    joined = join_views({"a": clean}, {"a": {"noise": noise}}, ["noise"], list(ids.values()))
    for utterance in ids.values():
        assert read(joined["a"], utterance) == read(clean, utterance)
        assert read(joined["a"], f"noise\0{utterance}") == read(noise, utterance)


def test_a_view_by_other_weights_is_refused(tmp_path):
    def feature(name, weights):
        spec = {"kind": "speech", "weights": weights}
        cache = FeatureCache.create(tmp_path, name, spec, {"item_shape": [2]})
        with cache.writer() as writer:
            writer.append("u0", np.ones((3, 2), np.float32), 1, 2)
        return cache

    clean, same, other = feature("a", "1234"), feature("a+noise", "1234"), feature("a+mix", "5678")
    views = {"a": {"noise": same, "mix": other}}
    require_views("one", {"a": clean}, views, ["noise"])
    with pytest.raises(UserError) as error:
        require_views("one", {"a": clean}, views, ["noise", "mix"])
    assert str(error.value) == (
        f"{other.location}: the weights are not those of {clean.location}, whose view it is; run "
        "`ser extract a`."
    )


def test_what_is_written_later_is_not_seen(tmp_path):
    manifest, clean = make_corpus(tmp_path)
    copy = FeatureCache(shutil.copytree(clean["a"].path, tmp_path / "copy"))
    train = manifest.utterances("train")
    joined = join_views({"a": clean["a"]}, {"a": {"copy": copy}}, ["copy"], train)["a"]
    assert np.array_equal(joined.lengths(view_rows(["copy"], train)), joined.lengths(train))
    with copy.writer() as writer:
        writer.append("u0", np.zeros((40, 6), np.float32), 1, 2)
    assert joined.lengths(["copy\0u0"]).tolist() == clean["a"].lengths(["u0"]).tolist()
