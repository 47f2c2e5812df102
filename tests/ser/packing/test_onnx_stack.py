"""The graph of a stack computes what the stack predicts."""

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ser.corpus.errors import UserError
from ser.packing.onnx_stack import stack_graph
from ser.stack.attributes import MeanAttributes, RidgeAttributes
from ser.stack.config import StackConfig
from ser.stack.fitting import make_classifier
from ser.stack.model import FittedStack
from ser.stack.table import LogitTable, Rows
from tests.stack.factories import noisy

HEADS = ("one", "two", "three")


def fitted(model, *, attributes=0, **options):
    """Return a stack of three heads, and the rows that it was fitted on."""
    X, y = noisy((3.0, 4.0, 5.0))
    ratings = np.random.default_rng(1).uniform(1, 7, (len(X), 2 * attributes))
    config = StackConfig(model=model, folds=2, **options)
    rows = Rows.new(X.astype(np.float32), ratings.astype(np.float32))
    columns = dict.fromkeys(HEADS[:2], ("arousal", "valence")[:attributes])
    table = LogitTable.without_rows(Path(), dict.fromkeys(HEADS, ""), "abc", HEADS, columns)
    stack = FittedStack(config, "unicamp", make_classifier(config, table))
    X = stack.inputs(rows)
    stack.classifier.fit(*(X, y) if config.learns_from else ())
    return stack, rows


def require_equal(stack, rows, attributes=0):
    """Compare a graph's outputs with the stack's predictions, for all rows and for one."""
    rated = [(name, attributes) for name in HEADS[:2] if attributes]
    model = stack_graph(stack, 3, HEADS, rated)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert [i.name for i in session.get_inputs()][:3] == [f"{name}.logits" for name in HEADS]
    for count in (len(rows.logits), 1):
        logits, ratings = rows.logits[:count], rows.predicted[:count]
        inputs = {f"{h}.logits": logits[:, 3 * i : 3 * i + 3] for i, h in enumerate(HEADS)}
        for i, (name, width) in enumerate(rated):
            inputs[f"{name}.attributes"] = ratings[:, width * i : width * (i + 1)]
        names = [output.name for output in session.get_outputs()]
        outputs = dict(zip(names, session.run(None, inputs), strict=True))
        expected = stack.predict(Rows.new(logits, ratings))
        assert np.array_equal(outputs["emotion"], expected.chosen)
        np.testing.assert_allclose(outputs["probabilities"], expected.probability, atol=1e-6)
        if attributes:
            np.testing.assert_allclose(outputs["attributes"], expected.attributes, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("random_forest", {"random_forest": {"trees": 20}}),
        ("extra_trees", {"extra_trees": {"trees": 5}, "input": "both"}),
        ("random_forest", {"random_forest": {"trees": 5}, "input": "probabilities"}),
        ("logistic", {}),
        ("mean_logits", {}),
        ("mean_proba", {}),
        ("mean_scaled", {}),
        ("log_pool", {}),
        ("best_head", {}),
        ("weighted", {}),
        ("greedy", {}),
        ("top_k", {"top_k": {"k": 2}}),
        ("top_k", {"top_k": {"k": 2, "by": "plurality"}}),
        ("majority", {}),
    ],
)
def test_a_graph_predicts_as_its_stack_does(model, options):
    require_equal(*fitted(model, **options))


def test_offsets_and_temperature_are_in_the_graph():
    stack, rows = fitted("mean_proba")
    shifted = dataclasses.replace(stack, offsets=np.array([0.5, -1.0, 0.5]), temperature=2.5)
    require_equal(shifted, rows)
    assert not np.array_equal(shifted.predict(rows).chosen, stack.predict(rows).chosen)
    votes, rows = fitted("majority")
    require_equal(dataclasses.replace(votes, temperature=0.5), rows)


def test_attributes_are_read_and_rated():
    stack, rows = fitted("meta_soup", attributes=2, draws=1)
    truth = np.random.default_rng(2).uniform(1, 7, (len(rows.logits), 2))
    ridge = RidgeAttributes().fit(rows.predicted, truth)
    require_equal(dataclasses.replace(stack, regressor=ridge), rows, attributes=2)
    stack, rows = fitted("mean_logits", attributes=2)
    mean = MeanAttributes([[0, 2], [3]]).fit()
    require_equal(dataclasses.replace(stack, regressor=mean), rows, attributes=2)


def test_a_model_without_a_graph_is_one_sentence():
    stack, _ = fitted("mean_logits")
    stack.classifier = object()
    with pytest.raises(UserError, match=r"^the stack: its object has no ONNX graph; use "):
        stack_graph(stack, 3, HEADS, [])
