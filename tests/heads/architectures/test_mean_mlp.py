"""Mean and deviation over time: by hand, and the conformance suite."""

from typing import ClassVar

import numpy as np
import pytest
import torch

from ser.heads.architectures.mean_mlp import MeanMLP
from ser.heads.options import MeanMLPOptions
from ser.heads.testing import EVERY_OUTPUT, HeadConformance, padded


class TestMeanMLP(HeadConformance):
    name = "mean_mlp"
    options: ClassVar = {"hidden": 8}
    outputs: ClassVar = EVERY_OUTPUT


class TestMeanMLPWithDeviation(HeadConformance):
    name = "mean_mlp"
    options: ClassVar = {"hidden": 8, "deviation": True}
    outputs: ClassVar = EVERY_OUTPUT


@pytest.mark.parametrize("deviation", [False, True])
def test_the_embedding_is_the_moments_of_each_feature_in_order(deviation):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, 3)), rng.standard_normal((4, 2))
    options = MeanMLPOptions(hidden=4, deviation=deviation)
    module = MeanMLP({"a": 3, "b": 2}, {"logits": 5}, options).eval()
    parts = [m for x in (a, b) for m in ((x.mean(0), x.std(0)) if deviation else (x.mean(0),))]
    expected = torch.from_numpy(np.concatenate(parts)).float()[None]
    batch = padded([{"b": torch.from_numpy(b).float(), "a": torch.from_numpy(a).float()}], 3, 1e3)
    torch.testing.assert_close(module.embed(batch), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(module(batch)["logits"], module.outputs["logits"](module.embed(batch)))


def test_attributes_are_on_the_scale_of_one_to_seven():
    module = MeanMLP({"a": 3}, {"attributes": 3}, MeanMLPOptions(hidden=4)).eval()
    batch = padded([{"a": torch.randn(7, 3)}], 0, 0.0)
    for bias in (-1e3, 0.0, 1e3):
        torch.nn.init.constant_(module.outputs["attributes"][-1].bias, bias)
        torch.nn.init.zeros_(module.outputs["attributes"][-1].weight)
        expected = {-1e3: 1.0, 0.0: 4.0, 1e3: 7.0}[bias]
        assert module(batch)["attributes"].tolist() == [[expected] * 3]
