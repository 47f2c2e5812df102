"""Pointwise convolutions and the mean: against Conv1d, and the conformance suite."""

from typing import ClassVar

import torch
from torch import nn

from ser.heads.architectures.conv_pool import ConvPool
from ser.heads.options import ConvPoolOptions
from ser.heads.testing import EVERY_OUTPUT, HeadConformance, padded


class TestConvPool(HeadConformance):
    name = "conv_pool"
    options: ClassVar = {"hidden": 8}
    outputs: ClassVar = EVERY_OUTPUT


def test_it_is_three_convolutions_and_the_mean_over_time():
    module = ConvPool({"a": 3}, {"logits": 5}, ConvPoolOptions(hidden=4)).eval()
    linear = [m for m in module.convolutions[0] if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(3, 4), (4, 4), (4, 4)]
    frames = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    x = frames.T[None]
    for i, m in enumerate(linear):
        x = nn.functional.conv1d(x, m.weight.unsqueeze(-1), m.bias)
        x = x.relu() if i < 2 else x
    actual = module.embed(padded([{"a": frames}], 2, 1e3))
    torch.testing.assert_close(actual, x.mean(dim=2), atol=1e-6, rtol=1e-5)
