"""The entry of one head."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from corpus.errors import UserError
from heads.config import parse_head, valid_keys


def test_short_forms_and_defaults():
    config = parse_head({"features": ["a", {"name": "b", "stride": 4}], "hidden": 32})
    assert [(use.name, use.stride) for use in config.features] == [("a", 1), ("b", 4)]
    assert [(loss.name, loss.weight) for loss in config.loss] == [("wce", 1.0)]
    assert config.architecture.hidden == 32
    assert (config.views, config.augmented) == ((), 0.5)
    assert (config.epochs, config.lr, config.batch, config.weight_decay) == (30, 1e-5, 64, 1e-6)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"features": []}, "at least 1 item"),
        ({"features": ["a", "a"]}, "a feature is named twice"),
        ({"features": ["a"], "loss": ["focall"]}, "'wce' or 'sml'"),
        ({"features": ["a"], "views": ["noise", "noise"]}, "views: noise, noise: a view is named"),
        ({"features": ["a"], "augmented": 1.01}, "less than or equal to 1"),
        ({"features": ["a"], "augmented": float("nan")}, "less than or equal to 1"),
        ({"features": ["a"], "dropout": 1.0}, "less than 1"),
        ({"features": ["a"], "epoch": 3}, "Extra inputs"),
    ],
)
def test_what_is_wrong_is_said(entry, message):
    with pytest.raises(ValidationError, match=message):
        parse_head(entry)


def test_an_unknown_architecture_is_named():
    with pytest.raises(UserError) as error:
        parse_head({"head": "cross_model_gru", "features": ["a"]})
    assert str(error.value) == (
        "heads: the head 'cross_model_gru' is unknown; did you mean 'cross_modal_gru'?"
    )


def test_valid_keys_include_the_architecture():
    assert {"features", "views", "augmented", "hidden", "attention_heads"} <= set(valid_keys({}))


def test_it_needs_no_torch():
    code = "import heads.config, heads.run, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
