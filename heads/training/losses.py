"""Losses, each a function of a head's outputs and the labels; a head's loss is their weighted sum.

p = softmax(z) of the logits z, y the label, n_c of N training utterances in class c of C.

ce               -w_y log p_y, w_c = (N / (C n_c))^class_weight_power; as in PyTorch a mean with
                 the weights w_y over the batch
wce              ce with power 1 (Ueda et al. 2025, eq. 3)
focal            -w_y (1 - p_y)^gamma log p_y, its mean weighted as that of ce, so that gamma 0 is
                 ce (Lin et al. 2017, "Focal Loss for Dense Object Detection", eq. 5)
label_smoothing  -sum_c q_c log p_c, q_c = (1 - smoothing) [c = y] + smoothing / C
                 (Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7)
vs               vector scaling: ce of Delta_c z_c + iota_c, Delta_c = (n_c / max n)^gamma,
                 iota_c = tau log(n_c / N); gamma 0 is logit adjustment, both 0 ce
                 (Kini et al. 2021, "Label-Imbalanced and Group-Sensitive Classification")
soft_f1          1 - mean over the classes in the batch of 2 tp_c / (sum p_c + sum [y = c]), tp_c
                 the sum of p_c where y = c (Pastor-Pellicer et al. 2013, "F-Measure as the Error
                 Function to Train Neural Networks", one class against the rest)
sml              soft margin loss log(1 + exp(-y s)), y = +1 neutral, -1 expressive, s the neutral
                 logit (Ueda et al. 2025, eq. 4)
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

    @property
    def shares(self) -> Tensor:
        """Return n_c / N `(classes,)`."""
        return 1 / (len(self.class_weights) * self.class_weights)


LossFunction = Callable[..., Tensor]  # of outputs, labels, setting, and the options by name


def ce(
    outputs: Mapping[str, Tensor], labels: Tensor, setting: Setting, *, class_weight_power: float
) -> Tensor:
    """Return the cross-entropy of logits `(batch, classes)` and labels `(batch,)`."""
    weights = setting.class_weights**class_weight_power
    return functional.cross_entropy(outputs["logits"], labels, weight=weights)


def wce(outputs: Mapping[str, Tensor], labels: Tensor, setting: Setting) -> Tensor:
    """Return the weighted cross-entropy of logits `(batch, classes)` and labels `(batch,)`."""
    return functional.cross_entropy(outputs["logits"], labels, weight=setting.class_weights)


def sml(outputs: Mapping[str, Tensor], labels: Tensor, setting: Setting) -> Tensor:
    """Return the soft margin loss of neutral_logit `(batch, 1)`: neutral +1, the rest -1."""
    assert setting.neutral is not None
    sign = torch.where(labels.eq(setting.neutral), 1.0, -1.0).unsqueeze(1)
    return functional.soft_margin_loss(outputs["neutral_logit"], sign)


def focal(
    outputs: Mapping[str, Tensor],
    labels: Tensor,
    setting: Setting,
    *,
    gamma: float,
    class_weight_power: float,
) -> Tensor:
    """Return the focal loss of logits `(batch, classes)` and labels `(batch,)`."""
    log_p = -functional.cross_entropy(outputs["logits"], labels, reduction="none")
    weights = (setting.class_weights**class_weight_power)[labels]
    # the slope of x^gamma at 0 is infinite for gamma < 1, and p rounds to 1 soon enough
    missed = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    return -(weights * missed**gamma * log_p).sum() / weights.sum()


def label_smoothing(
    outputs: Mapping[str, Tensor], labels: Tensor, setting: Setting, *, smoothing: float
) -> Tensor:
    """Return the cross-entropy of logits `(batch, classes)` and smoothed labels `(batch,)`."""
    return functional.cross_entropy(outputs["logits"], labels, label_smoothing=smoothing)


def vs(
    outputs: Mapping[str, Tensor],
    labels: Tensor,
    setting: Setting,
    *,
    gamma: float,
    tau: float,
    class_weight_power: float,
) -> Tensor:
    """Return the vector scaling loss of logits `(batch, classes)` and labels `(batch,)`."""
    shares = setting.shares
    scaled = outputs["logits"] * (shares / shares.max()) ** gamma + tau * shares.log()
    weights = setting.class_weights**class_weight_power
    return functional.cross_entropy(scaled, labels, weight=weights)


def soft_f1(outputs: Mapping[str, Tensor], labels: Tensor, setting: Setting) -> Tensor:
    """Return 1 - macro soft-F1 of logits `(batch, classes)` and labels `(batch,)`.

    A class that is not in the batch has F1 0 whatever the logits: it would teach nothing.
    """
    p = outputs["logits"].softmax(dim=1)
    truth = functional.one_hot(labels, p.shape[1])
    present = truth.any(dim=0)
    f1 = 2 * (p * truth).sum(dim=0) / (p.sum(dim=0) + truth.sum(dim=0))
    return 1 - f1[present].mean()


LOSSES: dict[str, LossFunction] = {
    "ce": ce,
    "wce": wce,
    "focal": focal,
    "label_smoothing": label_smoothing,
    "vs": vs,
    "soft_f1": soft_f1,
    "sml": sml,
}
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
    parts = []
    for use in config.loss:
        options = use.model_dump(exclude={"name", "weight"})
        parts.append(use.weight * LOSSES[use.name](outputs, labels, setting, **options))
    return torch.stack(parts).sum()
