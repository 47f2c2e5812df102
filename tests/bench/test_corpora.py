"""What `python -m bench.corpora` gives to scikit-learn, and that it predicts unseen rows only."""

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from bench.corpora import pool, predict, speaker_scores
from ser.cache.features import FeatureCache
from ser.corpus.manifest import Manifest

CLASSES = ("sad", "happy")


def cache(path, name, frames):
    made = FeatureCache.create(path, name, {"kind": name}, {"item_shape": [*frames.shape[1:]]})
    with made.writer() as writer:
        writer.append("u0", frames)
    return made


def corpus():
    rows = [(f"u{i}", f"u{i}.wav", f"s{i % 2}", CLASSES[i // 2 % 2]) for i in range(8)]
    frame = pl.DataFrame(rows, ["utterance", "path", "speaker", "emotion"], orient="row")
    return Manifest(frame, CLASSES)


def test_features_are_pooled_side_by_side(tmp_path):
    plain = cache(tmp_path, "plain", np.array([[1.0], [3.0]]))
    layers = cache(tmp_path, "layers", np.array([[[0.0], [2.0]], [[0.0], [6.0]]]))
    assert pool([plain, layers], ["u0"], layer=1)["u0"].tolist() == [2, 1, 4, 2]


def test_each_speaker_is_standardised_by_itself():
    vectors = {f"u{i}": np.array([10.0 * (i % 2) + i]) for i in range(8)}
    scores = speaker_scores(vectors, corpus())
    for speaker in (0, 1):
        values = np.concatenate([scores[f"u{i}"] for i in range(speaker, 8, 2)])
        assert values.mean() == pytest.approx(0)
        assert values.std() == pytest.approx(1)


def test_every_test_row_is_predicted_by_a_model_of_its_rotation():
    manifest = corpus()
    labels = manifest.labels(manifest.utterances())
    vectors = {u: np.array([float(y)]) for u, y in zip(manifest.utterances(), labels, strict=True)}
    parts = [[f"u{i}" for i in range(speaker, 8, 2)] for speaker in (0, 1)]
    splits = [{"train": parts[0], "test": parts[1]}, {"train": parts[1], "test": parts[0]}]
    table = predict(vectors, manifest, splits, LogisticRegression(C=1e6))
    assert table["utterance"].to_list() == parts[1] + parts[0]
    expected = dict(manifest.frame.select("utterance", "emotion").iter_rows())
    assert dict(table.iter_rows()) == expected
