"""The commands as commissioned, typed in a folder that holds pipeline.yaml and a small corpus.

The hub's cache holds a tiny model with random weights under the name of the large one.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from ser.commands.main import main
from ser.synthetic.models import tiny_model
from tests.ser.factories import CLASSES, make_corpus

PIPELINE = """\
corpus: {manifest: m.csv, audio: '${SER_CLIPS}', classes: [angry, sad, neutral]}
cache: cache
run: run
features:
  words: {kind: asr, model: whisper-large-v3, window: trim, silence: 1}
  whisper: {model: whisper-large-v3, window: trim}
heads:
  audio: {features: [{name: whisper, stride: 4}], hidden: 8, epochs: 1, lr: 1.0e-2, batch: 16}
score: {bootstrap: 2, resamples: 50}
stack: {model: mean_logits, folds: 2}
"""
LAPTOP = """\
import sys
from ser.commands.main import main

for line in ("stack fit", "stack compare", "score", "report --figures none"):
    sys.argv = ["ser", *line.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, line
assert not {"torch", "transformers", "ctranslate2"} & set(sys.modules)
"""


@pytest.fixture
def typed(monkeypatch, capsys):
    """Run a line as it is typed; return its exit code and what it prints."""

    def run(line):
        monkeypatch.setattr(sys, "argv", line.split())
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out + printed.err

    return run


def fill_hub(folder: Path) -> None:
    """Put a tiny Whisper where the Hugging Face cache keeps openai/whisper-large-v3."""
    repository = folder / "models--openai--whisper-large-v3"
    model = tiny_model("whisper", "whisper-large-v3", folder / "made", ["one two"])
    shutil.copytree(model, repository / "snapshots" / "0123456789")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123456789")


def test_the_three_lines_and_the_stack_on_a_laptop(tmp_path, monkeypatch, typed):
    from huggingface_hub import constants

    fill_hub(tmp_path / "hub")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    gpu, laptop = tmp_path / "gpu", tmp_path / "laptop"
    frame = make_corpus(gpu, 15)
    frame.with_columns(gender=pl.Series(["Female", "Male", None] * 5)).write_csv(gpu / "m.csv")
    (gpu / "pipeline.yaml").write_text(PIPELINE)
    monkeypatch.chdir(gpu)

    monkeypatch.setenv("SER_CLIPS", "audio")
    code, printed = typed("ser extract --model whisper-large-v3")
    assert code == 0, printed
    assert "words: 15 extracted" in printed
    assert "whisper: 15 extracted" in printed
    monkeypatch.delenv("SER_CLIPS")
    for line in ("ser heads train-all", "ser stack fit", "ser score"):
        code, printed = typed(line)
        assert code == 0, printed

    (laptop / "run/heads/audio").mkdir(parents=True)
    for file in ("pipeline.yaml", "run/heads/audio/logits.h5"):
        shutil.copy(gpu / file, laptop / file)
    done = subprocess.run(
        [sys.executable, "-c", LAPTOP], cwd=laptop, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()) == {
        f"ser: corpus.manifest: {laptop}/m.csv is not on this machine; labels and speakers are "
        "those stored with the logits."
    }
    scores, copied = (
        json.loads((folder / "run/report/metrics.json").read_text()) for folder in (gpu, laptop)
    )
    assert copied == scores
    assert set(copied["test"]["audio"]["groups"]) == {"gender"}
    assert set(copied["test"]["audio"]["per_class"]) == set(CLASSES)
    assert "They have no transcripts." in (laptop / "run/report/report.html").read_text()
    stacks = [pl.read_parquet(f / "run/stack/predictions.parquet") for f in (gpu, laptop)]
    assert stacks[0].equals(stacks[1])
