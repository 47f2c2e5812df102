"""Which frames a clip has in a view, when it is the clean ones, and whose weights a view is of."""

import shutil

import numpy as np
import pytest

from ser.cache.features import FeatureCache
from ser.cache.reader import BatchReader, Clip, FeatureInput, lengths_of
from ser.corpus.errors import UserError
from ser.heads.job import require_views
from tests.heads.factories import make_feature, make_manifest, make_view


def make_corpus(root):
    manifest = make_manifest(30)
    clean = {n: make_feature(root, n, manifest, seed=i) for i, n in enumerate("abc")}
    return manifest, clean


def read(features, clip):
    """Return the frames of a clip in each feature."""
    [batch] = BatchReader(features, check=True).batches([[clip]])
    return {name: frames[0].tolist() for name, frames in batch.frames.items()}


def frames(cache, utterance):
    return cache.frames(utterance).astype("f4").tolist()


def test_a_clip_has_the_frames_of_its_view(tmp_path):
    manifest, clean = make_corpus(tmp_path)
    noise, speed = (make_view(tmp_path, f"a+{v}", manifest, seed=9) for v in ("noise", "speed"))
    features = {
        "a": FeatureInput(clean["a"], views={"noise": noise, "speed": speed}),
        "b": FeatureInput(clean["b"]),
    }
    for utterance in manifest.utterances("train"):
        both = {"b": frames(clean["b"], utterance)}
        assert read(features, Clip(utterance, "noise")) == {"a": frames(noise, utterance)} | both
        assert read(features, Clip(utterance, "speed")) == {"a": frames(speed, utterance)} | both
        assert read(features, utterance) == {"a": frames(clean["a"], utterance)} | both
    for utterance in manifest.utterances("dev"):
        assert read(features, Clip(utterance)) == read(features, utterance)


def test_a_clip_that_one_feature_lacks_is_read_clean_in_all(tmp_path):
    manifest, clean = make_corpus(tmp_path)
    views = {
        "a": make_view(tmp_path, "a+noise", manifest, seed=9, skip=("u1",)),
        "b": make_view(tmp_path, "b+noise", manifest, seed=9, skip=("u2", "u10")),
    }
    features = {name: FeatureInput(clean[name], views={"noise": views[name]}) for name in "ab"}
    for utterance in manifest.utterances("train"):
        source = clean if utterance in ("u1", "u2", "u10") else views
        expected = {name: frames(source[name], utterance) for name in "ab"}
        assert read(features, Clip(utterance, "noise")) == expected


def test_a_batch_mixes_views_and_clean_clips(tmp_path):
    manifest, clean = make_corpus(tmp_path)
    noise = make_view(tmp_path, "a+noise", manifest, seed=9)
    features = {
        "a": FeatureInput(clean["a"], views={"noise": noise}),
        "b": FeatureInput(clean["b"]),
    }
    clips = ["u2", Clip("u1", "noise"), Clip("u2", "noise"), Clip("u1")]
    [batch] = BatchReader(features, check=True).batches([clips])
    expected = [clean["a"].frames("u2"), noise.frames("u1"), noise.frames("u2")]
    for row, stored in zip(batch.frames["a"], [*expected, clean["a"].frames("u1")], strict=True):
        assert np.array_equal(row[: len(stored)], stored)
        assert not row[len(stored) :].any()
    assert batch.utterances == ["u2", "u1", "u2", "u1"]
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
    features = {"a": FeatureInput(clean["a"], views={"noise": noise})}
    assert read(features, "u1")["a"] == frames(clean["a"], "u1") != frames(noise, "u1")
    assert read(features, Clip("u1", "noise"))["a"] == frames(noise, "u1")


def test_ids_may_hold_what_they_like(tmp_path):
    manifest = make_manifest(30)
    ids = {"u0": "a/b c.wav", "u1": "noise+u2", "u2": "Zoë, 2", "u3": "noise"}
    frame = manifest.frame.with_columns(utterance=manifest.frame["utterance"].replace(ids))
    manifest = type(manifest)(frame, manifest.classes)
    clean = make_feature(tmp_path, "a", manifest)
    noise = make_view(tmp_path, "a+noise", manifest, seed=9)
    features = {"a": FeatureInput(clean, views={"noise": noise})}
    for utterance in ids.values():
        assert read(features, utterance)["a"] == frames(clean, utterance)
        assert read(features, Clip(utterance, "noise"))["a"] == frames(noise, utterance)


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
    features = {"a": FeatureInput(clean["a"], views={"copy": copy})}
    train = manifest.utterances("train")
    in_view = lengths_of(features, [Clip(utterance, "copy") for utterance in train])["a"]
    assert np.array_equal(in_view, clean["a"].lengths(train))
    with copy.writer() as writer:
        writer.append("u0", np.zeros((40, 6), np.float32), 1, 2)
    assert lengths_of(features, [Clip("u0", "copy")])["a"] == clean["a"].lengths(["u0"])
