"""A head in a notebook."""

import numpy as np
import pytest
from sklearn.base import clone

from cache.features import FeatureCache
from corpus.errors import UserError
from heads.classifier import HeadClassifier
from heads.run import train_heads
from tests.heads.factories import make_feature, make_job, make_manifest

OPTIONS = {"hidden": 8, "epochs": 3, "lr": 1e-2, "batch": 8}


def test_it_says_what_the_run_says(tmp_path):
    job = make_job(tmp_path, one={"features": ["a", "b"]})
    (report,) = train_heads(job, ["one"])
    model = HeadClassifier("cross_modal_gru", features=["a", "b"], **OPTIONS)
    assert model.fit(tmp_path / "cache", job.manifest) is model
    assert model.score_ == report.score
    names = job.manifest.utterances("test")
    shares = model.predict_proba(names)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert model.predict(names).tolist() == model.classes_[shares.argmax(axis=1)].tolist()
    assert np.mean(model.predict(names) == job.manifest.column("emotion", names)) > 0.5


def test_a_manifest_may_be_a_file(tmp_path):
    manifest = make_manifest()
    make_feature(tmp_path / "cache", "a", manifest)
    manifest.write(tmp_path / "m.parquet")
    model = HeadClassifier("mean_mlp", features=[{"name": "a", "stride": 2}], **OPTIONS)
    model.fit(str(tmp_path / "cache"), tmp_path / "m.parquet")
    assert model.classes_.tolist() == ["angry", "neutral", "sad"]


def test_scikit_learn_can_clone_it():
    model = HeadClassifier("mean_mlp", features=["a"], epochs=4)
    copy = clone(model).set_params(epochs=9, lr=0.1)
    assert (model.config.epochs, copy.config.epochs, copy.config.lr) == (4, 9, 0.1)
    assert copy.config.head == "mean_mlp"


def test_what_is_not_there_is_said(tmp_path):
    manifest = make_manifest()
    cache = make_feature(tmp_path, "a", manifest)
    model = HeadClassifier(features=["a"], **OPTIONS)
    with pytest.raises(UserError, match="not fitted yet"):
        model.predict(["u0"])
    with pytest.raises(UserError, match=r"no feature 'b'; extract it"):
        HeadClassifier(features=["b"]).fit(tmp_path, manifest)
    with pytest.raises(UserError, match="the feature 'a' is not among those given"):
        model.fit({"b": cache}, manifest)
    FeatureCache.create(tmp_path, "a", {"kind": "other"}, {"item_shape": [6]})
    with pytest.raises(UserError, match=r"2 versions of the feature 'a'"):
        model.fit(tmp_path, manifest)
