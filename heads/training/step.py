"""One step's gradient: of one batch, or of several as if they were one.

Several batches give the gradient of the one large batch for any loss, also for those that are no
mean over clips (wce, ccc, soft_f1): the outputs of all are computed without gradients, the loss of
all of them is taken, and each batch is run once more to carry its share of the gradient back (Gao
et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"). Only mix-up
stays within a batch.

So it is with several processes: each takes the loss of the outputs of all, and carries the share of
its own clips back. The sum of their gradients is that of the one large batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ser.heads.config import HeadConfig
from ser.heads.head import Mix
from ser.heads.training.augment import augment_features, mixing
from ser.heads.training.losses import Setting
from ser.heads.training.objective import total_loss
from ser.heads.training.targets import Targets, joined

Gather = Callable[[Tensor], tuple[Tensor, slice]]  # the rows of all processes, and which are ours


@dataclass(frozen=True)
class MicroBatch:
    """A batch of a step, and the seed of everything random in it."""

    features: dict[str, tuple[Tensor, Tensor]]
    targets: Targets
    seed: tuple[int, ...]


def backward(
    module: nn.Module,
    stage: HeadConfig,
    parts: Sequence[MicroBatch],
    setting: Setting,
    gather: Gather | None = None,
) -> Tensor:
    """Put the gradient of the loss over all parts onto the parameters; return the loss.

    With `gather` the loss is over the parts of all processes, and the gradient our share of it.
    """
    if len(parts) == 1 and gather is None:
        outputs, targets = _forward(module, stage, parts[0])
        loss = total_loss(stage, outputs, targets, setting)
        loss.backward()
        return loss.detach()
    with torch.set_grad_enabled(len(parts) == 1):
        batches = [_forward(module, stage, part) for part in parts]
    names = list(batches[0][0])
    outputs = {n: torch.cat([out[n] for out, _ in batches]).detach() for n in names}
    targets, local = joined([targets for _, targets in batches]), slice(None)
    if gather is not None:
        local = gather(targets.classes)[1]
        outputs = {name: gather(rows)[0] for name, rows in outputs.items()}
        targets = targets.each(lambda rows: gather(rows)[0])
    leaves = {name: rows.requires_grad_() for name, rows in outputs.items()}
    loss = total_loss(stage, leaves, targets, setting)
    slopes = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    sizes = [len(of_part.classes) for _, of_part in batches]
    shares = zip(*(slope[local].split(sizes) for slope in slopes), strict=True)
    for part, share in zip(parts, shares, strict=True):
        again = batches[0][0] if len(parts) == 1 else _forward(module, stage, part)[0]
        torch.autograd.backward([again[name] for name in names], list(share))
    return loss.detach()


def _forward(
    module: nn.Module, stage: HeadConfig, part: MicroBatch
) -> tuple[dict[str, Tensor], Targets]:
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
