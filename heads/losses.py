"""Losses, each a function of a head's outputs and the labels; a head's loss is their weighted sum.

wce   weighted cross-entropy, weight of class c = N / (C n_c) over the training set
      (Ueda et al. 2025, eq. 3); the batch mean is weighted too, as PyTorch's is
sml   soft margin loss log(1 + exp(-y s)), y = +1 neutral, -1 expressive, s the neutral logit
      (Ueda et al. 2025, eq. 4)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from corpus.errors import UserError
from heads.config import HeadConfig


@dataclass(frozen=True)
class Setting:
    """What losses know of the training set: class weights `(classes,)` and the neutral class."""

    class_weights: Tensor
    neutral: int | None


LossFunction = Callable[[Mapping[str, Tensor], Tensor, Setting], Tensor]


def wce(outputs: Mapping[str, Tensor], labels: Tensor, setting: Setting) -> Tensor:
    """Return the weighted cross-entropy of logits `(batch, classes)` and labels `(batch,)`."""
    return functional.cross_entropy(outputs["logits"], labels, weight=setting.class_weights)


def sml(outputs: Mapping[str, Tensor], labels: Tensor, setting: Setting) -> Tensor:
    """Return the soft margin loss of neutral_logit `(batch, 1)`: neutral +1, the rest -1."""
    assert setting.neutral is not None
    sign = torch.where(labels.eq(setting.neutral), 1.0, -1.0).unsqueeze(1)
    return functional.soft_margin_loss(outputs["neutral_logit"], sign)


LOSSES: dict[str, LossFunction] = {"wce": wce, "sml": sml}
EXTRAS = {"sml": "neutral_logit"}  # what a loss needs beside the logits


def extras_of(config: HeadConfig) -> frozenset[str]:
    """Return the outputs that a head's losses need beside the logits."""
    return frozenset(EXTRAS[use.name] for use in config.loss if use.name in EXTRAS)


def class_weights(labels: np.ndarray, classes: Sequence[str]) -> Tensor:
    """Return N / (C n_c) for each class, float32; raises `UserError` for a class without clips."""
    counts = np.bincount(labels, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        raise UserError(
            f"class '{empty[0]}' has no training utterance; take it out of corpus.classes, or add "
            "clips of it to the train split."
        )
    return torch.tensor(len(labels) / (len(classes) * counts), dtype=torch.float32)


def total_loss(
    config: HeadConfig, outputs: Mapping[str, Tensor], labels: Tensor, setting: Setting
) -> Tensor:
    """Return the weighted sum of a head's losses, a scalar."""
    parts = [use.weight * LOSSES[use.name](outputs, labels, setting) for use in config.loss]
    return torch.stack(parts).sum()
