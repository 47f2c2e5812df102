"""The challenge baseline's head: attentive statistics pooling and an MLP.

Okabe, Koshinaka, Shinoda 2018, "Attentive Statistics Pooling for Deep Speaker Embedding", eq. 1-6.
Per feature, frames are scored by v^T tanh(W h + b) and a softmax over time; the mean and standard
deviation under these weights, of all features, are concatenated (twice the sum of dims) and
classified. Their scalar k is left out: the softmax cancels it.

With the defaults it is the baseline's code (msplabresearch/MSP-Podcast_Challenge_IS2025 on GitHub,
`net/pooling.py` and `net/ser.py`): W is as wide as the feature, v begins as N(0, 1), and the MLP is
dropout, Linear, LayerNorm, ReLU, dropout, Linear. Attributes are learned as (x - 1) / 6, without a
sigmoid, and cut to the scale in prediction.
"""

from typing import cast

import torch
from torch import Tensor, nn

from ser.heads.head import Features, Head, Widths, attention_weights, head, mlp, weighted_moments
from ser.heads.options import AttentiveStatsOptions


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

    def __init__(self, dims: Widths, outputs: Widths, options: AttentiveStatsOptions) -> None:
        width, dropout = 2 * sum(dims.values()), options.dropout
        self.linear = options.form == "baseline"
        classifier = _baseline_mlp if self.linear else mlp
        super().__init__(
            outputs,
            lambda out: classifier(width, options.hidden, out, dropout),
            standardize=width if options.standardize else None,
        )
        self.names = list(dims)
        self.pooling = nn.ModuleList(
            AttentiveStatsPooling(dim, options.attention or dim) for dim in dims.values()
        )
        if self.linear:
            for _, pool in self._poolings():
                nn.init.normal_(pool.score.weight)

    def embed(self, features: Features) -> Tensor:
        """Return the embeddings `(batch, width)`."""
        return torch.cat([pool(*features[name]) for name, pool in self._poolings()], dim=-1)

    def rate(self, values: Tensor) -> Tensor:
        """Return attributes on the scale of 1 to 7; in training, linear outputs may leave it."""
        if not self.linear:
            return super().rate(values)
        ratings = 1 + 6 * values
        return ratings if self.training else ratings.clamp(1, 7)

    def attention_of(self, features: Features) -> dict[str, Tensor]:
        """Return the weights `(batch, frames)` of every feature."""
        return {name: pool.weights(*features[name]) for name, pool in self._poolings()}

    def _poolings(self) -> list[tuple[str, AttentiveStatsPooling]]:
        poolings = cast(list[AttentiveStatsPooling], list(self.pooling))
        return list(zip(self.names, poolings, strict=True))


def _baseline_mlp(width: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(width, hidden),
        nn.LayerNorm(hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, out),
    )
