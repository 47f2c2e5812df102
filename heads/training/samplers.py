"""Samplers: which training utterances an epoch sees, as positions, in random order.

natural              every utterance once
neutral_expressive   as many draws with replacement, neutral and the rest equally likely
                     (Ueda et al. 2025, section 3.1.1: inverse frequency of the two groups)
class_balanced       as many draws with replacement, each class equally likely
undersample          every class cut to the rarest, without replacement, anew every epoch: short
                     epochs, and over many of them all utterances are seen
"""

import numpy as np

from heads.config import HeadConfig


def draw_epoch(
    config: HeadConfig, labels: np.ndarray, neutral: int | None, rng: np.random.Generator
) -> np.ndarray:
    """Return positions into `labels`, int64 `(draws,)`; only undersample draws fewer than labels.

    Classes are those that occur in `labels`, int64 `(utterances,)`, none of them negative.
    """
    if config.sampler == "natural":
        return rng.permutation(len(labels))
    if config.sampler == "undersample":
        return _undersample(labels, rng)
    groups = labels if config.sampler == "class_balanced" else (labels == neutral).astype(np.int64)
    weights = 1.0 / np.bincount(groups)[groups]
    return rng.choice(len(labels), size=len(labels), p=weights / weights.sum())


def _undersample(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    classes, counts = np.unique(labels, return_counts=True)
    order = rng.permutation(len(labels))
    kept = [order[labels[order] == c][: counts.min()] for c in classes]
    return rng.permutation(np.concatenate(kept))
