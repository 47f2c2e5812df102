"""One step's gradient: of one batch, or of several as if they were one.

Several batches give the gradient of the one large batch for any loss, also for those that are no
mean over clips (wce, ccc, soft_f1): the outputs of all are computed without gradients, the loss of
all of them is taken, and each batch is run once more to carry its share of the gradient back (Gao
et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"). Only mix-up
stays within a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from heads.config import HeadConfig
from heads.head import Mix
from heads.training.augment import augment_features, mixing
from heads.training.losses import Setting, total_loss
from heads.training.targets import Targets, joined


@dataclass(frozen=True)
class Part:
    """Hold a batch of a step, and the seed of all that is random in it."""

    features: dict[str, tuple[Tensor, Tensor]]
    targets: Targets
    seed: tuple[int, ...]


def backward(
    module: nn.Module, stage: HeadConfig, parts: Sequence[Part], setting: Setting
) -> Tensor:
    """Put the gradient of the loss over all parts onto the parameters; return the loss."""
    if len(parts) == 1:
        outputs, targets = _forward(module, stage, parts[0])
        loss = total_loss(stage, outputs, targets, setting)
        loss.backward()
        return loss.detach()
    with torch.no_grad():
        answers = [_forward(module, stage, part) for part in parts]
    names = list(answers[0][0])
    leaves = {name: torch.cat([each[name] for each, _ in answers]) for name in names}
    for leaf in leaves.values():
        leaf.requires_grad_()
    loss = total_loss(stage, leaves, joined([targets for _, targets in answers]), setting)
    slopes = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    sizes = [len(targets.classes) for _, targets in answers]
    shares = zip(*(slope.split(sizes) for slope in slopes), strict=True)
    for part, share in zip(parts, shares, strict=True):
        again, _ = _forward(module, stage, part)
        torch.autograd.backward([again[name] for name in names], list(share))
    return loss.detach()


def _forward(module: nn.Module, stage: HeadConfig, part: Part) -> tuple[dict[str, Tensor], Targets]:
    """Return outputs float32 and targets of a batch, both mixed where mix-up is on.

    The same part gives the same numbers however often it is run.
    """
    rng = np.random.default_rng(part.seed)
    torch.manual_seed(int(rng.integers(2**63)))
    features, targets = augment_features(stage.augment, part.features, rng), part.targets
    mixed = mixing(stage.augment, len(targets.classes), rng)
    mix: tuple[Mix, ...] = ()
    if mixed is not None:
        mix = (mixed.of_embeddings,)
        targets = targets.mixed(mixed.partner, mixed.share)
    device = targets.classes.device.type
    with torch.autocast(device, torch.bfloat16, enabled=stage.amp and device == "cuda"):
        outputs = module(features, *mix)
    # losses stay in float32: their logarithms do not survive bfloat16
    return {name: value.float() for name, value in outputs.items()}, targets
