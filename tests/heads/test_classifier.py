"""A head as an estimator of scikit-learn."""

import pickle
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.utils import estimator_html_repr, get_tags

from ser.cache.features import FeatureCache
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.heads.classifier import HeadClassifier
from ser.heads.run import train_heads
from ser.heads.scaling import scaled
from tests.heads.factories import make_feature, make_job, make_manifest

OPTIONS = {"hidden": 8, "epochs": 3, "lr": 3e-2, "batch": 8}


def ids_and_labels(manifest):
    return (manifest.frame[name].to_numpy() for name in ("utterance", "emotion", "speaker"))


@pytest.fixture(scope="module")
def manifest():
    return make_manifest()


@pytest.fixture(scope="module")
def cache(manifest, tmp_path_factory):
    return make_feature(tmp_path_factory.mktemp("cache"), "a", manifest)


@pytest.fixture
def model(cache):
    return HeadClassifier("mean_mlp", ["a"], cache=cache, **OPTIONS)


def test_a_manifest_gives_the_numbers_of_the_run(tmp_path):
    job = make_job(tmp_path, one={"head": "cross_modal_gru", "features": ["a", "b"]})
    clips = len(job.manifest.utterances("train"))
    job = replace(job, configs={"one": scaled(job.configs["one"], clips)})
    (report,) = train_heads(job, ["one"])
    model = HeadClassifier(features=["a", "b"], cache=tmp_path / "cache", **OPTIONS)
    assert model.fit(job.manifest) is model
    assert model.score_ == report.score
    names = job.manifest.utterances("test")
    probabilities = model.predict_proba(names)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    predicted = model.predict(names).tolist()
    assert predicted == model.classes_[probabilities.argmax(axis=1)].tolist()
    assert model.score(names, job.manifest.column("emotion", names)) > 0.5


def test_a_manifest_may_be_a_file(cache, manifest, tmp_path):
    manifest.write(tmp_path / "m.parquet")
    features = [{"name": "a", "stride": 2}]
    model = HeadClassifier("mean_mlp", features, cache={"a": cache}, **OPTIONS)
    model.fit(tmp_path / "m.parquet")
    assert model.classes_.tolist() == ["angry", "neutral", "sad"]


def test_ids_and_labels_are_learned(model, manifest):
    utterances, labels, _ = ids_and_labels(manifest)
    model.fit(utterances, labels)
    assert model.classes_.tolist() == ["angry", "neutral", "sad"]
    assert (model.best_epoch_, model.score_, len(model.history_)) == (2, None, 3)
    assert model.score(utterances, labels) > 0.9
    numbers = np.unique(labels, return_inverse=True)[1]
    by_number = clone(model).fit(utterances.tolist(), numbers)
    assert by_number.classes_.tolist() == [0, 1, 2]
    assert model.predict([]).tolist() == []
    assert model.predict(utterances[:2, None]).tolist() == model.predict(utterances[:2]).tolist()


def test_an_eval_set_chooses_the_epoch_as_the_dev_split_of_a_manifest_does(model, manifest):
    sets = {}
    for split in ("train", "dev"):
        utterances = manifest.utterances(split)
        sets[split] = utterances, manifest.column("emotion", utterances)
    by_ids = clone(model).fit(*sets["train"], eval_set=sets["dev"])
    by_manifest = clone(model).fit(Manifest(manifest.frame))  # whose classes are sorted too
    assert (by_ids.best_epoch_, by_ids.score_) == (by_manifest.best_epoch_, by_manifest.score_)


def test_it_works_in_cross_validation_searches_and_pipelines(model, manifest):
    utterances, labels, speakers = ids_and_labels(manifest)
    scores = cross_val_score(model, utterances, labels, groups=speakers, cv=GroupKFold(2))
    assert len(scores) == 2
    assert scores.min() > 0.3
    pipeline = Pipeline([("head", model)])
    search = GridSearchCV(pipeline, {"head__epochs": [1, 3]}, cv=2, error_score="raise")
    search.fit(utterances, labels)
    assert search.best_params_["head__epochs"] in (1, 3)
    assert search.predict(utterances[:3]).shape == (3,)


def test_scikit_learn_can_clone_describe_and_show_it(model):
    model = model.set_params(epochs=4)
    copy = clone(model).set_params(epochs=9, lr=0.1)
    assert (model.get_params()["epochs"], copy.get_params()["epochs"]) == (4, 9)
    assert copy.cache is model.cache  # opened once
    tags = get_tags(model)
    assert (tags.estimator_type, tags.input_tags.two_d_array) == ("classifier", False)
    assert tags.input_tags.one_d_array
    assert "epochs=9" in repr(copy)
    assert "FeatureCache(" in repr(copy)
    assert "mean_mlp" in estimator_html_repr(copy)


