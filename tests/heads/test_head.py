"""Heads of a user's: mistakes name the class and the remedy."""

import sys

import pytest
from torch import nn

from ser.corpus.errors import UserError
from ser.heads.config import parse_head
from ser.heads.head import Head, build_head, head
from ser.heads.options import Architecture
from ser.heads.registry import HEADS
from tests.heads.factories import make_trainer


@pytest.fixture(autouse=True)
def forget():
    yield
    HEADS.remove("mine")


class Bare(nn.Module):
    def __init__(self, dims, outputs, options):
        self.prepare(dims)

    def prepare(self, dims):
        self.linear = nn.Linear(2, 2)

    def forward(self, features):
        return {}


class Unprepared(Bare):
    def prepare(self, dims):
        self.width = 2


class Exits(Bare):
    def prepare(self, dims):
        sys.exit(0)


class Confused(Bare):
    def prepare(self, dims):
        dims["video"]


class Empty(nn.Module):
    def __init__(self, dims, outputs, options):
        super().__init__()

    def forward(self, features):
        return {}


SUPER = "does not initialise its base class; begin its __init__ with super().__init__()."


@pytest.mark.parametrize(
    ("cls", "problem"),
    [
        (Bare, SUPER),
        (Unprepared, SUPER),
        (Exits, "cannot be built (SystemExit: 0); correct it."),
        (Confused, "cannot be built (KeyError: 'video'); correct it."),
    ],
)
def test_a_head_that_cannot_be_built_is_named(cls, problem):
    head("mine", Architecture)(cls)
    config = parse_head({"head": "mine", "features": ["a"]})
    with pytest.raises(UserError) as error:
        build_head(config, {"a": 2}, {"logits": 2})
    assert str(error.value) == f"the head 'mine' ({__name__}.{cls.__name__}) {problem}"


@pytest.mark.parametrize(("base", "lacking"), [(nn.Module, "forward"), (Head, "embed")])
def test_a_head_without_its_method_is_refused(base, lacking):
    class Lacking(base):
        def __init__(self, dims, outputs, options):
            super().__init__()

    with pytest.raises(UserError, match=f"the class does not define {lacking}; add it"):
        head("mine", Architecture)(Lacking)


def test_a_head_without_parameters_is_refused(tmp_path):
    class EmptyOptions(Architecture):
        hidden: int = 8

    head("mine", EmptyOptions)(Empty)
    with pytest.raises(UserError, match=r"test_head\.Empty\) has no parameters to train; assign"):
        make_trainer(tmp_path, head="mine")
