"""`ser runs` as typed: the table, JSON, CSV, and two runs compared."""

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from ser.cache.logits import HeadLogits, SplitLogits
from ser.commands.main import cli
from ser.corpus.errors import UserError
from tests.score.run_list_factories import write, write_run


def typed(line):
    done = CliRunner().invoke(cli, line.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_table_lists_runs_and_what_they_lack(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "a")
    write(tmp_path / "runs" / "half" / "pipeline.yaml", "corpus: {manifest: m.csv}\nheads: {x: {}}")
    shown = typed("runs")
    a, half = (next(li for li in shown.splitlines() if f" {n} " in li) for n in ("a", "half"))
    assert " ".join(a.split()) == (
        "a ravdess whisper, prosody 2 two 0.375 0.500 1.5 2027-01-15 complete 50%"
    )
    assert half.split()[:3] == ["half", "m", "1"]
    assert shown.splitlines()[-1] == "half: 0 of 1 head trained"
    assert "CCC" not in shown


@pytest.mark.parametrize("words", ["{}", "list {}", "-q list {}", "-q {}", "list -q {}"])
def test_list_may_be_left_out_and_flags_may_come_first(tmp_path, words):
    write_run(tmp_path / "a")
    assert typed(f"runs {words.format(tmp_path)}") == typed(f"runs list {tmp_path}")


@pytest.mark.parametrize("option", ["--log-file {}/log", "--log-file={}/log"])
def test_the_log_file_may_come_first(tmp_path, option):
    write_run(tmp_path / "a")
    option = option.format(tmp_path)
    assert typed(f"runs {option} list {tmp_path}") == typed(f"runs {option} {tmp_path}")
    assert (tmp_path / "log").stat().st_size


def test_json_and_csv_have_a_row_a_run(tmp_path):
    write_run(tmp_path / "a")
    rows = json.loads(typed(f"runs {tmp_path} --json --csv {tmp_path}/runs.csv"))
    assert [row["features"] for row in rows] == [["whisper", "prosody"]]
    table = pl.read_csv(tmp_path / "runs.csv")
    assert table.columns == list(rows[0])
    assert table.row(0, named=True) == rows[0] | {
        "features": "whisper prosody",
        "heads": "one two",
    }


def write_head(run, name, logits, speakers=6):
    rows = SplitLogits(
        utterance=[f"u{i}" for i in range(6)],
        logits=logits,
        label=np.array([0, 1, 1, 0, 1, 0]),
        speaker=[f"s{i % speakers}" for i in range(6)],
        fold=np.full(6, -1),
        rows="held-out",
    )
    head = HeadLogits(name, ("angry", "sad"), "f", {}, {"test": rows})
    head.write(run / "heads" / name / "logits.h5")


def test_two_runs_are_compared(tmp_path):
    logits = np.array([[1, 0], [0, 1], [0, 1], [1, 0], [1, 0], [0, 1]])
    write_head(tmp_path, "one", logits)
    write_head(tmp_path, "two", logits[:, ::-1])
    shown = typed(f"runs compare {tmp_path} {tmp_path} --system one --system two")
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines[:3] == [
        f"A {tmp_path}: one",
        f"B {tmp_path}: two",
        "test: 6 utterances of 6 speakers in both; A lacks 0 of B's, B lacks 0 of A's",
    ]
    (macro,) = (line for line in lines if line.startswith("macro-F1"))
    assert macro.startswith("macro-F1 0.667 [")
    assert "agreement: kappa -1.00, same prediction 0.0%" in shown
    assert "both right 0.0%, only A 66.7%, only B 33.3%, both wrong 0.0%" in shown
    comparison = json.loads(typed(f"runs compare {tmp_path} {tmp_path} --system one --json"))
    assert comparison["macro_f1"]["difference"] == {"value": 0.0, "interval": [0.0, 0.0], "p": 1.0}


def test_with_few_speakers_there_is_no_interval(tmp_path):
    logits = np.array([[1, 0], [0, 1], [0, 1], [1, 0], [1, 0], [0, 1]])
    write_head(tmp_path, "one", logits, speakers=2)
    lines = [" ".join(x.split()) for x in typed(f"runs compare {tmp_path} {tmp_path}").splitlines()]
    assert "macro-F1 0.667 0.667 0.000 n/a: 2 speakers n/a" in lines
    assert lines[-1] == (
        "2 test speakers: too few for intervals and p-values, which need at least 5."
    )


def test_three_systems_are_refused(tmp_path):
    with pytest.raises(UserError, match="--system is given 3 times"):
        typed("runs compare a b" + " --system x" * 3)
