"""The examples in the docstrings of the meta-models run and give what they show."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["attributes", "config", "folds", "forest", "rules"])
def test_the_examples_run(name):
    failed, attempted = doctest.testmod(import_module(f"ser.stack.{name}"))
    assert attempted > 0
    assert failed == 0
