"""`ser score` of other tools' predictions, and with a wanted risk."""

import json

import polars as pl
import pytest

from ser.commands.main import cli
from ser.corpus.errors import UserError
from tests.ser.commands.factories import write_run


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Make a run of 30 utterances, six each in dev and test, in the current folder."""
    write_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def score(run, capsys):
    def score(*words):
        assert cli(["score", *words], standalone_mode=False) == 0
        return capsys.readouterr()

    return score


def write_other(run, split="test"):
    """Write the predictions of a tool that is right about one split but for one utterance."""
    rows = pl.read_csv(run / "m.csv").filter(pl.col("split") == split)
    wrong = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("calm")).otherwise("emotion")
    rows.select(pl.col("path"), prediction=wrong).write_csv(run / "other.csv")


def test_other_predictions_are_scored_beside_the_run_and_compared(run, score):
    write_other(run)
    scores = json.loads(score("--predictions", "other.csv", "--json").out)
    assert list(scores["test"]) == ["one", "two", "other.csv"]
    assert list(scores["dev"]) == ["one", "two"]
    other = scores["test"]["other.csv"]
    assert (other["accuracy"], other["missing"]) == (5 / 6, 0)
    assert len(other["confusion"]) == len(scores["test"]["one"]["confusion"]) == 4
    (comparison,) = scores["comparisons"]
    assert comparison["first"] == "other.csv: other.csv"
    assert comparison["n"] == 6
    written = json.loads((run / "run/report/metrics.json").read_text())
    assert list(written["test"]) == ["one", "two"]
    assert len(written["test"]["one"]["confusion"]) == 3


def test_with_a_manifest_no_run_is_needed(run, score):
    write_other(run)
    (run / "pipeline.yaml").unlink()
    words = ("--predictions", "other.csv", "--manifest", "m.csv", "--set", "score.resamples=20")
    printed = score(*words)
    assert "test: 6 labelled utterances of 2 speakers" in printed.out
    assert "other.csv" in printed.out
    assert printed.err == (
        "ser: other.csv: it predicts calm, which no utterance is: those are wrong.\n"
    )


def test_a_wanted_risk_has_a_threshold_chosen_on_dev(score):
    printed = score("--risk", "0.5").out
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "system min. confidence dev coverage risk test coverage risk" in lines
    assert lines[-1] == "thresholds are chosen on dev; use one as `ser predict --min-confidence`"
    scores = json.loads(score("--risk", "0.5", "--json").out)
    assert [entry["system"] for entry in scores["thresholds"]] == ["one", "two"]
    for entry in scores["thresholds"]:
        assert entry["dev"]["risk"] <= 0.5


def test_options_that_do_not_belong_together_are_refused(run):
    for words, problem in (
        (["--partial"], "--partial: it is an option of --predictions"),
        (["--manifest", "m.csv"], "--manifest: give --predictions with it, and no --risk."),
    ):
        with pytest.raises(UserError, match=problem):
            cli(["score", *words], standalone_mode=False)
