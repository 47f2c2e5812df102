"""Samplers: which training utterances an epoch sees, as positions, in random order.

natural              every utterance once
neutral_expressive   as many draws with replacement, neutral and the rest equally likely
                     (Ueda et al. 2025, section 3.1.1: inverse frequency of the two groups)
class_balanced       as many draws with replacement, each class equally likely
undersample          every class cut to the rarest, without replacement, anew every epoch: short
                     epochs, and over many of them all utterances are seen; with `no_consensus`
                     some clips without a class beside them (the NTUA entry of 2025, MEDUSA: 1/8)

Where clips without a class are trained on, balancing with replacement leaves them their share of
the draws.
"""

import numpy as np

from heads.config import Sampler


def draw_epoch(
    sampler: Sampler, labels: np.ndarray, neutral: int | None, rng: np.random.Generator
) -> np.ndarray:
    """Return positions into `labels`, int64 `(draws,)`; only undersample draws fewer than labels.

    Classes are those that occur in `labels`, int64 `(utterances,)`, of which one or more is not
    -1 (without a class) unless the sampler is natural.
    """
    if sampler.name == "natural":
        return rng.permutation(len(labels))
    if sampler.name == "undersample":
        return _undersample(labels, sampler.no_consensus, rng)
    groups = labels if sampler.name == "class_balanced" else _neutral_or_not(labels, neutral)
    return rng.choice(len(labels), size=len(labels), p=_balanced(groups))


def _neutral_or_not(labels: np.ndarray, neutral: int | None) -> np.ndarray:
    return np.where(labels < 0, -1, (labels == neutral).astype(np.int64))


def _balanced(groups: np.ndarray) -> np.ndarray:
    """Return how likely each utterance is: groups equally so, beside those without one (-1)."""
    known = groups >= 0
    likely = np.full(len(groups), 1 / len(groups))
    weights = 1.0 / np.bincount(groups[known])[groups[known]]
    likely[known] = weights / weights.sum() * known.mean()
    return likely


def _undersample(labels: np.ndarray, no_consensus: float, rng: np.random.Generator) -> np.ndarray:
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    order = rng.permutation(len(labels))
    kept = [order[labels[order] == c][: counts.min()] for c in classes]
    beside = round(no_consensus * len(classes) * counts.min())
    return rng.permutation(np.concatenate([*kept, order[labels[order] < 0][:beside]]))
