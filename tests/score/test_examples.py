"""The examples in the docstrings of score run and give what they show."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["attributes", "distributions", "labels", "speakers"])
def test_the_examples_run(name):
    failed, attempted = doctest.testmod(import_module(f"ser.score.{name}"))
    assert attempted > 0
    assert failed == 0
