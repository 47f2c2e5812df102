"""A head read back from its folder says what it said in its run, to the bit where batches agree."""

import json

import numpy as np
import pytest

from ser.cache.logits import HeadLogits
from ser.corpus.errors import DamagedError, UserError
from ser.heads.run import train_heads
from ser.heads.trained import TrainedHead
from tests.heads.factories import make_job, make_manifest, with_ratings

GRU = {"head": "cross_modal_gru"}
HEADS = {
    "plain": {**GRU, "features": ["a", "b"]},
    "strided": {**GRU, "features": [{"name": "a", "stride": 3, "normalize": "corpus"}]},
    "folds": {**GRU, "features": ["a", {"name": "b", "stride": 2}], "cross_fit": 2},
    "refit": {"features": ["a"], "cross_fit": {"folds": 2, "final": "refit"}},
    "voice": {"head": "mean_mlp", "features": [{"name": "a", "normalize": "speaker"}]},
    "voices": {
        "head": "mean_mlp",
        "features": [{"name": "a", "normalize": "speaker", "stride": 2}],
        "cross_fit": 2,
    },
    "rated": {"head": "attentive_stats", "features": ["a"], "loss": ["wce", "ccc"], "ema": 0.5},
    "rates": {"head": "expert_lstm", "features": ["a"], "loss": ["ccc"]},
    "standard": {"head": "attentive_stats", "features": ["b"], "standardize": True},
}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("job"), with_ratings(make_manifest()), **HEADS)
    for report in train_heads(job, list(HEADS)):
        assert report.done == "trained", report.error
    return job


def clips_of(job, utterances):
    return {
        name: [cache.encoded(int(place)) for place in cache.require(utterances)]
        for name, cache in job.features.items()
    }


@pytest.mark.parametrize("name", HEADS)
def test_it_predicts_what_it_predicted_in_its_run(job, name):
    head = TrainedHead.load(job.run / "heads" / name)
    logits = HeadLogits.read(job.run / "heads" / name / "logits.h5")
    assert head.saved.record.fingerprint == logits.fingerprint
    assert head.saved.record.features == logits.features
    assert head.saved.record.classes == job.manifest.classes
    assert head.saved.attributes == logits.attributes
    assert head.saved.classifies == (name != "rates")
    for split in ("dev", "test"):
        rows = logits.splits[split]
        prediction = head.predict(clips_of(job, rows.utterance), rows.speaker)
        if head.saved.classifies:
            np.testing.assert_allclose(prediction["logits"], rows.logits, atol=2e-6)
        if head.saved.attributes:
            np.testing.assert_allclose(prediction["attributes"], rows.predicted, atol=2e-6)


def test_speakers_are_standardised_by_the_clips_that_are_given(job):
    head = TrainedHead.load(job.run / "heads" / "voice")
    speaker = dict(job.manifest.frame.select("utterance", "speaker").iter_rows())
    rows = HeadLogits.read(job.run / "heads" / "voice" / "logits.h5").splits["test"]
    for name in set(rows.speaker):
        positions = [i for i, u in enumerate(rows.utterance) if speaker[u] == name]
        prediction = head.predict(
            clips_of(job, [rows.utterance[i] for i in positions]), [name] * len(positions)
        )
        np.testing.assert_allclose(prediction["logits"], rows.logits[positions], atol=2e-6)
    many, one = clips_of(job, rows.utterance), clips_of(job, rows.utterance[:1])
    np.testing.assert_allclose(
        head.predict(many)["logits"][:1], head.predict(one)["logits"], atol=2e-6
    )


def test_attention_sums_to_one_over_the_frames_read(job):
    stride = {"plain": {"a": 1, "b": 1}, "strided": {"a": 3}, "folds": {"a": 1, "b": 2}}
    for name, strides in {**stride, "rated": {"a": 1}, "rates": {"a": 1}, "voice": {}}.items():
        head = TrainedHead.load(job.run / "heads" / name)
        clips = clips_of(job, job.manifest.utterances("test"))
        attention = head.attention(clips)
        assert set(attention) == set(strides)
        for feature, weights in attention.items():
            for clip, given in zip(clips[feature], weights, strict=True):
                assert len(given) == -(-len(clip.data) // strides[feature])
                assert given.sum() == pytest.approx(1, abs=1e-5)


def test_an_incomplete_head_is_reported(job, tmp_path):
    with pytest.raises(UserError) as error:
        TrainedHead.load(tmp_path / "heads" / "none")
    assert str(error.value) == (
        f"{tmp_path}/heads/none/head.json: the head is not trained; run `ser heads train none`."
    )
    broken = tmp_path / "heads" / "plain"
    broken.mkdir(parents=True)
    done = json.loads((job.run / "heads" / "plain" / "head.json").read_text())
    (broken / "head.json").write_text(json.dumps(done))
    (broken / "head.safetensors").write_bytes(b"{}")
    with pytest.raises(DamagedError, match=r"^\S+/plain/head.safetensors: it is damaged "):
        TrainedHead.load(broken)
    old = {key: value for key, value in done.items() if key not in ("checksums", "crc32c")}
    (broken / "head.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"^\S+/plain/head.safetensors: the weights are missing, "):
        TrainedHead.load(broken)
