"""Mean and deviation over time: by hand, and the conformance suite."""

from typing import ClassVar

import numpy as np
import pytest
import torch

from corpus.errors import UserError
from heads.config import MeanMLPOptions
from heads.architectures.mean_mlp import MeanMLP
from heads.testing import HeadConformance, padded


class TestMeanMLP(HeadConformance):
    name = "mean_mlp"
    options: ClassVar = {"hidden": 8}


class TestMeanMLPWithDeviation(HeadConformance):
    name = "mean_mlp"
    options: ClassVar = {"hidden": 8, "deviation": True}


@pytest.mark.parametrize("deviation", [False, True])
def test_the_classifier_gets_the_moments_of_each_feature_in_order(deviation):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, 3)), rng.standard_normal((4, 2))
    options = MeanMLPOptions(hidden=4, deviation=deviation)
    module = MeanMLP({"a": 3, "b": 2}, 5, options, frozenset()).eval()
    parts = [m for x in (a, b) for m in ((x.mean(0), x.std(0)) if deviation else (x.mean(0),))]
    expected = module.classifier(torch.from_numpy(np.concatenate(parts)).float()[None])
    clip = {"b": torch.from_numpy(b).float(), "a": torch.from_numpy(a).float()}
    found = module(padded([clip], 3, 1e3))["logits"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_an_output_it_does_not_have_is_named():
    with pytest.raises(UserError, match="head mean_mlp: it has no output neutral_logit;"):
        MeanMLP({"a": 4}, 8, MeanMLPOptions(), frozenset({"neutral_logit"}))