def test_a_fitted_one_can_be_pickled(model, manifest):
    utterances, labels, _ = ids_and_labels(manifest)
    model.set_params(ema=0.5).fit(utterances, labels)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(utterances), model.predict_proba(utterances))


def test_an_unfitted_one_predicts_nothing(model):
    with pytest.raises(NotFittedError, match=r"^HeadClassifier: it is not fitted yet; call `fit`"):
        model.predict(["u0"])


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (["u0", "u1"], ["sad"], r"y: 2 utterances and 1 labels"),
        (["u0", "u1"], None, r"`y` is missing"),
        (["u0", "u1"], ["sad", None], r"y: 1 of 2 labels are missing \(the first is y\[1\]\)"),
        (["u0", "u1"], ["sad", "sad"], r"y has one class only \('sad'\)"),
        ([], [], r"y: it has no utterance"),
        ([0, 1], ["sad", "angry"], r"X: 0 is not an utterance id"),
        (np.zeros((2, 6)), ["sad", "angry"], r"X: an array of shape \(2, 6\)"),
        (["u0", "x1"], ["sad", "angry"], r"1 of 2 utterances are not cached \(x1\)"),
    ],
)
def test_ids_and_labels_that_do_not_fit_are_refused(model, X, y, message):
    with pytest.raises(UserError, match=message):
        model.fit(X, y)


def test_an_eval_set_of_another_class_is_refused(model):
    with pytest.raises(UserError, match=r"eval_set: the label 'bored' is not among those of y"):
        model.fit(["u0", "u1"], ["sad", "angry"], eval_set=(["u2"], ["bored"]))


def test_a_manifest_without_labels_or_without_train_is_refused(model, manifest):
    frame = manifest.frame
    with pytest.raises(UserError, match=r"no utterance of the split train has an emotion"):
        model.fit(Manifest(frame.with_columns(emotion=pl.lit(None, pl.String)), source="m.csv"))
    with pytest.raises(UserError, match=r"no utterance of the split train has all features"):
        model.fit(Manifest(frame.with_columns(split=pl.lit("")), source="m.csv"))
    with pytest.raises(UserError, match=r"a manifest brings its own labels"):
        model.fit(manifest, ["sad"])


def test_a_head_that_learns_more_than_classes_needs_a_manifest(model):
    model.set_params(loss=["kld"])
    with pytest.raises(UserError, match=r"which labels alone lack; fit it on a manifest"):
        model.fit(["u0", "u1"], ["sad", "angry"])


def test_statistics_of_speakers_are_of_those_of_the_manifest(cache, manifest):
    features = [{"name": "a", "normalize": "speaker"}]
    model = HeadClassifier("mean_mlp", features, cache=cache, **OPTIONS)
    few = Manifest(manifest.frame[:40])
    model.fit(few)
    assert model.predict(few.utterances()[:1]).shape == (1,)
    with pytest.raises(UserError, match=r"features\.a: the speaker of 'u45' is not known"):
        model.predict(["u45"])


def test_wrong_options_are_named(model):
    with pytest.raises(UserError, match=r"no option 'epoch'; did you mean 'epochs'\?"):
        model.set_params(epoch=3)
    with pytest.raises(UserError, match=r"no option 'hiden'; did you mean 'hidden'\?"):
        HeadClassifier("mean_mlp", ["a"], hiden=3).fit(["u0"], ["sad"])
    with pytest.raises(UserError, match=r"'epochs' is not valid"):
        HeadClassifier("mean_mlp", ["a"], epochs="many").fit(["u0"], ["sad"])
    with pytest.raises(UserError, match=r"`features` is empty"):
        HeadClassifier("mean_mlp").fit(["u0"], ["sad"])
    with pytest.raises(UserError, match=r"`cache` is missing"):
        HeadClassifier("mean_mlp", ["a"]).fit(["u0"], ["sad"])


def test_a_feature_that_is_absent_or_ambiguous_is_named(cache, manifest, tmp_path):
    make_feature(tmp_path, "a", manifest)
    with pytest.raises(UserError, match=r"no feature 'b'; extract it"):
        HeadClassifier(features=["b"], cache=tmp_path).fit(manifest)
    with pytest.raises(UserError, match="the feature 'a' is not among those given"):
        HeadClassifier(features=["a"], cache={"b": cache}).fit(manifest)
    FeatureCache.create(tmp_path, "a", {"kind": "other"}, {"item_shape": [6]})
    with pytest.raises(UserError, match=r"2 versions of the feature 'a'"):
        HeadClassifier(features=["a"], cache=tmp_path).fit(manifest)
