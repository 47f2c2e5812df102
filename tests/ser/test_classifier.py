"""Published classifiers in a pipeline: scored as they are, stacked, predicted with."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from ser import load
from ser.cache.features import FeatureCache
from ser.cache.logits import HeadLogits
from ser.pipeline.file import Pipeline
from tests.extract.factories import tiny_classifier, tiny_dense
from tests.ser.factories import CLASSES, RUN, make_corpus, ser

DOCS = Path(__file__).parents[2] / "docs" / "extract.md"
PIPELINE = """\
corpus: {{manifest: m.csv, audio: audio, classes: [{classes}]}}
cache: cache
run: run
features:
  er: {{kind: classifier, model: {er}, precision: float32}}
  dim: {{kind: classifier, model: {dim}, precision: float32}}
heads:
  published: {{head: class_scores, features: [er], epochs: 0}}
  ratings: {{head: class_scores, features: [dim], loss: [ccc], epochs: 0}}
  calibrated: {{head: class_scores, features: [dim], loss: [ccc], epochs: 2, lr: 1.0e-2}}
stack: {{model: mean_proba}}
score: {{bootstrap: 2}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    frame = make_corpus(folder)
    ratings = [pl.lit(2.0 + i) + pl.int_range(pl.len()) % 3 for i in range(3)]
    names = ("arousal", "valence", "dominance")
    frame = frame.with_columns(r.alias(n) for r, n in zip(ratings, names, strict=True))
    frame.write_csv(folder / "m.csv")
    er, dim = tiny_classifier("Wav2Vec2", "layer"), tiny_dense("Wav2Vec2", "layer")
    text = PIPELINE.format(classes=", ".join(CLASSES), er=er, dim=dim)
    (folder / "pipeline.yaml").write_text(text)
    done = ser(*RUN, cwd=folder)
    assert done.returncode == 0, done.stderr
    again = ser(*RUN, cwd=folder)
    return SimpleNamespace(folder=folder, done=done, again=again, er=er, dim=dim)


def cached(run, feature):
    (folder,) = (run.folder / "cache" / feature).iterdir()
    return FeatureCache(folder)


def test_the_classes_are_the_corpuss_and_a_note_names_what_is_left_out(run):
    features = Pipeline.load(run.folder / "pipeline.yaml").features
    assert features["er"].classes == CLASSES
    note = f"features.er: {run.er}: hap of its labels are left out; `labels:` maps labels to"
    assert run.done.stderr.count(note) == 1


def test_a_second_run_extracts_nothing(run):
    lines = [line for line in run.again.stdout.splitlines() if line.startswith("extract")]
    assert [line.partition(": ")[2] for line in lines] == ["up to date (30 cached), skipped"] * 2


def test_without_epochs_the_outputs_are_those_of_the_model(run):
    for head, feature, output in (("published", "er", "logits"), ("ratings", "dim", "predicted")):
        logits = HeadLogits.read(run.folder / "run" / "heads" / head / "logits.h5")
        cache = cached(run, feature)
        for rows in logits.splits.values():
            scores = np.stack([cache.frames(u)[0] for u in rows.utterance])
            np.testing.assert_allclose(getattr(rows, output), scores, rtol=1e-5)
            assert rows.rows == "held-out"


def test_attributes_are_scored_and_stacked(run):
    dev = json.loads((run.folder / "run" / "report" / "metrics.json").read_text())["dev"]
    assert list(dev["stack"]["attributes"]) == ["arousal", "valence", "dominance", "mean"]
    assert "macro_f1" in dev["stack"]
    for system in ("ratings", "calibrated"):
        assert "macro_f1" not in dev[system]
        assert dev[system]["attributes"]["valence"]["n"] == 6


def test_a_bundle_has_the_classifier_in_it(run, tmp_path):
    packed = ser("pack", "run", "-o", tmp_path / "m.ser", "--embed", cwd=run.folder)
    assert packed.returncode == 0, packed.stderr
    clip = run.folder / "audio" / "u3.wav"
    here, there = (load(path, "cpu")(clip) for path in (run.folder / "run", tmp_path / "m.ser"))
    assert tuple(there.probabilities) == CLASSES
    assert there.probabilities == here.probabilities
    assert there.attributes == here.attributes
    (scores,) = cached(run, "er").frames("u3")
    assert list(here.heads["published"].values()) == pytest.approx(np.exp(scores), abs=1e-5)


def test_a_model_that_is_none_is_reported_before_any_work(run):
    wrong = ("--set", "features.dim.model=no/where", "--set", "features.er.labels={hap: hapy}")
    done = ser("extract", "--all", *wrong, cwd=run.folder)
    assert done.returncode == 2
    assert "labels.hap: 'hapy' is not a class of the corpus; " in done.stderr
    assert "model 'no/where': " in done.stderr


def test_the_example_of_the_page_is_a_pipeline(tmp_path):
    block = re.search(r"<!-- test: classifier -->\n```yaml\n(.*?)```", DOCS.read_text(), re.S)
    rest = "corpus: {manifest: m.csv}\ncache: cache\nrun: run\nstack: {model: mean_proba}\n"
    (tmp_path / "pipeline.yaml").write_text(rest + block[1])
    pipeline = Pipeline.load(tmp_path / "pipeline.yaml")
    assert list(pipeline.heads) == ["published", "calibrated", "ratings"]
    assert pipeline.features["whisper-er"].labels == {"fearful": "fear", "disgust": None}


def test_ser_models_shows_what_a_classifier_predicts(tmp_path):
    lines = ser("models", cwd=tmp_path).stdout.splitlines()
    line = next(line for line in lines if line.split()[0] == "audeering-msp-dim")
    terms = "CC BY-NC-SA 4.0; not for the challenge; predicts arousal valence dominance"
    assert line.endswith(f"({terms})")
