"""The scores that a bundle carries are those of `ser cross`, calibrated, with a threshold."""

import json
import shutil
from zipfile import ZipFile

import numpy as np
import polars as pl
import pytest

import ser
from ser.corpus.errors import Note, UserError
from ser.packing.evaluation import evaluate
from ser.packing.pack import pack
from ser.predict.bundle import open_bundle
from ser.predict.evaluation import ALL, Evaluation
from ser.predict.predictor import Predictor
from tests.ser.predict.factories import changed, refusal


def predictions(run, manifest):
    """Return emotion, prediction and p.<class> of a run's test rows."""
    rows = pl.read_parquet(run / "stack" / "predictions.parquet").filter(split="test")
    truth = pl.read_csv(manifest, infer_schema=False)
    return rows.join(truth.select("utterance", "emotion", "corpus"), "utterance")


def test_the_scores_are_those_of_the_trainings_without_a_corpus(three):
    evaluation = open_bundle(three.bundle).record.evaluation
    runs = sorted((three.run / "cross" / "corpus").glob("without-*"))
    rows = pl.concat([predictions(run, three.folder / "m.csv") for run in runs])
    right = (rows["emotion"] == rows["prediction"]).to_numpy()
    assert (len(runs), rows.height) == (3, 72)
    assert (evaluation.unseen.utterances, evaluation.unseen.speakers) == (72, 18)
    assert evaluation.unseen.accuracy == pytest.approx(right.mean())
    by_corpus = {s.group: s for s in evaluation.unseen_corpora if s.column == "corpus"}
    for corpus, score in by_corpus.items():
        one = (rows["corpus"] == corpus).to_numpy()
        assert score.accuracy == pytest.approx(right[one].mean())
    logits = np.log(rows.select("p.angry", "p.sad").to_numpy()) / evaluation.temperature
    confidence = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).max(axis=1)
    confident = confidence >= evaluation.min_confidence
    assert evaluation.unseen.coverage == pytest.approx(confident.mean())
    assert evaluation.unseen.confident_accuracy == pytest.approx(right[confident].mean())
    assert 1 - evaluation.unseen.confident_accuracy <= evaluation.risk == 0.25


def test_the_unseen_speakers_are_those_of_test(three):
    evaluation = open_bundle(three.bundle).record.evaluation
    assert [(s.column, s.group, s.utterances) for s in evaluation.unseen_speakers] == [
        (ALL, ALL, 24),
        *(("corpus", name, 8) for name in ("emovo", "mine", "ravdess")),
        *(("language", "en", 16), ("language", "it", 8)),
        *(("gender", "female", 12), ("gender", "male", 12)),
        *(("emotion", "angry", 12), ("emotion", "sad", 12)),
    ]
    corpora = [(c.name, c.licence, c.utterances, c.speakers) for c in evaluation.corpora]
    assert corpora == [
        ("RAVDESS", "CC BY-NC-SA 4.0", 16, 4),
        ("EMOVO", "for research", 16, 4),
        ("mine", "see its documentation", 16, 4),
    ]


def test_the_bundle_predicts_with_the_temperature_of_unseen_corpora(three):
    own = json.loads((three.run / "stack" / "stack.json").read_text())["temperature"]
    with ZipFile(three.bundle) as archive:
        packed = json.loads(archive.read("stack/stack.json"))["temperature"]
    factor = open_bundle(three.bundle).record.evaluation.temperature
    assert packed == pytest.approx(own * factor) != pytest.approx(own)
    clip = three.folder / "audio" / "1.wav"
    before = Predictor(three.run, device="cpu")(clip)
    after = Predictor(three.bundle, device="cpu")(clip)
    logit = {n: np.log(p) / factor for n, p in before.probabilities.items()}
    total = sum(np.exp(value) for value in logit.values())
    expected = {name: np.exp(value) / total for name, value in logit.items()}
    assert after.probabilities == pytest.approx(expected, abs=1e-6)


def test_a_bundle_abstains_below_its_threshold_unless_told_otherwise(three):
    threshold = open_bundle(three.bundle).record.evaluation.min_confidence
    clip = three.folder / "audio" / "1.wav"
    predictor = Predictor(three.bundle, device="cpu")
    result = predictor(clip)
    assert predictor.min_confidence == threshold
    assert result.unsure == (max(result.probabilities.values()) < threshold)
    assert Predictor(three.bundle, device="cpu", min_confidence=1.0)(clip).unsure
    assert not Predictor(three.bundle, device="cpu", min_confidence=0.0)(clip).unsure
    # a head alone was neither calibrated nor scored
    assert Predictor(three.bundle, "one", "cpu").min_confidence is None
    assert Predictor(three.run, device="cpu").min_confidence is None


