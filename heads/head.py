"""What every head is, and how masks are made and used.

A head is a module `features -> outputs`: features map a name to `(frames, mask)`, frames
`(batch, frames, dim)` float32, mask `(batch, frames)` bool, True where a frame is real. What it is
to answer is a mapping of outputs to widths, of these five, and it returns `(batch, width)` of each:

logits         one a class
other          a logit for the votes for none of the classes
neutral_logit  of neutral against the rest
attributes     on the scale of 1 to 7
gender         a logit a gender

Padding never changes a result. To add a head, decorate a module class with `@head("name", Options)`
and name its Python module under `plugins:` in pipeline.yaml (or in `BUILTIN` below). One that
derives from `Head` has all outputs and manifold mix-up; any other module that returns logits will
do too. Where a head pools by attention, `pooling_weights` says where it looked.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor, nn

from corpus.errors import UserError
from heads.config import HeadConfig
from heads.options import ARCHITECTURES, Architecture

Features = Mapping[str, tuple[Tensor, Tensor]]
Mix = Callable[[Tensor], Tensor]  # of the embedding `(batch, width)`
BUILTIN = {
    name: f"heads.architectures.{name}"
    for name in (
        "cross_modal_gru",
        "attentive_stats",
        "mean_mlp",
        "conv_pool",
        "deep_fusion",
        "early_mha",
        "expert_lstm",
        "class_scores",
    )
}


class HeadClass(Protocol):
    """Build a head for features of these dims that gives outputs of these widths."""

    def __call__(
        self, dims: Mapping[str, int], outputs: Mapping[str, int], options: Architecture
    ) -> nn.Module:
        """Return the module; raises `UserError` for an output it cannot give."""


_HEADS: dict[str, HeadClass] = {}


def head(name: str, options: type[Architecture]) -> Callable[[HeadClass], HeadClass]:
    """Register a head class under its name, with the options it takes."""

    def register(cls: HeadClass) -> HeadClass:
        _HEADS[name] = cls
        ARCHITECTURES[name] = options
        return cls

    return register


def build_head(
    config: HeadConfig, dims: Mapping[str, int], outputs: Mapping[str, int]
) -> nn.Module:
    """Build the head that a config names, for the features in its order."""
    if config.head not in _HEADS and config.head in BUILTIN:
        import_module(BUILTIN[config.head])
    if config.head not in _HEADS:
        raise UserError(f"heads: no module registers the head '{config.head}'; add its `plugins:`.")
    ordered = {name: dims[name] for name in config.feature_names}
    return _HEADS[config.head](ordered, outputs, config.architecture)


class Standard(nn.Module):
    """Shift and scale `(batch, width)` by moments that are taken once, before the training.

    Batch normalisation without what makes a clip hang on its batch.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def fit(self, values: Tensor) -> None:
        """Take the moments of all training clips `(clips, width)`; a constant keeps its scale."""
        deviation = values.std(dim=0, correction=0)
        self.get_buffer("mean").copy_(values.mean(dim=0))
        self.get_buffer("deviation").copy_(deviation.where(deviation > 1e-6, 1.0))

    def forward(self, values: Tensor) -> Tensor:
        """Return the standard scores."""
        return (values - self.get_buffer("mean")) / self.get_buffer("deviation")


class Head(nn.Module):
    """Base of the heads here: one vector a clip, the embedding, and every output read off it.

    `read` makes the module that reads an output of a given width off the embedding. With
    `standardize` the width of the embedding, which is then standardised.
    """

    def __init__(
        self,
        outputs: Mapping[str, int],
        read: Callable[[int], nn.Module],
        standardize: int | None = None,
    ) -> None:
        super().__init__()
        self.standard = Standard(standardize) if standardize else None
        self.outputs = nn.ModuleDict({name: read(width) for name, width in outputs.items()})

    def embed(self, features: Features) -> Tensor:
        """Return the embeddings `(batch, width)` of a batch."""
        raise NotImplementedError

    def pooling_weights(self, features: Features) -> dict[str, Tensor]:
        """Return the weights `(batch, frames)` of each feature that is pooled by attention.

        Those of a clip sum to 1 and are 0 where padded. Other heads return none.
        """
        return {}

    def forward(self, features: Features, mix: Mix | None = None) -> dict[str, Tensor]:
        """Return every output `(batch, width)`; `mix` changes the embeddings in training."""
        embedding = self.embed(features)
        if self.standard is not None:
            embedding = self.standard(embedding)
        if mix is not None:
            embedding = mix(embedding)
        answers: dict[str, Tensor] = {n: read(embedding) for n, read in self.outputs.items()}
        if "attributes" in answers:  # the scale of MSP-Podcast's raters
            answers["attributes"] = 1 + 6 * answers["attributes"].sigmoid()
        return answers


def mask_of(lengths: Tensor, frames: int) -> Tensor:
    """Return `(batch, frames)` bool, True for the first `length` frames of each row."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def attention_pool(frames: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `(batch, frames, dim)` weighted by softmax of `(batch, frames)` scores."""
    return weighted_mean(frames, attention_weights(scores, mask))


def attention_weights(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over time of `(batch, frames)` scores, 0 where padded."""
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=1)


def weighted_mean(frames: Tensor, weights: Tensor) -> Tensor:
    """Return the mean `(batch, dim)` of `(batch, frames, dim)` under `(batch, frames)` weights."""
    return torch.einsum("bt,btd->bd", weights, frames)


def weighted_moments(frames: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation `(batch, dim)` of `(batch, frames, dim)` over the frames.

    Weights `(batch, frames)` sum to 1 and are 0 where padded. The deviation is at least 0.003, as
    one frame has none and the root no slope at 0.
    """
    mean = weighted_mean(frames, weights)
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
