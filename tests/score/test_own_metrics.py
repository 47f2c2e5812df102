"""Metrics of a user's: in metrics.json, in the tables, as what an epoch is chosen by; mistakes."""

import io

import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console

from ser.corpus.errors import UserError
from ser.heads.config import parse_head
from ser.score.config import ScoreConfig
from ser.score.metrics import METRICS, metric, reported
from ser.score.run import render, score_run
from ser.score.scores import plain_values
from tests.heads.factories import make_trainer

ROWS = {"dev": ([[2, 0], [2, 0], [0, 1], [0, 2]], [0, 1, 1, 1])}


@pytest.fixture
def register():
    """Register metrics for a test."""
    before = set(METRICS.names())
    yield lambda name, function: metric(name)(function)
    for name in set(METRICS.names()) - before:
        METRICS.remove(name)


def worst_recall(matrix):
    """Return the recall of the class that is found least."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    return (hits / np.maximum(matrix.sum(axis=-1), 1)).min(axis=-1)


def test_a_metric_is_reported_with_its_interval_and_by_group(tmp_path, write_head, register):
    register("worst", worst_recall)
    write_head("a", ROWS)
    metrics = score_run(tmp_path, ScoreConfig(metrics=("worst", "micro_f1")), ["a"])
    numbers = plain_values(metrics)["dev"]["a"]
    assert numbers["worst"] == pytest.approx(2 / 3)
    assert list(numbers["interval"]) == [
        *("macro_f1", "uar", "accuracy", "worst", "micro_f1", "per_class")
    ]
    out = io.StringIO()
    render(metrics, Console(file=out, width=120))
    first = out.getvalue().splitlines()[1:4]
    assert any(line.split()[-2:] == ["worst", "micro_f1"] for line in first)


def test_the_best_epoch_may_be_chosen_by_it(tmp_path, register):
    register("worst", worst_recall)
    trainer = make_trainer(tmp_path, best_by="worst")
    trained = trainer.fit()
    scores = [row["dev_worst"] for row in trained.history]
    assert trained.best_score == max(scores)
    assert trained.best_epoch == int(np.argmax(scores))


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda m: "high", "returned shape (), type <U4 for confusion matrices (2, 2); return a"),
        (lambda m: m, "returned shape (2, 2), type int64 for confusion matrices (2, 2); return a"),
        (lambda m: None, "returned shape (), type object for confusion matrices (2, 2); return a"),
        (lambda m: np.nan, "returned nan for [[1, 0], [0, 1]]; return a number, also where a"),
    ],
)
def test_mistakes_name_the_function_and_the_remedy(register, function, problem):
    register("wrong", function)
    with pytest.raises(UserError) as error:
        reported(["wrong"])["wrong"](np.eye(2, dtype=np.int64))
    message = str(error.value)
    assert message.startswith(f"the metric 'wrong' ({__name__}.<lambda>) {problem}")


def test_a_metric_that_takes_only_a_single_matrix_is_refused(register):
    register("single", lambda matrix: float(np.trace(matrix)) if matrix.ndim == 2 else 0.0)
    single = reported(["single"])["single"]
    assert single(np.eye(2, dtype=np.int64)) == 2
    with pytest.raises(UserError, match=r"a float for each, shape \(5,\)\.$"):
        single(np.zeros((5, 2, 2), np.int64))


def test_names_that_are_refused(register):
    with pytest.raises(UserError, match=r"metrics\.json has this key"):
        register("ece", worst_recall)
    with pytest.raises(UserError, match="this name is built in"):
        register("uar", worst_recall)
    with pytest.raises(UserError, match=r"its arguments must be \(matrix\)"):
        register("none", lambda: 0.0)
    with pytest.raises(ValidationError, match="the metric 'uarr' is unknown; did you mean 'uar'"):
        ScoreConfig(metrics=("uarr",))
    with pytest.raises(ValidationError, match="the metric 'uarr' is unknown; did you mean 'uar'"):
        parse_head({"features": ["a"], "best_by": "uarr"})
