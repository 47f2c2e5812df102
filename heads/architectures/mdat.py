"""The UFG head (MDAT): attention within speech and text, between them, and a transformer of each.

Zaidi, Latif, Qadir 2023, "Cross-Language Speech Emotion Recognition Using Multimodal Dual Attention
Transformers", as the UFG entry to Interspeech 2025 has it in its released code
(alefiury/InterSpeech-SER-2025 on GitHub, `final_configs/`). The first two features are fused:

1. Linear, ReLU and dropout bring their frames to `hidden`;
2. graph attention: every frame becomes the mean of all frames of its feature, weighted by
   softmax_j LeakyReLU(a h_i + b h_j), h the frames times a matrix (Velickovic et al. 2018, "Graph
   Attention Networks", one head, all frames neighbours);
3. co-attention: with affinities (P h) (Q g)^T each frame adds the mean of the other feature's;
4. a transformer layer, and a mean over time in which every channel has weights of its own, the
   softmax of a Linear.

Other features go through 1. and a plain mean over time. A SwiGLU (Shazeer 2020, "GLU Variants
Improve Transformer") reads each output from all of it. A feature in `steps` is one whole number a
frame, such as the pitch of `kind: prosody`, and has a learned vector for each of its values.

The code has no masks, so it attends to padding; this does not. Its configurations ask for a mean in
4., which the code does not read beside MDAT; `pooling: mean` is that. Frames attend to all others,
quadratically: give speech features a `stride`.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, silu

from ser.corpus.errors import UserError
from ser.heads.head import Features, Head, Widths, equal_weights, head, weighted_mean
from ser.heads.options import MDATOptions


class GraphAttention(nn.Module):
    """Replace each frame by a mean of all, weighted by what both are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, width, bias=False)
        self.score = nn.Linear(2 * width, 1, bias=False)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return `(batch, frames, width)`."""
        nodes: Tensor = self.projection(frames)
        # the score of a pair is a sum of one number for each: no pair is written out
        own, other = (nodes @ part for part in self.score.weight[0].chunk(2))
        scores = leaky_relu(own.unsqueeze(2) + other.unsqueeze(1), 0.2)
        return _softmax(scores, mask) @ nodes


class CoAttention(nn.Module):
    """Add to each frame of two sequences what the other has for it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Linear(width, width, bias=False) for _ in range(2))

    def forward(
        self, first: Tensor, second: Tensor, masks: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return both `(batch, frames, width)`; `masks` are those of the first and the second."""
        affinity = self.first(first) @ self.second(second).mT
        to_first = _softmax(affinity, masks[1]) @ second
        to_second = _softmax(affinity.mT, masks[0]) @ first
        return first + to_first, second + to_second


class Pool(nn.Module):
    """Average frames over time, each channel with weights of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, width)

    def weights(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return weights `(batch, frames, width)` that sum to 1 over time, 0 where padded."""
        scores: Tensor = self.score(frames)
        return scores.masked_fill(~mask.unsqueeze(-1), float("-inf")).softmax(dim=1)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return `(batch, width)`."""
        return (self.weights(frames, mask) * frames).sum(dim=1)


class Mean(nn.Module):
    """Average frames over time."""

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return `(batch, width)`."""
        return weighted_mean(frames, equal_weights(mask))


class Steps(nn.Module):
    """A learned vector for each of the values 0 to `steps` - 1 of a feature."""

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(steps, width)

    def forward(self, frames: Tensor) -> Tensor:
        """Return `(batch, frames, width)` of frames `(batch, frames, 1)`."""
        last = self.vectors.num_embeddings - 1
        return cast(Tensor, self.vectors(frames[..., 0].round().clamp(0, last).long()))


class SwiGLU(nn.Module):
    """An MLP whose hidden layer is a product of two, one of them under SiLU."""

    def __init__(self, width: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.gate, self.value = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, out)

    def forward(self, embedding: Tensor) -> Tensor:
        """Return `(batch, out)`."""
        hidden = self.dropout(silu(self.gate(embedding)) * self.value(embedding))
        return cast(Tensor, self.out(hidden))


@head("mdat", MDATOptions)
class MDAT(Head):
    """Fuse the first two features by two attentions; further ones join their embedding."""

    def __init__(self, dims: Widths, outputs: Widths, options: MDATOptions) -> None:
        hidden, dropout = options.hidden, options.dropout
        width = hidden * len(dims)
        super().__init__(outputs, lambda out: SwiGLU(width, options.classifier, out, dropout))
        self.names = list(dims)
        self.projections = nn.ModuleList(_projection(n, d, options) for n, d in dims.items())
        fused = min(len(dims), 2)
        self.graphs = nn.ModuleList(GraphAttention(hidden) for _ in range(fused))
        self.co_attention = CoAttention(hidden) if fused == 2 else None
        self.transformers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                hidden, options.attention_heads, options.feed_forward, dropout, batch_first=True
            )
            for _ in range(fused)
        )
        self.pools = nn.ModuleList(
            Pool(hidden) if i < fused and options.pooling == "attention" else Mean()
            for i in range(len(dims))
        )

    def embed(self, features: Features) -> Tensor:
        """Return the embeddings `(batch, width)`."""
        pooled = [
            pool(*sequence)
            for pool, sequence in zip(self.pools, self.sequences(features), strict=True)
        ]
        return torch.cat(pooled, dim=-1)

    def attention_of(self, features: Features) -> dict[str, Tensor]:
        """Return the weights of the frames of each fused feature, their mean over the channels."""
        sequences = zip(self.names, self.pools, self.sequences(features), strict=True)
        return {
            name: pool.weights(*sequence).mean(dim=2)
            for name, pool, sequence in sequences
            if isinstance(pool, Pool)
        }

    def sequences(self, features: Features) -> list[tuple[Tensor, Tensor]]:
        """Return the frames `(batch, frames, hidden)` of each feature before they are pooled."""
        masks = [features[name][1] for name in self.names]
        frames = [
            project(features[name][0])
            for name, project in zip(self.names, self.projections, strict=True)
        ]
        for i, graph in enumerate(self.graphs):
            frames[i] = graph(frames[i], masks[i])
        if self.co_attention is not None:
            frames[:2] = self.co_attention(*frames[:2], (masks[0], masks[1]))
        for i, transform in enumerate(self.transformers):
            frames[i] = transform(frames[i], src_key_padding_mask=~masks[i])
        return list(zip(frames, masks, strict=True))


def _projection(name: str, dim: int, options: MDATOptions) -> nn.Sequential:
    steps, hidden = options.steps.get(name), options.hidden
    if steps is not None and dim != 1:
        raise UserError(
            f"steps: {name} has {dim} values per frame, and steps are of one whole number; use "
            "such a feature (`kind: prosody` with `values: pitch`), or leave it out of `steps:`."
        )
    first = [] if steps is None else [Steps(steps, hidden)]
    width = dim if steps is None else hidden
    return nn.Sequential(*first, nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(options.dropout))


def _softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax of `(batch, frames, others)` over the others, 0 where they are padded."""
    return scores.masked_fill(~mask.unsqueeze(1), float("-inf")).softmax(dim=-1)
