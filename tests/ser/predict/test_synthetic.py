"""A run on synthetic speech says so in every answer; so do its bundle, its scores, its report."""

import json
from types import SimpleNamespace

import polars as pl
import pytest
from typer.testing import CliRunner

import ser
from ser.commands.main import cli
from ser.corpus.synthetic import SCORES_NOTE, model_note, scores_note
from ser.heads.record import HeadRecord
from ser.packing.pack import pack
from ser.pipeline.file import Pipeline
from ser.predict import Failure
from ser.predict.runs import synthetic_share
from ser.stages.run import run_all
from tests.ser.factories import make_corpus

NOTE = "This model was trained on synthetic speech; its predictions say nothing about real emotion."


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a folder with a run of marked tones, and a clip."""
    folder = tmp_path_factory.mktemp("synthetic")
    frame = make_corpus(folder)
    frame.with_columns(synthetic=True).write_csv(folder / "m.csv")
    lines = []
    _, failed = run_all(Pipeline.load(folder / "pipeline.yaml"), "cpu", lines.append)
    assert not failed
    assert lines[-1] == f"score    {SCORES_NOTE}"
    return SimpleNamespace(folder=folder, run=folder / "run", clip=folder / "audio" / "u12.wav")


def records(run):
    return sorted(run.glob("heads/*/head.json"))


def test_python_has_it(run):
    p = ser.load(run.run, "cpu")
    assert (p.synthetic, p.notes) == (1.0, (NOTE,))
    assert p(run.clip).notes == (NOTE,)
    assert [r.notes for r in p([run.clip, run.clip])] == [(NOTE,)] * 2
    assert ser.load(run.run, "cpu", head="two")(run.clip).notes == (NOTE,)
    assert isinstance(next(p.stream(["none.wav"])), Failure)


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_the_command_has_it_in_the_answer_and_on_standard_error(run, form):
    words = ["predict", run.clip, "--run", run.run, "--format", form, "--device", "cpu"]
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert result.stdout.count(NOTE) == 1
    assert result.stderr == f"ser: {NOTE}\n"


def test_the_fingerprint_does_not_depend_on_it(run):
    lines = []
    rows = pl.read_csv(run.folder / "m.csv")
    rows.drop("synthetic").write_csv(run.folder / "m.csv")
    run_all(Pipeline.load(run.folder / "pipeline.yaml"), "cpu", lines.append)
    rows.write_csv(run.folder / "m.csv")
    assert sum("up to date" in line for line in lines) >= 4  # a feature, two heads, the stack
    assert not any(SCORES_NOTE in line for line in lines)


def test_a_bundle_and_its_card_have_it(run, tmp_path):
    path = tmp_path / "b.ser"
    pack(run.run, path)
    shown = CliRunner().invoke(cli, ["pack", "--show", str(path)], catch_exceptions=False)
    assert f"**{NOTE}**" in shown.stdout
    p = ser.load(path, "cpu")
    assert (p.synthetic, p(run.clip).notes) == (1.0, (NOTE,))


def test_scores_and_report_have_it(run):
    pipeline = ["--pipeline", str(run.folder / "pipeline.yaml")]
    result = CliRunner().invoke(cli, ["score", *pipeline], catch_exceptions=False)
    assert result.stdout.splitlines()[-1] == SCORES_NOTE
    report = ["report", "--figures", "none", *pipeline]
    result = CliRunner().invoke(cli, report, catch_exceptions=False)
    assert result.stderr == f"ser: {SCORES_NOTE}\n"
    assert SCORES_NOTE in (run.run / "report" / "report.md").read_text()
    assert SCORES_NOTE in (run.run / "report" / "report.html").read_text()


def test_a_run_of_an_earlier_version_is_identified_by_its_manifest(run):
    texts = {path: path.read_text() for path in records(run.run)}
    for path, text in texts.items():
        path.write_text(json.dumps({k: v for k, v in json.loads(text).items() if k != "synthetic"}))
    heads = [path.parent.name for path in texts]
    manifest = run.folder / "m.csv"
    assert synthetic_share(run.run, heads, {}, manifest) == 1.0
    assert synthetic_share(run.run, heads, {}, run.folder / "gone.csv") is None
    assert synthetic_share(run.run, heads, {}, None) is None
    assert model_note(None) is None
    for path, text in texts.items():
        path.write_text(text)


def test_the_most_synthetic_part_counts(run, tmp_path):
    text = json.loads(records(run.run)[0].read_text())
    for name, share in (("one", 0.0), ("two", 0.25)):
        path = tmp_path / "heads" / name / "head.json"
        path.parent.mkdir(parents=True)
        HeadRecord.parse(path, text | {"head": name, "synthetic": share}).write(path)
    gone = tmp_path / "gone.csv"
    assert synthetic_share(tmp_path, ["one"], {}, gone) == 0.0
    assert synthetic_share(tmp_path, ["one", "two"], {}, gone) == 0.25
    # a model that another run fine-tuned, of which this run has the frames
    tuned = SimpleNamespace(pretrained=str(tmp_path / "finetuned" / "two"))
    assert synthetic_share(tmp_path, ["one"], {"tuned": tuned}, gone) == 0.25


def test_partly_synthetic_speech_is_described_as_such():
    assert model_note(0.25) == (
        "This model was trained partly on synthetic speech (25.0% of its clips); its predictions "
        "may say little about real emotion."
    )
    assert scores_note(0.999) == (
        "Part of the speech is synthetic (99.9% of the clips), so the scores say less about real "
        "emotion than they seem to."
    )
    assert (model_note(0.0), scores_note(0.0)) == (None, None)
