"""The plain baseline from `ser run` to the card, beside a head that learned nothing."""

import json
from zipfile import ZipFile

import pytest

from ser.heads.record import read_done
from ser.stack.run import stacked_heads
from tests.ser.factories import make_corpus, ser

PIPELINE = """\
corpus: {manifest: m.csv, audio: audio, classes: [angry, sad, neutral]}
cache: cache
run: runs/mine
features:
  prosody: {kind: prosody}
heads:
  baseline: true
  defaults: {hidden: 4, epochs: 1, lr: 1.0e-9, dropout: 0.0}
  idle: {head: mean_mlp, features: [prosody]}
stack: {model: mean_logits}
score: {resamples: 20, bootstrap: 5}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baseline")
    make_corpus(folder, 60)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    done = ser("run", "--jobs", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_it_is_trained_and_not_stacked(trained):
    folder, _ = trained
    record = read_done(folder / "runs/mine", "baseline")
    assert record.config["head"] == "linear_probe"
    assert stacked_heads(folder / "runs/mine") == ["idle"]
    assert "baseline" in ser("heads", "list", cwd=folder).stdout
    metrics = json.loads((folder / "runs/mine/report/metrics.json").read_text())
    assert metrics["test"]["baseline"]["baseline"] is True
    assert "baseline" not in metrics["test"]["idle"]
    assert metrics["test"]["baseline"]["macro_f1"] > metrics["test"]["idle"]["macro_f1"]


def test_every_table_shows_it(trained):
    folder, _ = trained
    scores = ser("score", cwd=folder).stdout
    sentence = "baseline: a linear probe of the frames, the plain baseline; ↓ scores below it."
    assert sentence in scores
    assert "idle ↓" in scores and "stack ↓" in scores
    assert "baseline F1" in ser("runs", cwd=folder).stdout
    done = ser("pack", "runs/mine", "--out", "mine.ser", cwd=folder)
    assert done.returncode == 0, done.stderr
    with ZipFile(folder / "mine.ser") as bundle:
        assert not [name for name in bundle.namelist() if "baseline" in name]
        card = bundle.read("card.md").decode()
    assert "| baseline | 12 |" in card and "| idle ↓ | 12 |" in card and sentence in card
    assert "idle ↓" in ser("cv", "--jobs", "1", cwd=folder).stdout


def test_a_run_is_up_to_date_with_it(trained):
    folder, _ = trained
    again = ser("run", "--jobs", "1", cwd=folder)
    assert "baseline: up to date, skipped" in again.stdout + again.stderr
    assert "mean_logits: up to date, skipped" in again.stdout + again.stderr
