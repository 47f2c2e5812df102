"""Samplers: what an epoch sees."""

import numpy as np

from heads.config import parse_head
from heads.samplers import draw_epoch


def make_config(sampler):
    return parse_head({"features": ["a"], "sampler": sampler})


def test_natural_sees_every_utterance_once():
    labels = np.arange(50) % 3
    order = draw_epoch(make_config("natural"), labels, 2, np.random.default_rng(0))
    assert sorted(order) == list(range(50))
    assert order.tolist() != list(range(50))


def test_neutral_expressive_draws_both_groups_equally():
    labels = np.array([0] * 900 + [1] * 60 + [2] * 40)  # 40 neutral of 1000
    order = draw_epoch(make_config("neutral_expressive"), labels, 2, np.random.default_rng(0))
    assert len(order) == 1000
    drawn = labels[order]
    assert abs((drawn == 2).mean() - 0.5) < 0.05
    assert abs((drawn == 1).mean() - 0.5 * 60 / 960) < 0.02


def test_the_same_generator_draws_the_same():
    labels = np.arange(20) % 3
    draws = [
        draw_epoch(make_config("neutral_expressive"), labels, 2, np.random.default_rng(4)).tolist()
        for _ in range(2)
    ]
    assert draws[0] == draws[1]
