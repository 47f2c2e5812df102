"""Pooled rotations by hand-made logits: rows, scores, mean and sd."""

import io

import numpy as np
import pytest
from rich.console import Console

from ser.cache.logits import HeadLogits
from ser.corpus.errors import UserError
from ser.score.rotations import (
    RepetitionScores,
    Rotations,
    pool,
    pool_heads,
    print_rotations,
    rotation_rows,
    rotation_scores,
    summary,
)
from tests.score.rotation_factories import FIRST, SECOND, head, write_runs

RIGHT = {"macro_f1": 1.0, "uar": 1.0}


def test_pooled_rows_are_those_of_all_rotations():
    pooled = pool([head(FIRST, "f1"), head(SECOND, "f2")])
    rows = pooled.splits["test"]
    assert list(pooled.splits) == ["test"]
    assert rows.utterance == ["a1", "a2", "b1", "b2", "b3"]
    assert rows.logits.tolist() == [[2, 1], [2, 0], [3, 0], [0, 1], [0, 1]]
    assert rows.label.tolist() == [0, 1, 0, 1, -1]
    assert rows.fold.tolist() == [0, 0, 1, 1, 1]
    assert (rows.speaker, rows.groups) == (["a", "a", "b", "b", "b"], [["Female"]] * 5)
    assert pooled.features == {"w": "x"}
    assert pooled.fingerprint != pool([head(FIRST, "f1"), head(SECOND, "f3")]).fingerprint


def test_rotations_that_cannot_be_pooled():
    with pytest.raises(UserError, match="head 'one': two rotations test the same utterance"):
        pool([head(FIRST), head(FIRST)])
    with pytest.raises(UserError, match="head 'one': its classes differ between rotations"):
        pool([head(FIRST), head(SECOND, classes=("angry", "calm"))])


def test_scores_of_rotations_and_of_the_pooled_run(tmp_path):
    runs = write_runs(tmp_path)
    first, second = (rotation_scores(run.name, run, ["one"]) for run in runs)
    assert (first.utterances, first.speakers) == (2, 1)
    assert first.scores["one"] == pytest.approx({"macro_f1": 1 / 3, "uar": 1 / 2})
    assert second.scores == {"one": RIGHT}
    pool_heads(runs, tmp_path / "pooled", ["one"])
    pooled = rotation_scores("all", tmp_path / "pooled", ["one"])
    # angry: precision 2/3, recall 1; sad: precision 1, recall 1/2
    assert pooled.scores["one"] == pytest.approx({"macro_f1": (4 / 5 + 2 / 3) / 2, "uar": 3 / 4})
    assert (pooled.utterances, pooled.speakers) == (5, 2)


def test_pooled_heads_are_written_once(tmp_path):
    runs, file = write_runs(tmp_path), tmp_path / "pooled" / "heads" / "one" / "logits.h5"
    pool_heads(runs, tmp_path / "pooled", ["one"])
    before = file.stat().st_ino
    pool_heads(runs, tmp_path / "pooled", ["one"])
    assert file.stat().st_ino == before
    file.write_bytes(file.read_bytes()[:-1])
    pool_heads(runs, tmp_path / "pooled", ["one"])
    assert HeadLogits.read(file).splits["test"].utterance[-1] == "b3"


def test_mean_and_sd_of_rotations_and_seeds(tmp_path):
    parts = [rotation_scores(run.name, run, ["one"]) for run in write_runs(tmp_path)]
    seeds = [RepetitionScores(seed=n, scores={"one": {"macro_f1": 0.25 * n}}) for n in (1, 3)]
    rotations = Rotations(by="speaker", rotations=parts, repetitions=seeds)
    scores = summary(rotations)["one"]
    sd = pytest.approx(np.sqrt(2) / 3)  # of 1/3 and 1
    assert scores["rotations"]["macro_f1"] == {"mean": pytest.approx(2 / 3), "sd": sd, "n": 2}
    assert scores["rotations"]["uar"]["mean"] == 0.75
    assert scores["seeds"]["macro_f1"] == {"mean": 0.5, "sd": pytest.approx(0.3535534), "n": 2}
    header, rows = rotation_rows(rotations)
    assert header == [
        "system",
        "macro-F1, rotations",
        "UAR, rotations",
        "macro-F1, seeds",
        "UAR, seeds",
    ]
    assert rows == [["one", "0.667 ± 0.471", "0.750 ± 0.354", "0.500 ± 0.354", "-"]]


def test_one_repetition_has_no_column_of_seeds(tmp_path):
    parts = [rotation_scores(run.name, run, ["one"]) for run in write_runs(tmp_path)]
    seeds = [RepetitionScores(seed=1, scores={"one": RIGHT})]
    rotations = Rotations(by="session", rotations=parts[:1], repetitions=seeds)
    assert list(summary(rotations)["one"]) == ["rotations"]
    console = Console(file=io.StringIO(), width=80)
    print_rotations(rotations, console)
    title, _, header, _, row = console.file.getvalue().splitlines()[:5]
    assert title.strip() == "mean ± sd of 1 rotation by session"
    assert header.split() == ["system", "macro-F1,", "rotations", "UAR,", "rotations"]
    assert row.split() == ["one", "0.333", "±", "-", "0.500", "±", "-"]


def test_rotations_are_read_again(tmp_path):
    parts = [rotation_scores(run.name, run, ["one"]) for run in write_runs(tmp_path)]
    rotations = Rotations(by="speaker", rotations=parts)
    rotations.write(tmp_path / "rotations.json")
    assert Rotations.read(tmp_path / "rotations.json") == rotations
