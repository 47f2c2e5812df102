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
from typer.testing import CliRunner

import ser
from ser.cache.features import FeatureCache
from ser.cache.logits import HeadLogits
from ser.commands.main import cli
from ser.corpus.errors import UserError
from ser.extract.job import open_feature
from ser.extract.kinds import llm
from ser.packing.pack import pack
from ser.pipeline.file import Pipeline, read_manifest
from ser.pipeline.jobs import feature_job
from ser.serve.limits import Limits, Refused
from ser.serve.run import remote_notes
from ser.serve.service import Service
from ser.stack.table import LogitTable
from ser.stages.run import run_all
from ser.synthetic.corpus import WORDS
from ser.synthetic.models import tiny_model
from ser.synthetic.server import ChatServer
from tests.ser.factories import CLASSES, make_corpus

pytest.importorskip("httpcore")
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
        lines: list[str] = []
        _, failed = run_all(pipeline, "cpu", lines.append)
        assert not failed, lines
        requests = len(server.requests)
        again: list[str] = []
        run_all(pipeline, "cpu", again.append)
        more = len(server.requests) - requests
        words = open_feature(feature_job(pipeline, read_manifest(pipeline), "words"))
        texts = dict(
            zip(frame["utterance"], words.texts(frame["utterance"].to_list()), strict=True)
        )
        yield SimpleNamespace(
            pipeline=pipeline,
            frame=frame,
            again=again,
            repeated_requests=more,
            folder=folder,
            server=server,
            texts=texts,
        )


def test_the_classes_are_the_corpuss(run):
    assert run.pipeline.features["gpt"].classes == tuple(CLASSES)


def test_nothing_is_requested_twice(run):
    assert run.repeated_requests == 0
    current = [line for line in run.again if line.startswith("extract")]
    assert len(current) == 2
    assert all("up to date (30 cached), skipped" in line for line in current)


def test_without_epochs_the_logits_are_those_of_the_server(run):
    (folder,) = (run.pipeline.cache / "gpt").iterdir()
    cache = FeatureCache(folder)
    logits = HeadLogits.read(run.pipeline.run / "heads" / "zero-shot" / "logits.h5")
    assert set(logits.splits) == {"train", "dev", "test"}
    spoken = {u for u, text in run.texts.items() if text.strip()}
    assert 3 <= len(spoken) < 30  # a Whisper of random weights hears words in few tones
    for rows in logits.splits.values():
        scores = np.stack([cache.frames(u)[0] for u in rows.utterance])
        np.testing.assert_allclose(rows.logits, scores, rtol=1e-6)
        assert [bool(row.any()) for row in scores] == [u in spoken for u in rows.utterance]
        assert rows.rows == "held-out"  # of train too: nothing was learned from it


def test_what_learned_nothing_is_stacked_by_any_protocol(run):
    untrained = LogitTable.read(run.pipeline.run / "heads", ["zero-shot"])
    assert untrained.lacking == {"oof": None, "unicamp": None}
    assert untrained.protocol(None) == "oof"
    both = LogitTable.read(run.pipeline.run / "heads", ["zero-shot", "calibrated"])
    assert both.lacking == {"oof": "calibrated", "unicamp": None}


def test_a_prediction_queries_the_server_and_equals_the_run(run):
    spoken = [u for u, text in run.texts.items() if text.strip()]
    row = run.frame.filter(pl.col("utterance") == spoken[-1]).row(0, named=True)
    requests = len(run.server.requests)
    predicted = ser.load(run.pipeline.run, "cpu")(run.folder / "audio" / row["path"])
    kept = pl.read_csv(run.pipeline.run / "report" / "predictions.csv")
    kept = kept.filter(pl.col("utterance") == row["utterance"])
    last = run.server.requests[-1]["messages"][0]["content"]
    assert len(run.server.requests) == requests + 2  # one tests the connection
    assert f'Somebody said: "{run.texts[spoken[-1]].strip()}"' in last
    assert len(set(predicted.probabilities.values())) == 3
    for name, value in predicted.probabilities.items():
        assert value == pytest.approx(kept[f"p.{name}"].item(), abs=2e-6)


def test_a_bundle_refuses_it(run, tmp_path):
    with pytest.raises(UserError) as caught:
        pack(run.pipeline.run, tmp_path / "bundle.ser")
    assert str(caught.value).startswith(f"{run.pipeline.run}: 'features.gpt' uses a server")


def test_the_server_notes_that_transcripts_are_sent_away_and_reports_a_lost_service(
    run, tmp_path, monkeypatch
):
    monkeypatch.setattr(llm, "TRIES", 0)
    for name in ("heads", "stack", "report"):
        (tmp_path / name).symlink_to(run.pipeline.run / name)
    text = (run.pipeline.run / "pipeline.yaml").read_text()
    utterance = next(u for u, text in run.texts.items() if text.strip())
    clip = shutil.copy(run.folder / "audio" / f"{utterance}.wav", tmp_path)
    with ChatServer() as server:
        (tmp_path / "pipeline.yaml").write_text(text.replace(run.server.url, server.url))
        predictor = ser.load(tmp_path, "cpu")
        assert remote_notes(predictor) == [
            f"features.gpt: the transcript of every clip is sent to {server.url}."
        ]
        service = Service(predictor, Limits())
        service.loading.result()

    async def predict():
        try:
            await service.predict(Path(clip), "mine.wav", timeline=False, explain=False)
        finally:
            await service.close()

    with pytest.raises(Refused) as caught:
        asyncio.run(predict())
    assert caught.value.status_code == 503
    assert (
        caught.value.detail
        == "a service that the model depends on is unavailable; try again later."
    )


def test_its_report_is_written(run):
    words = ["report", "--figures", "none", "--pipeline", str(run.folder / "pipeline.yaml")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert "zero-shot" in (run.pipeline.run / "report" / "report.html").read_text()
    assert not (run.pipeline.run / "heads" / "zero-shot" / "history.csv").exists()
    metrics = json.loads((run.pipeline.run / "report" / "metrics.json").read_text())
    assert "train" not in metrics["test"]["zero-shot"]  # it is as good on what it has not learned
    assert "train" in metrics["test"]["calibrated"]


def test_scores_of_other_classes_are_not_used(run):
    text = (run.folder / "pipeline.yaml").read_text()
    others = ", ".join(reversed(CLASSES))
    changed = text.replace("of: words,", f"of: words, classes: [{others}],")
    (run.folder / "other.yaml").write_text(changed)
    with pytest.raises(UserError) as caught:
        Pipeline.load(run.folder / "other.yaml")
    assert str(caught.value).endswith(
        "features.gpt.classes: head 'zero-shot' needs the classes of the corpus in their order; "
        "leave `classes` out."
    )


def test_the_pages_pipeline_is_one(tmp_path):
    block = re.search(r"<!-- test: llm -->\n```yaml\n(.*?)```", DOCS.read_text(), re.S)
    assert block is not None
    head = "corpus: {manifest: m.csv}\ncache: cache\nrun: run\n"
    (tmp_path / "p.yaml").write_text(head + block[1])
    pipeline = Pipeline.load(tmp_path / "p.yaml")
    assert pipeline.features["gpt"].classes == pipeline.corpus.classes
    assert [config.epochs for config in pipeline.heads.values()] == [0, 30]
