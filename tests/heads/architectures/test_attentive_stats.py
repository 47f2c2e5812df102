"""Attentive statistics pooling: by hand, and the conformance suite."""

from typing import ClassVar

import numpy as np
import torch

from ser.heads.architectures.attentive_stats import AttentiveStats, AttentiveStatsPooling
from ser.heads.options import AttentiveStatsOptions
from ser.heads.testing import EVERY_OUTPUT, HeadConformance


class TestAttentiveStats(HeadConformance):
    name = "attentive_stats"
    options: ClassVar = {"hidden": 8}
    outputs: ClassVar = EVERY_OUTPUT


class TestAttentiveStatsOfAWidth(HeadConformance):
    name = "attentive_stats"
    options: ClassVar = {"hidden": 8, "attention": 3}
    outputs: ClassVar = EVERY_OUTPUT


class TestAttentiveStatsWithThePlainMLP(HeadConformance):
    name = "attentive_stats"
    options: ClassVar = {"hidden": 8, "form": "plain"}
    outputs: ClassVar = EVERY_OUTPUT


def test_ratings_of_the_baseline_are_cut_to_the_scale_in_prediction_only():
    module = AttentiveStats({"a": 2}, {"attributes": 3}, AttentiveStatsOptions(hidden=4))
    values = torch.tensor([[-0.5, 0.5, 2.0]])
    assert module.train().rate(values).tolist() == [[-2.0, 4.0, 13.0]]
    assert module.eval().rate(values).tolist() == [[1.0, 4.0, 7.0]]


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
        actual = pooling(batch, torch.ones(1, 3, dtype=torch.bool))[0]
    np.testing.assert_allclose(actual, np.concatenate([mean, deviation]), rtol=1e-5)


def test_the_scoring_layer_is_as_wide_as_the_feature_or_as_configured():
    for attention, widths in ((None, [6, 4]), (3, [3, 3])):
        options = AttentiveStatsOptions(attention=attention)
        module = AttentiveStats({"a": 6, "b": 4}, {"logits": 8}, options)
        assert [pool.projection.out_features for pool in module.pooling] == widths
