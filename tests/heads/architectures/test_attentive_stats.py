"""Attentive statistics pooling: by hand, and the conformance suite."""

from typing import ClassVar

import numpy as np
import pytest
import torch

from corpus.errors import UserError
from heads.architectures.attentive_stats import AttentiveStats, AttentiveStatsPooling
from heads.config import AttentiveStatsOptions
from heads.testing import HeadConformance


class TestAttentiveStats(HeadConformance):
    name = "attentive_stats"
    options: ClassVar = {"hidden": 8}


class TestAttentiveStatsOfAWidth(HeadConformance):
    name = "attentive_stats"
    options: ClassVar = {"hidden": 8, "attention": 3}


def test_it_pools_to_the_weighted_mean_and_deviation():
    pooling = AttentiveStatsPooling(2, 3)
    frames = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 5.0]])
    w, b, v = (p.detach().numpy().astype("f8") for p in pooling.parameters())
    e = np.exp(np.tanh(frames @ w.T + b) @ v[0])
    alpha = (e / e.sum())[:, None]
    mean = (alpha * frames).sum(axis=0)
    deviation = np.sqrt((alpha * frames**2).sum(axis=0) - mean**2)
    with torch.inference_mode():
        batch = torch.from_numpy(frames).float()[None]
        found = pooling(batch, torch.ones(1, 3, dtype=torch.bool))[0]
    np.testing.assert_allclose(found, np.concatenate([mean, deviation]), rtol=1e-5)


def test_the_layer_that_scores_is_as_wide_as_the_feature_or_as_told():
    for attention, widths in ((None, [6, 4]), (3, [3, 3])):
        options = AttentiveStatsOptions(attention=attention)
        module = AttentiveStats({"a": 6, "b": 4}, 8, options, frozenset())
        assert [pool.projection.out_features for pool in module.pooling] == widths


def test_an_output_it_does_not_have_is_named():
    with pytest.raises(UserError) as error:
        AttentiveStats({"a": 4}, 8, AttentiveStatsOptions(), frozenset({"neutral_logit"}))
    assert str(error.value) == (
        "head attentive_stats: it has no output neutral_logit; take the loss that needs it out of "
        "`loss:`."
    )
