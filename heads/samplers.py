"""Samplers: which training utterances an epoch sees, as positions, in random order.

natural              every utterance once
neutral_expressive   as many draws with replacement, neutral and the rest equally likely
                     (Ueda et al. 2025, section 3.1.1: inverse frequency of the two groups)
"""

import numpy as np

from heads.config import HeadConfig


def draw_epoch(
    config: HeadConfig, labels: np.ndarray, neutral: int | None, rng: np.random.Generator
) -> np.ndarray:
    """Return positions into `labels`, int64 `(len(labels),)`."""
    if config.sampler == "natural":
        return rng.permutation(len(labels))
    group = labels == neutral
    frequency = np.where(group, group.sum(), (~group).sum())
    weights = 1.0 / frequency
    return rng.choice(len(labels), size=len(labels), p=weights / weights.sum())
