"""What every head is, and how masks are made and used.

A head is a module `features -> outputs`: features map a name to `(frames, mask)`, frames
`(batch, frames, dim)` float32, mask `(batch, frames)` bool, True where a frame is real; outputs map
`logits` to `(batch, classes)` and whatever else its losses need. Padding never changes a result.

To add one, decorate a module class with `@head("name", Options)` and name its Python module under
`plugins:` in pipeline.yaml (or in `BUILTIN` below).
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from corpus.errors import UserError
from heads.config import Architecture, HeadConfig, register_architecture

Features = Mapping[str, tuple[Tensor, Tensor]]
BUILTIN = {
    "cross_modal_gru": "heads.cross_modal_gru",
    "attentive_stats": "heads.attentive_stats",
    "mean_mlp": "heads.mean_mlp",
    "conv_pool": "heads.conv_pool",
}


class HeadClass(Protocol):
    """Build a head for features of these dims; `extras` are outputs beside the logits."""

    def __call__(
        self, dims: Mapping[str, int], classes: int, options: Architecture, extras: frozenset[str]
    ) -> nn.Module:
        """Return the module; raises `UserError` for extras it cannot give."""


_HEADS: dict[str, HeadClass] = {}


def head(name: str, options: type[Architecture]) -> Callable[[HeadClass], HeadClass]:
    """Register a head class under its name, with the options it takes."""

    def register(cls: HeadClass) -> HeadClass:
        _HEADS[name] = cls
        register_architecture(name, options)
        return cls

    return register


def build_head(
    config: HeadConfig, dims: Mapping[str, int], classes: int, extras: frozenset[str]
) -> nn.Module:
    """Build the head that a config names, for the features in its order."""
    if config.head not in _HEADS and config.head in BUILTIN:
        import_module(BUILTIN[config.head])
    if config.head not in _HEADS:
        raise UserError(f"heads: no module registers the head '{config.head}'; add its `plugins:`.")
    ordered = {name: dims[name] for name in config.feature_names}
    return _HEADS[config.head](ordered, classes, config.architecture, extras)


def require_extras(name: str, asked: frozenset[str], given: frozenset[str] = frozenset()) -> None:
    """Raise `UserError` for outputs beside the logits that a head is asked for and has not."""
    if asked - given:
        raise UserError(
            f"head {name}: it has no output {', '.join(sorted(asked - given))}; take the loss that "
            "needs it out of `loss:`."
        )


class Standardised(nn.Module):
    """Give a head features with zero mean and unit deviation; the statistics are saved with it."""

    def __init__(
        self, head: nn.Module, moments: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> None:
        super().__init__()
        self.head = head
        self.names = list(moments)
        for i, (mean, deviation) in enumerate(moments.values()):
            self.register_buffer(f"mean{i}", torch.from_numpy(mean.astype(np.float32)))
            self.register_buffer(f"deviation{i}", torch.from_numpy(deviation.astype(np.float32)))

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return what the head returns for the standardised features."""
        standard = dict(features)
        for i, name in enumerate(self.names):
            frames, mask = features[name]
            mean, deviation = self.get_buffer(f"mean{i}"), self.get_buffer(f"deviation{i}")
            standard[name] = ((frames - mean) / deviation, mask)
        outputs: dict[str, Tensor] = self.head(standard)
        return outputs


def mask_of(lengths: Tensor, frames: int) -> Tensor:
    """Return `(batch, frames)` bool, True for the first `length` frames of each row."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def attention_pool(frames: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `(batch, frames, dim)` weighted by softmax of `(batch, frames)` scores."""
    return torch.einsum("bt,btd->bd", attention_weights(scores, mask), frames)


def attention_weights(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over time of `(batch, frames)` scores, 0 where padded."""
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=1)


def weighted_moments(frames: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation `(batch, dim)` of `(batch, frames, dim)` over the frames.

    Weights `(batch, frames)` sum to 1 and are 0 where padded. The deviation is at least 0.003, as
    one frame has none and the root no slope at 0.
    """
    mean = torch.einsum("bt,btd->bd", weights, frames)
    variance = torch.einsum("bt,btd->bd", weights, (frames - mean.unsqueeze(1)).square())
    return mean, variance.clamp_min(1e-5).sqrt()


def equal_weights(mask: Tensor) -> Tensor:
    """Return `(batch, frames)` float32, 1 / length for real frames and 0 for padded ones."""
    return mask.float() / mask.sum(dim=1, keepdim=True)


def mlp(width: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    """Return the classifier that heads end in: one hidden layer."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, out)
    )
