"""What a pipeline becomes when it is made small, and what stays."""

from pathlib import Path

import pytest
import yaml

from ser.corpus.errors import UserError
from ser.pipeline.file import Pipeline
from ser.smoke.shrink import shrink
from ser.synthetic.corpus import WORDS

TEXT = """\
corpus: {manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}
cache: cache
run: run
features:
  words: {kind: asr, model: whisper-base, window: trim}
  text: {model: roberta-large, of: words, layer: 18, quantize: int8, pad_to: 80}
  own: {model: run/finetuned/tuned, kind: speech}
  prosody: {kind: prosody}
  gpt: {kind: llm, server: "https://far/v1", model: gpt-4, of: words}
heads:
  defaults: {hidden: 512, epochs: 30, batch: 64, log: tensorboard}
  one: {features: [text, {name: prosody, stride: 2, normalize: corpus}], loss: [wce, sml]}
  two:
    head: early_mha
    features: [{name: own, layer: [2, 3, 7, 9]}]
    batch: 8
    phases: [{epochs: 4, lr: 1.0e-3}, {epochs: 9, sampler: undersample}]
finetune:
  tuned: {model: hubert-large, freeze: "layers:20", lora: {rank: 4}, layer: -9}
score: {groups: [gender]}
"""


def made(folder: Path, text: str = TEXT) -> tuple[dict, Path]:
    (folder / "big").mkdir()
    path = folder / "big" / "pipeline.yaml"
    path.write_text(text)
    small = folder / "small"
    return shrink(Pipeline.load(path), small, WORDS, "http://here/v1"), small


def test_sizes_change_and_nothing_else(tmp_path):
    raw, small = made(tmp_path)
    models = small / "models"
    assert raw == {
        "corpus": {
            "manifest": str(small / "manifest.parquet"),
            "audio": str(small / "audio"),
            "classes": ["angry", "sad", "neutral"],
        },
        "cache": str(small / "cache"),
        "run": str(small / "run"),
        "features": {
            "words": {
                "kind": "asr",
                "model": str(models / "whisper-whisper-base"),
                "window": "trim",
            },
            "text": {
                "kind": "text",
                "model": str(models / "text-roberta-large"),
                "of": "words",
                "layer": 4,
                "pad_to": 64,
            },
            "own": {"kind": "speech", "model": str(small / "run" / "finetuned" / "tuned")},
            "prosody": {"kind": "prosody"},
            "gpt": {"kind": "llm", "server": "http://here/v1", "model": "gpt-4", "of": "words"},
        },
        "heads": {
            "one": {
                "features": [
                    {"name": "text"},
                    {"name": "prosody", "stride": 2, "normalize": "corpus"},
                ],
                "loss": ["wce", "sml"],
                "hidden": 32,
                "epochs": 1,
                "batch": 16,
            },
            "two": {
                "head": "early_mha",
                "features": [{"name": "own", "layer": [2, 3, 4]}],
                "batch": 8,
                "phases": [{"epochs": 1, "lr": 1e-3}, {"epochs": 1, "sampler": "undersample"}],
                "hidden": 32,
                "classifier": 32,
                "epochs": 30,
            },
        },
        "finetune": {
            "tuned": {
                "kind": "speech",
                "model": str(models / "speech-hubert-large-ls960-ft"),
                "freeze": ["layers:4"],
                "lora": {"rank": 4},
                "layer": -5,
                "hidden": 32,
                "epochs": 1,
                "batch": 16,
            }
        },
        "score": {"groups": ["gender"], "bootstrap": 10, "resamples": 50},
    }


def test_the_small_one_is_a_pipeline(tmp_path):
    raw, small = made(tmp_path)
    path = small / "pipeline.yaml"
    path.write_text(yaml.safe_dump(raw))
    pipeline = Pipeline.load(path)
    assert pipeline.systems == ["one", "two", "tuned"]
    assert pipeline.finetune["tuned"].model == raw["finetune"]["tuned"]["model"]


def test_imported_features_are_refused(tmp_path):
    with pytest.raises(UserError) as error:
        made(tmp_path, TEXT.replace("{kind: prosody}", "{kind: imported}"))
    assert str(error.value) == (
        f"{tmp_path}/big/pipeline.yaml: smoke: imported features cannot be computed for a "
        "synthetic corpus; leave them out."
    )
