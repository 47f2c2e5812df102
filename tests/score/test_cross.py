"""Scores across corpora by hand-made logits."""

import io

import pytest
from rich.console import Console

from ser.score.config import ScoreConfig
from ser.score.cross import OTHERS, CellScore, Cross, cross_rows, print_cross, score_cells
from tests.score.cross_factories import CORPORA, matrix, write_run


def test_each_corpus_is_scored_over_the_classes_that_both_have(tmp_path):
    write_run(tmp_path)
    a, b = score_cells(tmp_path, ["one"], "x", CORPORA, ScoreConfig(resamples=10))
    assert (a.train, a.test, a.classes, a.utterances) == ("x", "a", ["angry", "sad"], 2)
    assert a.scores["one"] == CellScore(macro_f1=1.0, uar=1.0, interval=None)
    assert (b.test, b.classes, b.utterances, b.speakers) == ("b", ["calm", "sad"], 3, 3)
    # sad: precision 1, recall 1/2; calm: both 1; angry, which b has not, is left out
    assert b.scores["one"].macro_f1 == pytest.approx((2 / 3 + 1) / 2)
    assert b.scores["one"].uar == pytest.approx(3 / 4)


def test_a_corpus_without_a_common_class_has_no_cell(tmp_path):
    write_run(tmp_path)
    corpora = CORPORA | {"b4": "c"}
    cells = score_cells(tmp_path, ["one"], None, corpora, ScoreConfig(resamples=10))
    assert [cell.test for cell in cells] == ["a", "b"]


def test_the_matrix_has_a_row_a_training_and_a_column_a_corpus():
    assert cross_rows(matrix(), "uar") == [
        ["a", "0.450", "-"],
        ["b", "0.250", "0.375"],
        [OTHERS, "-", "0.312"],
    ]
    assert cross_rows(matrix(), "macro_f1")[0] == ["a", "0.900 [.800, .950]", "-"]
    console = Console(file=io.StringIO(), width=80)
    print_cross(matrix(), console)
    printed = console.file.getvalue()
    assert "macro-F1 of stack by tested corpus, 95 % over speakers" in printed
    assert "UAR of stack by tested corpus\n" in printed
    note = "6 test speakers: with fewer than 20, intervals and p-values are rough."
    assert printed.endswith(f"{note}\n")


def test_a_matrix_is_read_again(tmp_path):
    matrix().write(tmp_path / "cross.json")
    assert Cross.read(tmp_path / "cross.json") == matrix()
