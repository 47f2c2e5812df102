"""A head read back from its folder says what it said in its run, to the bit where batches agree."""

import numpy as np
import pytest

from cache.logits import HeadLogits
from corpus.errors import UserError
from heads.run import train_heads
from heads.trained import TrainedHead
from tests.heads.factories import make_job, make_manifest, with_ratings

HEADS = {
    "plain": {"features": ["a", "b"]},
    "strided": {"features": [{"name": "a", "stride": 3, "normalize": "corpus"}]},
    "folds": {"features": ["a", {"name": "b", "stride": 2}], "cross_fit": 2},
    "refit": {"features": ["a"], "cross_fit": {"folds": 2, "final": "refit"}},
    "voice": {"head": "mean_mlp", "features": [{"name": "a", "normalize": "speaker"}]},
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


@pytest.mark.parametrize("name", [name for name in HEADS if name != "voice"])
def test_it_says_what_it_said_in_its_run(job, name):
    head = TrainedHead.load(job.run / "heads" / name)
    said = HeadLogits.read(job.run / "heads" / name / "logits.h5")
    assert head.fingerprint == said.fingerprint
    assert head.made_of == said.features
    assert head.classes == job.manifest.classes
    assert head.attributes == said.attributes
    assert head.classifies == (name != "rates")
    for split in ("dev", "test"):
        rows = said.splits[split]
        found = head.ask(clips_of(job, rows.utterance))
        if head.classifies:
            np.testing.assert_allclose(found["logits"], rows.logits, atol=2e-6)
        if head.attributes:
            np.testing.assert_allclose(found["attributes"], rows.predicted, atol=2e-6)


def test_speakers_are_standardised_by_the_clips_that_are_given(job):
    head = TrainedHead.load(job.run / "heads" / "voice")
    speaker = dict(job.manifest.frame.select("utterance", "speaker").iter_rows())
    rows = HeadLogits.read(job.run / "heads" / "voice" / "logits.h5").splits["test"]
    for name in set(rows.speaker):
        of = [i for i, u in enumerate(rows.utterance) if speaker[u] == name]
        found = head.ask(clips_of(job, [rows.utterance[i] for i in of]), one_speaker=True)
        np.testing.assert_allclose(found["logits"], rows.logits[of], atol=2e-6)
    many, one = clips_of(job, rows.utterance), clips_of(job, rows.utterance[:1])
    np.testing.assert_allclose(head.ask(many)["logits"][:1], head.ask(one)["logits"], atol=2e-6)


def test_where_it_looked_sums_to_one_over_the_frames_it_read(job):
    stride = {"plain": {"a": 1, "b": 1}, "strided": {"a": 3}, "folds": {"a": 1, "b": 2}}
    for name, strides in {**stride, "rated": {"a": 1}, "rates": {"a": 1}, "voice": {}}.items():
        head = TrainedHead.load(job.run / "heads" / name)
        clips = clips_of(job, job.manifest.utterances("test"))
        looked = head.looked(clips)
        assert set(looked) == set(strides)
        for feature, weights in looked.items():
            for clip, given in zip(clips[feature], weights, strict=True):
                assert len(given) == -(-len(clip.data) // strides[feature])
                assert given.sum() == pytest.approx(1, abs=1e-5)


def test_a_head_that_is_not_whole_is_said(job, tmp_path):
    with pytest.raises(UserError) as error:
        TrainedHead.load(tmp_path / "heads" / "none")
    assert str(error.value) == (
        f"{tmp_path}/heads/none/head.json: the head is not trained; run `ser heads train none`."
    )
    broken = tmp_path / "heads" / "plain"
    broken.mkdir(parents=True)
    done = (job.run / "heads" / "plain" / "head.json").read_text()
    (broken / "head.json").write_text(done)
    (broken / "head.safetensors").write_bytes(b"{}")
    with pytest.raises(UserError, match=r"^\S+/plain/head.safetensors: the weights are missing, "):
        TrainedHead.load(broken)
