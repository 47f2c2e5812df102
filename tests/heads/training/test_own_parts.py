"""Losses and samplers of a user's: their options, and mistakes that name the function."""

import numpy as np
import pytest
import torch
from pydantic import Field, ValidationError

from ser.corpus.errors import UserError
from ser.heads.config import parse_head
from ser.heads.options import LossUse, SamplerUse
from ser.heads.registry import LOSSES, SAMPLERS
from ser.heads.training.losses import Setting, loss
from ser.heads.training.objective import outputs_of, total_loss
from ser.heads.training.samplers import draw_epoch, sampler
from ser.heads.training.targets import Targets
from tests.heads.factories import make_trainer

OUTPUTS = {"logits": torch.zeros(3, 2), "attributes": torch.tensor([[1.0, 2.0, 3.0]])}
TARGETS, SETTING = Targets(torch.eye(3, 2)), Setting(torch.ones(2))
LABELS = np.array([0, 1, 1, -1])


@pytest.fixture(autouse=True)
def forget():
    """Forget what a test registers."""
    before = {registry: set(registry.names()) for registry in (LOSSES, SAMPLERS)}
    yield
    for registry, names in before.items():
        for name in set(registry.names()) - names:
            registry.remove(name)


class PowerLoss(LossUse):
    power: float = Field(default=2.0, gt=0)


class FirstSampler(SamplerUse):
    first: int = 2


def head(**entry):
    return parse_head({"features": ["a"]} | entry)


def test_a_loss_reads_its_options_and_its_output():
    @loss("power", PowerLoss, output="attributes", target="attributes")
    def power(outputs, targets, setting, *, power):
        return (outputs["attributes"] ** power).mean()

    config = head(loss=[{"name": "power", "power": 3, "weight": 2}])
    assert (config.gives, config.reads) == ({"attributes"}, {"attributes"})
    assert config.chosen_by == "ccc"
    assert outputs_of(config, 8, 2) == {"attributes": 3}
    assert total_loss(config, OUTPUTS, TARGETS, SETTING) == pytest.approx(24)
    assert config.model_dump(mode="json", exclude_defaults=True)["loss"] == [
        {"name": "power", "weight": 2.0, "power": 3.0}
    ]
    for wrong in ({"powr": 3}, {"power": 0}):
        with pytest.raises(ValidationError) as error:
            head(loss=[{"name": "power"} | wrong])
        assert error.value.errors()[0]["loc"] == ("loss", 0, "PowerLoss", *wrong)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (lambda outputs: outputs["logits"].mean(dim=1), "shape (3,)"),
        (lambda outputs: 0.5, "float"),
        (lambda outputs: None, "NoneType"),
    ],
)
def test_a_loss_that_is_not_a_scalar_is_named(value, got):
    def mine(outputs, targets, setting):
        return value(outputs)

    loss("mine")(mine)
    with pytest.raises(UserError) as error:
        total_loss(head(loss=["mine"]), OUTPUTS, TARGETS, SETTING)
    assert str(error.value) == (
        f"the loss 'mine' ({__name__}.{mine.__qualname__}) returned {got}, not a scalar tensor; "
        "return the mean over the batch."
    )


def test_a_part_must_take_its_options():
    with pytest.raises(UserError, match=r"must be \(outputs, targets, setting, \*\*options\)\.$"):
        loss("power", PowerLoss)(lambda outputs, targets, setting: None)
    with pytest.raises(UserError, match=r"must be \(labels, neutral, rng, \*\*options\)\.$"):
        sampler("first", FirstSampler)(lambda labels, neutral, rng: None)
    with pytest.raises(UserError, match=r"\(builtins.dict\) are not a subclass of LossUse; derive"):
        loss("power", dict)(len)
    with pytest.raises(UserError, match=r"\(of type int\): it cannot be called; register a func"):
        sampler("first")(3)


def test_a_head_is_trained_with_a_loss_and_a_sampler_of_ones_own(tmp_path):
    drawn = []

    @loss("brier")
    def brier(outputs, targets, setting):
        """Return the mean squared error of the probabilities."""
        return ((outputs["logits"].softmax(dim=1) - targets.classes) ** 2).sum(dim=1).mean()

    @sampler("first", FirstSampler)
    def first(labels, neutral, rng, *, first):
        """Draw the first of each class."""
        drawn.append(np.concatenate([np.flatnonzero(labels == c)[:first] for c in range(3)]))
        return drawn[-1]

    options = {"loss": ["brier"], "sampler": {"name": "first", "first": 4}, "epochs": 3}
    trained = make_trainer(tmp_path, **options).fit()
    assert [len(positions) for positions in drawn] == [12, 12, 12]
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]


@pytest.mark.parametrize(
    ("drawn", "problem"),
    [
        ([0, 1], "a list, not an array"),
        (np.array([0.0, 1.0]), "an array of shape (2,) and type float64"),
        (np.array([[0, 1]]), "an array of shape (1, 2) and type int64"),
        (np.array([], np.int64), "no positions"),
        (np.array([0, 4]), "the position 4, of 4 utterances"),
        (np.array([-1]), "the position -1, of 4 utterances"),
    ],
)
def test_mistakes_of_a_sampler_name_the_function_and_the_remedy(drawn, problem):
    def mine(labels, neutral, rng):
        return drawn

    sampler("mine")(mine)
    with pytest.raises(UserError) as error:
        draw_epoch(head(sampler="mine").sampler, LABELS, None, np.random.default_rng(0))
    assert str(error.value) == (
        f"the sampler 'mine' ({__name__}.{mine.__qualname__}) returned {problem}; return integer "
        "positions from 0 to 3."
    )
