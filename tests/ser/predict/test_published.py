"""Published classifiers predict without a run: the numbers of the feature, in every format."""

import json
import shutil
import warnings

import httpx
import numpy as np
import pytest
import soundfile

import ser
from ser.corpus.errors import Note, UserError
from ser.extract.testing import clip
from ser.predict import frame
from ser.serve.description import describe, read_card
from tests.extract.factories import made, tiny_classifier, tiny_dense
from tests.ser.factories import ser as call
from tests.ser.serve.conftest import serving

CLASSES = ("neutral", "happy", "angry", "sad")
ATTRIBUTES = ("arousal", "valence", "dominance")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a folder with two clips, and the folders of a model of each kind in it."""
    folder = tmp_path_factory.mktemp("published")
    shutil.copytree(tiny_classifier("Wav2Vec2", "layer"), folder / "er")
    shutil.copytree(tiny_dense("Wav2Vec2", "layer"), folder / "dim")
    (folder / "clips").mkdir()
    for i, seconds in enumerate((1.0, 1.7)):
        soundfile.write(folder / "clips" / f"{i}.wav", clip(seconds, i), 16_000, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def p(models):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predictor = ser.load(model=str(models / "er"), device="cpu")
    note = (
        f"{models}/er (licence: see its card) is a published model; how often it errs on your "
        "audio is unknown."
    )
    assert [str(w.message) for w in caught if issubclass(w.category, Note)] == [note]
    return predictor


def test_the_probabilities_are_those_of_the_feature(p, models):
    clips = [models / "clips" / f"{i}.wav" for i in range(2)]
    results = p(clips)
    extractor = made("classifier", tiny_classifier("Wav2Vec2", "layer"))
    for result, scores in zip(results, extractor.extract([clip(1.0), clip(1.7, 1)]), strict=True):
        assert tuple(result.probabilities) == CLASSES
        np.testing.assert_allclose(
            list(result.probabilities.values()), np.exp(scores[0]), atol=1e-5
        )
        assert result.emotion == CLASSES[int(scores.argmax())]
        assert (result.attributes, result.heads, result.transcript) == ({}, {}, None)
    assert p(clips[1]).probabilities == pytest.approx(results[1].probabilities, abs=1e-5)
    columns = ["path", "seconds", "emotion", *(f"p.{c}" for c in CLASSES), "transcript", "notes"]
    assert frame(results).columns == columns


def test_long_audio_is_segmented_and_attention_is_empty(p):
    long = (np.concatenate([clip(20.0), clip(20.0, 3)]), 16_000)
    result = p(long, cut="windows", window=10, hop=10, explain=True)
    assert [(s.start, s.end) for s in result.segments] == [(0, 10), (10, 20), (20, 30), (30, 40)]
    mean = np.mean([list(s.probabilities.values()) for s in result.segments], axis=0)
    np.testing.assert_allclose(list(result.probabilities.values()), mean, atol=1e-6)
    assert [s.attention for s in result.segments] == [{}] * 4


def test_a_confidence_below_the_wanted_is_unsure_and_attributes_have_none(models):
    strict = ser.load(model=str(models / "er"), device="cpu", min_confidence=1.0)
    assert strict(models / "clips" / "0.wav").label == "unsure"
    with pytest.raises(UserError, match=r"dim: it predicts no classes, so there is no confidence"):
        ser.load(model=str(models / "dim"), device="cpu", min_confidence=0.5)
    with pytest.raises(UserError, match=r"^min_confidence is 2; give a number from 0 to 1\.$"):
        ser.load(model=str(models / "er"), min_confidence=2)


def test_the_command_prints_attributes_and_names_the_model_once(models):
    done = call("predict", "clips/0.wav", "--model", "dim", "--device", "cpu", cwd=models)
    assert done.returncode == 0
    expected = ser.load(model=str(models / "dim"), device="cpu")(models / "clips" / "0.wav")
    shown = " ".join(f"{name} {value:.2f}" for name, value in expected.attributes.items())
    assert done.stdout == f"clips/0.wav  1.0 s  {shown}\n"
    assert tuple(expected.attributes) == ATTRIBUTES
    assert done.stderr.count("dim (licence: see its card) is a published model; ") == 1
    table = call("predict", "clips", "--model", "dim", "--device", "cpu", cwd=models).stdout
    header, *rows = table.splitlines()
    assert header == "path,seconds,emotion,arousal,valence,dominance,transcript,notes"
    assert [row.split(",")[0] for row in rows] == ["clips/0.wav", "clips/1.wav"]


def test_the_command_has_every_format(models, tmp_path):
    options = ("--model", "er", "--device", "cpu")
    lines = call("predict", "clips", "--format", "json", *options, cwd=models).stdout.splitlines()
    assert [tuple(json.loads(line)["probabilities"]) for line in lines] == [CLASSES] * 2
    for name in ("x.srt", "x.TextGrid", "x.rttm", "x.csv"):
        out = tmp_path / name
        done = call("predict", "clips/1.wav", "--out", out, *options, cwd=models)
        assert (done.returncode, out.stat().st_size > 0) == (0, True), done.stderr


def test_mistakes_are_reported_in_one_sentence(models, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(models / "hub"))
    for words, expected in {
        ("--model", "er", "--run", "r"): (
            "`model` is given beside a run or a head; give one or the other."
        ),
        ("--model", "wavlm-large"): (
            "model 'wavlm-large': it is not a classifier; choose from audeering-msp-dim, "
            "hubert-base-superb-er, hubert-large-superb-er, wav2vec2-base-superb-er, "
            "wav2vec2-large-superb-er, or give the hub id or the folder of another one."
        ),
        ("--model", "no-model"): (
            "model 'no-model': it is neither a folder, nor a short name, nor a hub id "
            "(owner/name); correct `model:`."
        ),
        ("--model", "audeering-msp-dim"): (
            "model 'audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim': it is not in the local "
        ),
    }.items():
        done = call("predict", "clips/0.wav", *words, "--device", "cpu", cwd=models)
        assert done.returncode == 2
        assert done.stderr.startswith(f"ser: {expected}"), done.stderr


def test_a_server_answers_with_it(p, models, tmp_path):
    with serving(p, tmp_path) as server:
        server.service.loading.result(60)
        content = (models / "clips" / "1.wav").read_bytes()
        answer = httpx.post(f"{server.url}/predict", content=content, timeout=60).json()
    expected = p(models / "clips" / "1.wav")
    assert answer["emotion"] == expected.emotion
    assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-3)


def test_a_model_shows_itself_and_is_described_for_the_page(p, models):
    assert repr(p) == (
        f"PublishedPredictor('{models}/er', ['neutral', 'happy', 'angry', 'sad'], device='cpu')"
    )
    assert "neutral, happy, angry, sad" in p._repr_html_()
    unknown = "Unknown: it was not trained or scored with ser; see its own page."
    assert describe(p) == {
        "Model": f"neutral, happy, angry, sad, predicted by the published model {models}/er.",
        "Training data": unknown,
        "Errors": unknown,
    }
    assert read_card(p) is None
