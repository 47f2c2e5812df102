"""Samplers: which training utterances an epoch sees, as positions, in random order.

natural              every utterance once
neutral_expressive   as many draws with replacement, neutral and the rest equally likely
                     (Ueda et al. 2025, section 3.1.1: inverse frequency of the two groups)
class_balanced       as many draws with replacement, each class equally likely: a clip of class c,
                     n_c of N, has the weight N / n_c. These may move with the share s of the
                     phase's epochs that are done: `to_uniform` (1 - s) N / n_c + s,
                     `to_distribution` (1 - s) + s N / n_c (the UFG entry of 2025; weights of 1 draw
                     classes as often as the corpus has them)
undersample          every class cut to the rarest, without replacement, anew every epoch: short
                     epochs, and over many of them all utterances are seen; with `no_consensus`
                     some clips without a class beside them (the NTUA entry of 2025, MEDUSA: 1/8).
                     With `subset_seed` that of the classes is always the same, as in MEDUSA's code

Where clips without a class are trained on, balancing with replacement leaves them their share of
the draws.

A sampler of one's own is a function under `@sampler("name", Options)`.
"""

from collections.abc import Callable

import numpy as np

from ser.corpus.errors import UserError
from ser.corpus.registry import origin, require_call, require_options
from ser.heads.options import SamplerUse
from ser.heads.registry import SAMPLERS

SamplerFunction = Callable[..., np.ndarray]  # of labels, neutral, rng, and the options by name


def sampler(
    name: str, options: type[SamplerUse] = SamplerUse
) -> Callable[[SamplerFunction], SamplerFunction]:
    """Register a sampler: a function of labels, neutral and rng, with its options by name.

    Args:
        name: the value of `sampler:` that chooses it in pipeline.yaml.
        options: its options, a subclass of `SamplerUse`.

    The function takes and returns what `draw_epoch` does.

        >>> @sampler("shuffled")
        ... def shuffled(labels, neutral, rng):
        ...     return rng.permutation(len(labels))
        >>> sorted(shuffled(np.array([0, 1, 1]), None, np.random.default_rng(0)).tolist())
        [0, 1, 2]
    """

    def register(function: SamplerFunction) -> SamplerFunction:
        require_options("sampler", name, options, SamplerUse)
        names = set(options.model_fields) - set(SamplerUse.model_fields)
        require_call("sampler", name, function, "(labels, neutral, rng, **options)", 3, *names)
        SAMPLERS.add(name, function, options)
        return function

    return register


def draw_epoch(
    choice: SamplerUse,
    labels: np.ndarray,
    neutral: int | None,
    rng: np.random.Generator,
    done: float = 0.0,
) -> np.ndarray:
    """Return positions into `labels`, int64 `(draws,)`; only undersample draws fewer than labels.

    `labels` are classes, int64 `(utterances,)`, -1 for an utterance without one; unless the sampler
    is natural, one or more has a class. `neutral` is the index of the neutral class, if there is
    one, `done` the share of the phase's epochs before this one, 0 to 1. Raises `UserError` when a
    sampler returns anything but such positions.
    """
    function = SAMPLERS.get(choice.name)
    options = choice.model_dump(exclude=set(SamplerUse.model_fields))
    if choice.name == "class_balanced":
        options["done"] = done
    drawn = function(labels, neutral, rng, **options)
    if choice.name not in SAMPLERS.built_in and (problem := _problem(drawn, len(labels))):
        raise UserError(
            f"the sampler '{choice.name}' ({origin(function)}) returned "
            f"{problem}; return integer positions from 0 to {len(labels) - 1}."
        )
    return drawn


def _problem(drawn: object, count: int) -> str:
    """Return what is wrong with drawn positions, "" for nothing."""
    if not isinstance(drawn, np.ndarray):
        return f"a {type(drawn).__name__}, not an array"
    if drawn.ndim != 1 or not np.issubdtype(drawn.dtype, np.integer):
        return f"an array of shape {drawn.shape} and type {drawn.dtype}"
    if not len(drawn):
        return "no positions"
    wrong = drawn[(drawn < 0) | (drawn >= count)]
    return f"the position {wrong[0]}, of {count} utterances" if len(wrong) else ""


def natural(
    labels: np.ndarray, neutral: int | None, rng: np.random.Generator, *, no_consensus: float
) -> np.ndarray:
    """Draw every utterance once."""
    return rng.permutation(len(labels))


def neutral_expressive(
    labels: np.ndarray, neutral: int | None, rng: np.random.Generator, *, no_consensus: float
) -> np.ndarray:
    """Draw neutral and the rest equally often."""
    groups = np.where(labels < 0, -1, (labels == neutral).astype(np.int64))
    return rng.choice(len(labels), size=len(labels), p=_balanced(groups))


def class_balanced(
    labels: np.ndarray,
    neutral: int | None,
    rng: np.random.Generator,
    *,
    no_consensus: float,
    weights: str,
    done: float,
) -> np.ndarray:
    """Draw each class equally often, or at a moving rate between that and the corpus' own."""
    moving = {"to_uniform": 1 - done, "to_distribution": done}
    return rng.choice(len(labels), size=len(labels), p=_balanced(labels, moving.get(weights, 1.0)))


def undersample(
    labels: np.ndarray,
    neutral: int | None,
    rng: np.random.Generator,
    *,
    no_consensus: float,
    subset_seed: int | None,
) -> np.ndarray:
    """Draw as many utterances of each class as the rarest has."""
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    order = rng.permutation(len(labels))
    kept = order
    if subset_seed is not None:
        kept = np.random.default_rng(subset_seed).permutation(len(labels))
    drawn = [kept[labels[kept] == c][: counts.min()] for c in classes]
    beside = round(no_consensus * len(classes) * counts.min())
    return rng.permutation(np.concatenate([*drawn, order[labels[order] < 0][:beside]]))


def _balanced(groups: np.ndarray, share: float = 1.0) -> np.ndarray:
    """Return the probability of each utterance: groups equally likely, apart from those without.

    `share` is that of the balancing weights N / n, the rest is a weight of 1.
    """
    grouped = groups >= 0
    likely = np.full(len(groups), 1 / len(groups))
    members = np.bincount(groups[grouped])[groups[grouped]]
    weights = share / members + (1 - share) / len(members)
    likely[grouped] = weights / weights.sum() * grouped.mean()
    return likely
