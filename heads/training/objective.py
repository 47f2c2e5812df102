"""The training objective of a head: the weighted sum of its losses, and what that needs."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ser.corpus.errors import UserError
from ser.corpus.registry import origin
from ser.heads.config import HeadConfig
from ser.heads.options import LossUse
from ser.heads.registry import LOSSES
from ser.heads.training.losses import Outputs, Setting
from ser.heads.training.targets import Labelled, Targets


def outputs_of(config: HeadConfig, classes: int, genders: int) -> dict[str, int]:
    """Return the outputs that a head must have for its losses, and their widths."""
    widths = {
        "logits": classes,
        "other": 1,
        "neutral_logit": 1,
        "attributes": len(config.attributes),
        "gender": genders,
    }
    with_other = "votes" in config.reads and config.votes.other == "keep"
    needed = config.gives | ({"other"} if with_other else set())
    return {name: width for name, width in widths.items() if name in needed}


def setting_of(
    config: HeadConfig,
    rows: Labelled,
    soft: np.ndarray | None,
    classes: Sequence[str],
    device: str | torch.device,
) -> Setting:
    """Return the statistics of the training `rows` and their soft labels for a head's losses.

    Raises `UserError` when a loss of classes has a class without an utterance, a sampler no class
    at all, or a loss or sampler of neutral speech no neutral class.
    """
    counts = np.bincount(rows.classes[rows.classes >= 0], minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty and "classes" in config.reads:
        raise UserError(
            f"class '{empty[0]}' has no training utterance; remove it from corpus.classes, or add "
            "clips of it to the train split."
        )
    samplers = {stage.sampler.name for stage in config.stages}
    if len(empty) == len(classes) and samplers != {"natural"}:
        raise UserError(
            f"heads: the sampler {min(samplers - {'natural'})} balances classes, and no training "
            "utterance has one; use `sampler: natural`."
        )
    neutral = classes.index(config.neutral) if config.neutral in classes else None
    needs_neutral = "neutral_expressive" in samplers or "neutral_logit" in config.gives
    if needs_neutral and neutral is None:
        raise UserError(
            f"heads: sml and neutral_expressive need the class '{config.neutral}', which is not "
            "among corpus.classes; name the neutral class with `neutral:`."
        )
    votes = None if soft is None else inverse_shares(soft.sum(axis=0)).to(device)
    return Setting(inverse_shares(counts).to(device), votes, neutral)


def inverse_shares(counts: np.ndarray) -> Tensor:
    """Return N / (C n_c) of counts `(C,)` that sum to N, float32; 0 where there is none."""
    weights = np.zeros(len(counts))
    np.divide(counts.sum(), len(counts) * counts, out=weights, where=counts > 0)
    return torch.from_numpy(weights.astype(np.float32))


def total_loss(config: HeadConfig, outputs: Outputs, targets: Targets, setting: Setting) -> Tensor:
    """Return the weighted sum of a head's losses, a scalar.

    Raises `UserError` for a loss that is none.
    """
    parts = [use.weight * _value(use, outputs, targets, setting) for use in config.loss]
    return torch.stack(parts).sum()


def _value(use: LossUse, outputs: Outputs, targets: Targets, setting: Setting) -> Tensor:
    """Return the value of one loss; raises `UserError` when it is not a scalar tensor."""
    options = use.model_dump(exclude=set(LossUse.model_fields))
    function = LOSSES.get(use.name)
    value = function(outputs, targets, setting, **options)
    if not (isinstance(value, Tensor) and value.shape == ()):
        shape = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        raise UserError(
            f"the loss '{use.name}' ({origin(function)}) returned "
            f"{shape or type(value).__name__}, not a scalar tensor; return the mean over the batch."
        )
    return value