def test_python_is_told_once_what_the_model_is(three):
    evaluation = open_bundle(three.bundle).record.evaluation
    unseen, threshold = evaluation.unseen, evaluation.min_confidence
    with pytest.warns(Note) as notes:
        predictor = ser.load(three.bundle, "cpu")
        results = predictor([three.folder / "audio" / f"{i}.wav" for i in (0, 1)])
    assert [str(note.message) for note in notes] == [
        f"three (RAVDESS, EMOVO, mine; CC BY 4.0): right on about {round(10 * unseen.accuracy)} "
        "of 10 clips from corpora that it has not seen. By default it is unsure of about "
        f"{round(10 * (1 - unseen.coverage))} of 10 (confidence below {threshold:g}), and right on "
        f"about {round(10 * unseen.confident_accuracy)} of 10 of the others."
    ]
    assert [result.notes for result in results] == [(), ()]


def test_the_card_has_the_scores_the_threshold_and_the_licences(three):
    card = (open_bundle(three.bundle).folder / "card.md").read_text()
    evaluation = open_bundle(three.bundle).record.evaluation
    titles = [line for line in card.splitlines() if line.startswith("## ")]
    assert titles[1:5] == [
        "## On corpora it has not seen",
        "## On other speakers of its own corpora",
        "## Confidence and abstention",
        "## Who it fails for",
    ]
    assert "**Licence of the weights in this bundle: CC BY 4.0.**" in card
    assert "RAVDESS: CC BY-NC-SA 4.0; EMOVO: for research; mine: see its documentation." in card
    assert f"Below a confidence of {evaluation.min_confidence:g} a prediction is `unsure`" in card
    assert "at least 75 % of the confident predictions" in card
    assert f"| language: it | 24 | 6 | {100 * _of(evaluation, 'it').accuracy:.1f} (" in card


def _of(evaluation, group):
    return next(score for score in evaluation.unseen_corpora if score.group == group)


def test_without_the_trainings_or_with_those_of_other_heads_there_is_no_evaluation(three, tmp_path):
    run = tmp_path / "three"
    shutil.copytree(three.run, run, ignore=shutil.ignore_patterns("cross"))
    with pytest.raises(UserError, match="there are no scores across three or more corpora"):
        pack(run, tmp_path / "b.ser", risk=0.25)
    shutil.copytree(three.run / "cross", run / "cross")
    file = run / "cross" / "corpus" / "without-mine" / "pipeline.yaml"
    file.write_text(file.read_text().replace("epochs: 3", "epochs: 4"))
    with pytest.raises(UserError, match=r"its heads, features or stack are not those of .*/three;"):
        pack(run, tmp_path / "b.ser", risk=0.25)
    assert not (tmp_path / "b.ser").exists()


def test_a_risk_that_no_threshold_keeps_to_is_refused(three, monkeypatch):
    monkeypatch.setattr("ser.packing.evaluation.choose_threshold", lambda *_: None)
    with pytest.raises(UserError, match=r"no threshold keeps to the risk 0\.25 on unseen corpora"):
        evaluate(Predictor(three.run, device="cpu"), 0.25)


@pytest.mark.parametrize(
    "change",
    [
        {"min_confidence": 1.5},
        {"temperature": 0},
        {"risk": True},
        {"unseen_corpora": []},
        {"corpora": [{"name": "a\x1b[2J", "licence": "", "utterances": 1, "speakers": 1}]},
        {"corpora": [{"name": "a", "licence": "", "utterances": -1, "speakers": 1}]},
        {"more": 1},
    ],
)
def test_an_evaluation_out_of_bounds_is_refused(three, tmp_path, change):
    record = open_bundle(three.bundle).record.model_dump(mode="json")
    evaluation = record["evaluation"] | change
    path = changed(three.bundle, tmp_path / "b.ser", record={"evaluation": evaluation})
    assert "the member 'bundle.json' is not valid" in refusal(path)


def test_a_score_out_of_bounds_is_refused(three, tmp_path):
    evaluation = open_bundle(three.bundle).record.model_dump(mode="json")["evaluation"]
    evaluation["unseen_corpora"][0] |= {"accuracy": 1.01}
    path = changed(three.bundle, tmp_path / "b.ser", record={"evaluation": evaluation})
    assert "the member 'bundle.json' is not valid" in refusal(path)
    evaluation["unseen_corpora"][0] |= {"accuracy": 1.0, "confident_accuracy": None}
    assert Evaluation.model_validate(evaluation).unseen.confidently_wrong >= 0
