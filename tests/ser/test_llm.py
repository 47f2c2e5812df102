"""Answers of a language model through the whole product: pipeline, run, prediction, bundles."""

import asyncio
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import ser
from cache.features import FeatureCache
from cache.logits import HeadLogits
from corpus.errors import UserError
from extract.kinds import llm
from extract.run import open_feature
from ser.cli import cli
from ser.extraction import feature_job
from ser.pipeline import Pipeline, read_manifest
from ser.predict.packing import pack
from ser.presets.corpus import WORDS
from ser.presets.models import tiny_model
from ser.presets.server import ChatServer
from ser.run import run_all
from ser.serve.limits import Limits, Refused
from ser.serve.run import sent_away
from ser.serve.service import Service
from stack.table import LogitTable
from tests.ser.factories import CLASSES, make_corpus

pytest.importorskip("openai")
DOCS = Path(__file__).parents[2] / "docs" / "extract.md"
PIPELINE = """\
corpus: {{manifest: m.csv, audio: audio, classes: [{classes}]}}
cache: cache
run: runs/llm
features:
  words: {{kind: asr, model: {whisper}, window: trim}}
  gpt: {{kind: llm, server: "{server}", model: tiny, of: words, precision: float32}}
heads:
  zero-shot: {{head: class_scores, features: [gpt], epochs: 0}}
  calibrated: {{head: class_scores, features: [gpt], epochs: 3, lr: 1.0e-1}}
stack: {{model: mean_proba}}
score: {{bootstrap: 2}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llm")
    frame = make_corpus(folder)
    with ChatServer() as server:
        text = PIPELINE.format(
            classes=", ".join(CLASSES),
            whisper=tiny_model("asr", "whisper-base", folder, WORDS),
            server=server.url,
        )
        (folder / "pipeline.yaml").write_text(text)
        pipeline = Pipeline.load(folder / "pipeline.yaml")
        said: list[str] = []
        _, failed = run_all(pipeline, "cpu", said.append)
        assert not failed, said
        asked = len(server.asked)
        again: list[str] = []
        run_all(pipeline, "cpu", again.append)
        more = len(server.asked) - asked
        words = open_feature(feature_job(pipeline, read_manifest(pipeline), "words"))
        texts = dict(
            zip(frame["utterance"], words.texts(frame["utterance"].to_list()), strict=True)
        )
        yield SimpleNamespace(
            pipeline=pipeline,
            frame=frame,
            again=again,
            asked_again=more,
            folder=folder,
            server=server,
            texts=texts,
        )


def test_the_classes_are_the_corpuss(run):
    assert run.pipeline.features["gpt"].classes == tuple(CLASSES)


def test_nothing_is_asked_twice(run):
    assert run.asked_again == 0
    current = [line for line in run.again if line.startswith("extract")]
    assert len(current) == 2
    assert all("current (30 cached), skipped" in line for line in current)


def test_without_epochs_the_logits_are_what_the_server_said(run):
    (folder,) = (run.pipeline.cache / "gpt").iterdir()
    cache = FeatureCache(folder)
    found = HeadLogits.read(run.pipeline.run / "heads" / "zero-shot" / "logits.h5")
    assert set(found.splits) == {"train", "dev", "test"}
    spoken = {u for u, text in run.texts.items() if text.strip()}
    assert 3 <= len(spoken) < 30  # a Whisper of random weights hears words in few tones
    for rows in found.splits.values():
        said = np.stack([cache.frames(u)[0] for u in rows.utterance])
        np.testing.assert_allclose(rows.logits, said, rtol=1e-6)
        assert [bool(row.any()) for row in said] == [u in spoken for u in rows.utterance]
        assert rows.rows == "held-out"  # of train too: nothing was learned from it


def test_what_learned_nothing_is_stacked_by_any_protocol(run):
    untrained = LogitTable.read(run.pipeline.run / "heads", ["zero-shot"])
    assert untrained.lacking == {"oof": None, "unicamp": None}
    assert untrained.protocol(None) == "oof"
    both = LogitTable.read(run.pipeline.run / "heads", ["zero-shot", "calibrated"])
    assert both.lacking == {"oof": "calibrated", "unicamp": None}


def test_a_prediction_asks_the_server_and_says_what_the_run_says(run):
    spoken = [u for u, text in run.texts.items() if text.strip()]
    row = run.frame.filter(pl.col("utterance") == spoken[-1]).row(0, named=True)
    asked = len(run.server.asked)
    found = ser.load(run.pipeline.run, "cpu")(run.folder / "audio" / row["path"])
    kept = pl.read_csv(run.pipeline.run / "report" / "predictions.csv")
    kept = kept.filter(pl.col("utterance") == row["utterance"])
    last = run.server.asked[-1]["messages"][0]["content"]
    assert len(run.server.asked) == asked + 2  # one to see that it is there
    assert f'Somebody said: "{run.texts[spoken[-1]].strip()}"' in last
    assert len(set(found.probabilities.values())) == 3
    for name, value in found.probabilities.items():
        assert value == pytest.approx(kept[f"p.{name}"].item(), abs=2e-6)


def test_a_bundle_refuses_it(run, tmp_path):
    with pytest.raises(UserError) as caught:
        pack(run.pipeline.run, tmp_path / "bundle.ser")
    assert str(caught.value) == (
        f"{run.pipeline.run}: 'features.gpt' is asked of a server, and a bundle may send nobody's "
        "words anywhere; give the run's folder instead."
    )


def test_a_page_says_that_words_are_sent_away_and_that_nobody_answers(run, tmp_path, monkeypatch):
    monkeypatch.setattr(llm, "TRIES", 0)
    for name in ("heads", "stack", "report"):
        (tmp_path / name).symlink_to(run.pipeline.run / name)
    text = (run.pipeline.run / "pipeline.yaml").read_text()
    utterance = next(u for u, text in run.texts.items() if text.strip())
    clip = shutil.copy(run.folder / "audio" / f"{utterance}.wav", tmp_path)
    with ChatServer() as server:
        (tmp_path / "pipeline.yaml").write_text(text.replace(run.server.url, server.url))
        predictor = ser.load(tmp_path, "cpu")
        assert sent_away(predictor) == [
            f"features.gpt: the words of every clip are sent to {server.url}."
        ]
        service = Service(predictor, Limits())
        service.loading.result()
    with pytest.raises(Refused) as caught:
        asyncio.run(service.hear(Path(clip), "mine.wav"))
    service.close()
    assert caught.value.status_code == 503
    assert caught.value.detail == "what this server asks is not to be had; try later."


def test_its_report_is_written(run):
    words = ["report", "--figures", "none", "--pipeline", str(run.folder / "pipeline.yaml")]
    said = CliRunner().invoke(cli, words)
    assert said.exit_code == 0, said.output
    assert "zero-shot" in (run.pipeline.run / "report" / "report.html").read_text()
    assert not (run.pipeline.run / "heads" / "zero-shot" / "history.csv").exists()
    metrics = json.loads((run.pipeline.run / "report" / "metrics.json").read_text())
    assert "train" not in metrics["test"]["zero-shot"]  # it is as good on what it has not learned
    assert "train" in metrics["test"]["calibrated"]


def test_scores_of_other_classes_are_no_scores_of_ours(run):
    text = (run.folder / "pipeline.yaml").read_text()
    others = ", ".join(reversed(CLASSES))
    changed = text.replace("of: words,", f"of: words, classes: [{others}],")
    (run.folder / "other.yaml").write_text(changed)
    with pytest.raises(UserError) as caught:
        Pipeline.load(run.folder / "other.yaml")
    assert str(caught.value).endswith(
        "features.gpt.classes: they are not the corpus's in their order, which head 'zero-shot' "
        "takes them for; leave `classes` out."
    )


def test_the_pages_pipeline_is_one(tmp_path):
    block = re.search(r"<!-- test: llm -->\n```yaml\n(.*?)```", DOCS.read_text(), re.S)
    assert block is not None
    head = "corpus: {manifest: m.csv}\ncache: cache\nrun: run\n"
    (tmp_path / "p.yaml").write_text(head + block[1])
    pipeline = Pipeline.load(tmp_path / "p.yaml")
    assert pipeline.features["gpt"].classes == pipeline.corpus.classes
    assert [config.epochs for config in pipeline.heads.values()] == [0, 30]
