"""The stack as an estimator of scikit-learn."""

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils import estimator_html_repr

from ser.corpus.errors import UserError
from ser.stack import run as stack_run
from ser.stack.classifier import Stack
from ser.stack.config import StackConfig
from ser.stack.table import LogitTable
from tests.stack.conftest import CLASSES


@pytest.fixture
def table(write_run):
    return LogitTable.read(write_run(sizes={"train": 60, "dev": 30, "": 5}) / "heads")


def arrays(table, split="train"):
    rows = table.splits[split]
    return rows.logits, np.array(CLASSES)[rows.label], rows.speaker


@pytest.mark.parametrize("model", ["logistic", "top_k", "mean_logits", "majority"])
def test_a_table_gives_the_predictions_of_the_run(write_run, model):
    run = write_run()
    stack_run.fit(run, ["a", "b"], StackConfig(model=model, folds=2))
    expected = pl.read_parquet(run / "stack" / "predictions.parquet").filter(split="dev")
    dev = LogitTable.read(run / "heads").splits["dev"]
    stack = Stack(model, folds=2).fit(LogitTable.read(run / "heads"))
    assert stack.predict(dev).tolist() == expected["prediction"].to_list()
    probabilities = expected.select(f"p.{name}" for name in CLASSES).to_numpy()
    np.testing.assert_array_equal(stack.predict_proba(dev), probabilities)
    truth = np.array(CLASSES)[dev.label]
    assert stack.score(dev) == pytest.approx(f1_score(truth, stack.predict(dev), average="macro"))


def test_arrays_give_what_a_table_gives(table):
    logits, labels, _ = arrays(table)
    order = [CLASSES.index(name) for name in sorted(CLASSES)]
    columns = np.concatenate([np.array(order), 3 + np.array(order)])
    stack = Stack("mean_logits").fit(logits[:, columns], labels)
    assert stack.classes_.tolist() == sorted(CLASSES)
    by_table = Stack("mean_logits").fit(table)
    dev, truth, _ = arrays(table, "dev")
    assert stack.predict(dev[:, columns]).tolist() == by_table.predict(table.splits["dev"]).tolist()
    assert stack.score(dev[:, columns], truth) == by_table.score(table.splits["dev"])


def test_speakers_make_the_folds_disjoint(table):
    logits, labels, speakers = arrays(table)
    stack = Stack("logistic", folds=2).fit(logits, labels, groups=speakers)
    assert stack.stack_.protocol == "oof"
    assert Stack("logistic", folds=2).fit(logits, labels).stack_.protocol == "unicamp"


def test_scikit_learn_can_validate_search_clone_and_show_it(table):
    logits, labels, _ = arrays(table)
    stack = Stack("logistic", folds=2)
    assert cross_val_score(stack, logits, labels, cv=2).min() > 0.5
    search = GridSearchCV(stack, {"model": ["logistic", "mean_proba"]}, cv=2, error_score="raise")
    assert search.fit(logits, labels).best_estimator_.predict(logits).shape == (60,)
    assert clone(stack).set_params(folds=3).get_params() == {"model": "logistic", "folds": 3}
    assert "logistic" in estimator_html_repr(stack)


def test_mistakes_are_sentences(table):
    logits, labels, _ = arrays(table)
    stack = Stack("logistic", folds=2)
    with pytest.raises(NotFittedError, match=r"^Stack: it is not fitted yet; call `fit` first\."):
        stack.predict(logits)
    for X, y, message in [
        (logits, None, "`y` is missing"),
        (logits, labels[:9], "60 rows of logits and 9 values in `y`"),
        (
            logits[:, :5],
            labels,
            "5 columns of logits are not a multiple of the 3",
        ),
        (logits[0], labels, r"X is an array of shape \(6,\) and float32"),
        (np.full_like(logits, np.nan), labels, "X has values that are not finite"),
        (table, labels, "a table has its own labels"),
    ]:
        with pytest.raises(UserError, match=message):
            stack.fit(X, y)
    with pytest.raises(UserError, match="`groups` is missing"):
        Stack("logistic", protocol="oof").fit(logits, labels)
    with pytest.raises(UserError, match="no option 'fold'; did you mean 'folds'"):
        stack.set_params(fold=3)
    with pytest.raises(UserError, match="did you mean 'logistic'"):
        Stack("logistics").fit(logits, labels)
    with pytest.raises(UserError, match="the logits have 3 columns, but it was fitted on 6"):
        stack.fit(logits, labels).predict(logits[:, :3])
