"""One step's gradient: of one batch, or of several as if they were one.

Several batches give the gradient of the one large batch for any loss, also for those that are no
mean over clips (wce, ccc, soft_f1): the outputs of all are computed without gradients, the loss of
all of them is taken, and each batch is run once more to carry its share of the gradient back (Gao
et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"). Only mix-up
stays within a batch.

So it is with several processes: each takes the loss of the outputs of all, and carries the share of
its own clips back. The sum of their gradients is that of the one large batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ser.heads.config import HeadConfig
from ser.heads.head import Mix
from ser.heads.training.augment import augment_features, mixing
from ser.heads.training.losses import Setting
from ser.heads.training.objective import total_loss
from ser.heads.training.processes import Processes
from ser.heads.training.targets import Targets, joined


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
    processes: Processes = Processes(),  # noqa: B008  immutable
) -> Tensor:
    """Put the gradient of the loss over all parts onto the parameters; return the loss, a scalar.

    With several processes the loss is over the parts of all, and the gradient our share of it.
    """
    twice = len(parts) > 1  # for the loss over all of them, and to carry a part's share back
    with torch.set_grad_enabled(not twice):
        passes = [_forward(module, stage, part) for part in parts]
    if not twice and processes.size == 1:
        loss = total_loss(stage, *passes[0], setting)
        loss.backward()
        return loss.detach()
    outputs = {name: torch.cat([out[name] for out, _ in passes]) for name in passes[0][0]}
    targets = joined([part_targets for _, part_targets in passes])
    # the loss is of the outputs of all processes, and `ours` are the rows of this one
    _, ours = processes.gather(targets.classes)
    leaves = {n: processes.gather(rows.detach())[0].requires_grad_() for n, rows in outputs.items()}
    targets = targets.each(lambda rows: processes.gather(rows)[0])
    loss = total_loss(stage, leaves, targets, setting)
    slopes = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    sizes = [len(part.targets.classes) for part in parts]
    shares = zip(*(slope[ours].split(sizes) for slope in slopes), strict=True)
    for part, (own, _), share in zip(parts, passes, shares, strict=True):
        values = _forward(module, stage, part)[0] if twice else own
        torch.autograd.backward([values[name] for name in leaves], share)
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
