"""Pointwise convolutions and the mean: against Conv1d, and the conformance suite."""

from typing import ClassVar

import pytest
import torch
from torch import nn

from corpus.errors import UserError
from heads.config import ConvPoolOptions
from heads.architectures.conv_pool import ConvPool
from heads.testing import HeadConformance, padded


class TestConvPool(HeadConformance):
    name = "conv_pool"
    options: ClassVar = {"hidden": 8}


def test_it_is_three_convolutions_and_the_mean_over_time():
    module = ConvPool({"a": 3}, 5, ConvPoolOptions(hidden=4), frozenset()).eval()
    linear = [m for m in module.convolutions[0] if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(3, 4), (4, 4), (4, 4)]
    frames = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    x = frames.T[None]
    for m in linear:
        x = nn.functional.conv1d(x, m.weight.unsqueeze(-1), m.bias).relu()
    expected = module.classifier(x.mean(dim=2))
    found = module(padded([{"a": frames}], 2, 1e3))["logits"]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_an_output_it_does_not_have_is_named():
    with pytest.raises(UserError, match="head conv_pool: it has no output neutral_logit;"):
        ConvPool({"a": 4}, 8, ConvPoolOptions(), frozenset({"neutral_logit"}))
