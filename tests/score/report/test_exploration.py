"""What a corpus is like: counts, durations, and the map of embeddings that are known."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import silhouette_score

from ser.cache.features import FeatureCache
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.score.report import exploration
from ser.score.report.exploration import explore, map_embeddings


def manifest(**columns):
    """Make twelve utterances of two classes and three speakers."""
    rows = {
        "utterance": [f"u{i}" for i in range(12)],
        "path": "x.wav",
        "split": ["train"] * 8 + ["test"] * 4,
        "speaker": [f"s{i % 3}" for i in range(12)],
        "emotion": ["angry", "sad"] * 6,
    }
    return Manifest(pl.DataFrame(rows | columns))


def cache_of(folder, means, frames=4, **metadata):
    """Cache utterances whose frames have these means, `(utterances, dim)`."""
    shape = {"item_shape": list(means.shape[1:]), "frame_rate": 10.0} | metadata
    cache = FeatureCache.create(folder, "toy", {}, shape)
    noise = np.linspace(-1, 1, frames)[:, None]  # sums to 0
    with cache.writer("float32") as writer:
        for i, mean in enumerate(means):
            writer.append(f"u{i}", (mean + noise).astype(np.float32))
    return cache


def by_class(distance, rows=12):
    """Return means that are apart by class and not by speaker."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 3)) + distance * (np.arange(rows) % 2)[:, None]


def test_the_map_pools_over_time_and_measures_all_dimensions(tmp_path):
    means = by_class(5.0)
    found = map_embeddings(manifest().frame, cache_of(tmp_path, means))
    values = (means - means.mean(axis=0)) / means.std(axis=0)
    labels = np.arange(12)
    assert found.silhouette == {
        "emotion": pytest.approx(silhouette_score(values, labels % 2), abs=1e-5),
        "speaker": pytest.approx(silhouette_score(values, labels % 3), abs=1e-5),
    }
    assert found.silhouette["emotion"] > 0.5 > found.silhouette["speaker"]
    _, variances, axes = np.linalg.svd(values, full_matrices=False)
    places = values @ axes[:2].T
    shown = found.points.select("x", "y").to_numpy()
    np.testing.assert_allclose(np.abs(shown), np.abs(places), atol=2e-3)  # up to their signs
    assert found.explained == pytest.approx((variances[:2] ** 2).sum() / (variances**2).sum())
    assert (found.feature, found.of) == ("toy", 12)
    assert found.points.columns == ["x", "y", "emotion", "speaker"]  # of one corpus


def test_the_map_is_the_same_every_time_and_of_a_bounded_number(tmp_path, monkeypatch):
    cache = cache_of(tmp_path, by_class(1.0))
    monkeypatch.setattr(exploration, "MOST", 10)
    found = map_embeddings(manifest().frame, cache)
    assert (found.points.height, found.of) == (10, 12)
    assert map_embeddings(manifest().frame, cache).points.equals(found.points)


def test_corpora_are_a_colouring_where_there_are_two(tmp_path):
    joined = manifest(corpus=["one"] * 6 + ["two"] * 6)
    found = map_embeddings(joined.frame, cache_of(tmp_path, by_class(1.0)))
    assert set(found.silhouette) == {"emotion", "speaker", "corpus"}


def test_layers_are_averaged(tmp_path):
    means = by_class(5.0)
    layered = np.stack([means - 1, means + 1], axis=1)
    cache = FeatureCache.create(tmp_path, "toy", {}, {"item_shape": [2, 3]})
    with cache.writer("float32") as writer:
        for i, mean in enumerate(layered):
            writer.append(f"u{i}", np.repeat(mean[None], 2, axis=0).astype(np.float32))
    found = map_embeddings(manifest().frame, cache)
    expected = map_embeddings(manifest().frame, cache_of(tmp_path / "flat", means))
    assert found.silhouette == pytest.approx(expected.silhouette, abs=1e-5)


@pytest.mark.parametrize("means", [by_class(1.0)[:9], np.ones((12, 3))])
def test_too_few_utterances_or_constant_frames_have_no_map(tmp_path, means):
    assert map_embeddings(manifest().frame, cache_of(tmp_path, means)) is None


def test_a_damaged_cache_is_an_error(tmp_path):
    cache = cache_of(tmp_path, by_class(1.0))
    for file in (cache.path / "data.zarr").glob("*/frames/c/0/0"):
        file.write_bytes(b"")
    with pytest.raises(UserError):
        map_embeddings(manifest().frame, cache)


def test_durations_are_those_of_the_manifest_or_of_the_frames(tmp_path):
    timed = manifest(start=[float(i) for i in range(12)], end=[i + 1.5 for i in range(12)])
    found = explore(timed)
    assert (found.durations.tolist(), found.timed_by) == ([1.5] * 12, "the manifest")
    assert found.embeddings is None
    cache = cache_of(tmp_path, by_class(1.0)[:10], frames=4)
    found = explore(manifest(), cache)
    assert found.durations.tolist() == [0.4] * 10  # of those that are cached
    assert found.timed_by == "the frames of toy"
    assert explore(manifest()).durations is None


def test_languages_are_counted_where_they_are_known():
    assert explore(manifest()).languages is None
    found = explore(manifest(corpus=["a"] * 6 + ["b"] * 6, language=["de"] * 6 + [None] * 6))
    assert found.languages.rows() == [("a", "de", 6, 3), ("b", None, 6, 3)]


def test_without_a_manifest_there_are_layer_weights_alone():
    layers = {"one": {"toy": [0.25, 0.75]}}
    found = explore(None, None, layers)
    assert (found.counts, found.durations, found.layers) == (None, None, layers)
