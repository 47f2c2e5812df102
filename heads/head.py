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

import torch
from torch import Tensor, nn

from corpus.errors import UserError
from heads.config import Architecture, HeadConfig, register_architecture

Features = Mapping[str, tuple[Tensor, Tensor]]
BUILTIN = {"cross_modal_gru": "heads.cross_modal_gru"}


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


def mask_of(lengths: Tensor, frames: int) -> Tensor:
    """Return `(batch, frames)` bool, True for the first `length` frames of each row."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def attention_pool(frames: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `(batch, frames, dim)` weighted by softmax of `(batch, frames)` scores."""
    weights = scores.masked_fill(~mask, float("-inf")).softmax(dim=1)
    return torch.einsum("bt,btd->bd", weights, frames)
