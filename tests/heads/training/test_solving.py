import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ser.cache.features import FeatureCache
from ser.corpus.manifest import Manifest
from ser.heads.classifier import HeadClassifier
from ser.heads.fit import fit_head
from ser.heads.job import HeadsJob
from ser.heads.saved import layer_weights
from ser.heads.trained import TrainedHead
from ser.heads.training import linear, solving
from ser.score.heads import softmax
from tests.heads.factories import make_feature, make_manifest, parse_head, with_ratings


def make_layers(root, manifest, layers=3, best=1):
    """Write a feature with all layers, of which one says the class."""
    rng = np.random.default_rng(3)
    cache = FeatureCache.create(root, "deep", {"kind": "deep"}, {"item_shape": [layers, 6]})
    with cache.writer() as writer:
        for utterance in manifest.utterances():
            label = manifest.labels([utterance])[0]
            frames = rng.standard_normal((rng.integers(2, 9), layers, 6)).astype(np.float32)
            frames[:, best, label] += 2.0
            writer.append(utterance, frames, 1, 2)
    return FeatureCache(cache.path)


def make_job(root, manifest, features, **config):
    entry = {"head": "linear_probe", "features": list(features)} | config
    return HeadsJob(root / "run", {"probe": parse_head(entry)}, manifest, features)


def fitted(job):
    record = fit_head(job.heads["probe"], "cpu", lambda *progress: None)
    folder = job.run / "heads" / "probe"
    return record, TrainedHead.load(folder), folder


def statistics(cache, utterances):
    frames = [cache.frames(utterance).astype(np.float64) for utterance in utterances]
    return np.array([np.r_[f.mean(0), f.std(0)] for f in frames], np.float64)


def test_it_chooses_the_layer_that_tells_the_classes_apart(tmp_path):
    manifest = make_manifest(90)
    job = make_job(tmp_path, manifest, {"deep": make_layers(tmp_path, manifest)})
    record, _, folder = fitted(job)
    assert layer_weights(job.run, "probe") == {"deep": [0.0, 1.0, 0.0]}
    candidates = pl.read_csv(folder / "candidates.csv")
    assert candidates.columns == ["feature", "layer", "C", "macro_f1"]
    by_layer = candidates.drop_nulls("layer").group_by("layer").agg(pl.col("macro_f1").max())
    assert by_layer.sort("macro_f1")["layer"].to_list()[-1] == 1
    assert record.score > 0.9
    assert record.epochs == 0
    assert not (folder / "history.csv").exists()


def test_it_is_the_logistic_regression_of_scikit_learn(tmp_path, monkeypatch):
    monkeypatch.setattr(linear, "TOLERANCE", 1e-9)
    monkeypatch.setattr(solving, "STRENGTHS", (0.1,))
    monkeypatch.setattr(solving._Classes, "grid", (0.1,))
    manifest = make_manifest(60)
    cache = make_feature(tmp_path, "a", manifest)
    _, head, _ = fitted(make_job(tmp_path, manifest, {"a": cache}))
    train, test = manifest.utterances("train"), manifest.utterances("test")
    seen, unseen = statistics(cache, train), statistics(cache, test)
    mean, deviation = seen.mean(0), seen.std(0)
    model = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-9, max_iter=5000)
    model.fit((seen - mean) / deviation, manifest.labels(train))
    logits = head.predict({"a": [cache.encoded(i) for i in cache.require(test)]})["logits"]
    expected = model.predict_proba((unseen - mean) / deviation)
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-4)


def test_a_large_corpus_chooses_on_a_part_and_fits_on_all(tmp_path, monkeypatch):
    manifest = make_manifest(90)
    features = {"deep": make_layers(tmp_path, manifest), "a": make_feature(tmp_path, "a", manifest)}
    job = make_job(tmp_path, manifest, features)
    module = fitted(job)[1].modules[0].head
    monkeypatch.setattr(solving, "MOST", 40)
    part = fitted(job)[1].modules[0].head
    assert layer_weights(job.run, "probe")["deep"] == [0.0, 1.0, 0.0]
    assert torch.equal(module.standard.mean, part.standard.mean)


def test_one_speaker_has_the_middle_layer_and_the_usual_strength(tmp_path):
    manifest = make_manifest(60)
    one = manifest.frame.with_columns(
        speaker=pl.when(split="train").then(pl.lit("one")).otherwise("speaker")
    )
    manifest = Manifest(one, manifest.classes)
    job = make_job(tmp_path, manifest, {"deep": make_layers(tmp_path, manifest, best=0)})
    _, _, folder = fitted(job)
    assert layer_weights(job.run, "probe") == {"deep": [0.0, 1.0, 0.0]}
    assert not (folder / "candidates.csv").exists()


@pytest.mark.parametrize("loss", [["kld"], ["soft_ce", "gender", "ccc"]])
def test_votes_are_learned_and_auxiliary_outputs_are_zero(tmp_path, loss):
    manifest = with_ratings(make_manifest(60), unsure=("u0",))
    features = {"a": make_feature(tmp_path, "a", manifest)}
    job = make_job(tmp_path, manifest, features, loss=loss, votes={"other": "keep"})
    record, head, _ = fitted(job)
    assert record.score > 0.9
    module = head.modules[0].head
    assert module.outputs["other"].weight.any()
    if "gender" in loss:
        assert not module.outputs["gender"].weight.any()
        assert module.outputs["attributes"].weight.any()


def test_attributes_are_a_ridge_regression(tmp_path):
    manifest = with_ratings(make_manifest(90))
    features = {"a": make_feature(tmp_path, "a", manifest)}
    record, head, folder = fitted(make_job(tmp_path, manifest, features, loss=["ccc"]))
    assert pl.read_csv(folder / "candidates.csv").columns == ["feature", "layer", "alpha", "ccc"]
    assert list(record.outputs) == ["attributes"]
    test = manifest.utterances("test")
    cache = features["a"]
    predicted = head.predict({"a": [cache.encoded(i) for i in cache.require(test)]})["attributes"]
    arousal = np.array(manifest.column("arousal", test))
    assert np.corrcoef(predicted[:, 0], arousal)[0, 1] > 0.8
    np.testing.assert_allclose(predicted[:, 2], 4.0, atol=1e-5)  # the same for all


def test_cross_fitting_chooses_in_every_fold(tmp_path):
    manifest = make_manifest(90)
    features = {"a": make_feature(tmp_path, "a", manifest)}
    cross_fit = {"folds": 2, "final": "refit"}
    record, _, folder = fitted(make_job(tmp_path, manifest, features, cross_fit=cross_fit))
    assert record.weights == ["head"]
    assert pl.read_csv(folder / "candidates.csv")["fold"].unique().to_list() == [None, 0, 1]
    assert set(record.checksums) == {"head.safetensors", "logits.h5", "candidates.csv"}


def test_the_classifier_of_labels_alone_chooses_by_folds_of_clips(tmp_path):
    manifest = make_manifest(90)
    cache = make_layers(tmp_path, manifest)
    train, test = manifest.utterances("train"), manifest.utterances("test")
    model = HeadClassifier("linear_probe", ["deep"], cache={"deep": cache})
    model.fit(train, manifest.column("emotion", train))
    assert model.module_.inputs[0].layer_weights.argmax() == 1
    assert model.score(test, manifest.column("emotion", test)) > 0.9
    assert model.history_ == []
