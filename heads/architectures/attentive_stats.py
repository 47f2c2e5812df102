"""The challenge baseline's head on frozen features: attentive statistics pooling and an MLP.

Okabe, Koshinaka, Shinoda 2018, "Attentive Statistics Pooling for Deep Speaker Embedding", eq. 1-6.
Per feature, frames are scored by v^T tanh(W h + b) and a softmax over time; the mean and standard
deviation under these weights, of all features, are concatenated (twice the sum of dims) and
classified. Their scalar k is left out: the softmax cancels it. With the defaults W is as wide as
the feature, as in the baseline.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ser.heads.head import Features, Head, attention_weights, head, mlp, weighted_moments
from ser.heads.options import Architecture, AttentiveStatsOptions


class AttentiveStatsPooling(nn.Module):
    """Pool the frames of one feature to their weighted mean and deviation."""

    def __init__(self, dim: int, attention: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, attention)
        self.score = nn.Linear(attention, 1, bias=False)

    def weights(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return the weights `(batch, frames)`, 0 where padded."""
        scores: Tensor = self.score(self.projection(frames).tanh()).squeeze(-1)
        return attention_weights(scores, mask)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return `(batch, 2 dim)` of `(batch, frames, dim)`."""
        return torch.cat(weighted_moments(frames, self.weights(frames, mask)), dim=-1)


@head("attentive_stats", AttentiveStatsOptions)
class AttentiveStats(Head):
    """Pool each feature by attention and classify all of them at once."""

    def __init__(
        self, dims: Mapping[str, int], outputs: Mapping[str, int], options: Architecture
    ) -> None:
        assert isinstance(options, AttentiveStatsOptions)
        width, dropout = 2 * sum(dims.values()), options.dropout
        super().__init__(
            outputs,
            lambda out: mlp(width, options.hidden, out, dropout),
            standardize=width if options.standardize else None,
        )
        self.names = list(dims)
        self.pooling = nn.ModuleList(
            AttentiveStatsPooling(dim, options.attention or dim) for dim in dims.values()
        )

    def embed(self, features: Features) -> Tensor:
        """Return the embeddings `(batch, width)`."""
        return torch.cat([pool(*features[name]) for name, pool in self._poolings()], dim=-1)

    def attention_of(self, features: Features) -> dict[str, Tensor]:
        """Return the weights `(batch, frames)` of every feature."""
        return {name: pool.weights(*features[name]) for name, pool in self._poolings()}

    def _poolings(self) -> list[tuple[str, AttentiveStatsPooling]]:
        poolings = cast(list[AttentiveStatsPooling], list(self.pooling))
        return list(zip(self.names, poolings, strict=True))
