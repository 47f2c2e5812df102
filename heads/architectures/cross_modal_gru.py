"""The UNICAMP head: BiGRUs, cross-modal attention, attention pooling.

Ueda, Lima, Marques, Costa 2025, "Improving Speech Emotion Recognition Through Cross Modal Attention
Alignment and Balanced Stacking Model". Per modality: Linear to `hidden`, LayerNorm, BiGRU (2 x
`hidden`). For every ordered pair, attention with one modality as query and the other as key and
value; all are summed onto the query's GRU output. Attention pooling, concatenation, LayerNorm, MLP
to logits; with the soft margin loss also one to a neutral/expressive logit.

The published code has no masks. Here the GRU leaves padded frames out, attention ignores padded
keys and pooling padded frames, so a clip in a batch equals the clip alone; unpadded, the result is
the published one; `ser.heads.peers` reads its state dicts.
"""

from typing import cast

import torch
from torch import Tensor, nn

from ser.heads.architectures.attention import cross_attention
from ser.heads.architectures.recurrent import bidirectional_gru
from ser.heads.head import Features, Head, Widths, attention_weights, head, mlp, weighted_mean
from ser.heads.options import CrossModalGRUOptions


class Modality(nn.Module):
    """One modality's own layers."""

    def __init__(self, dim: int, hidden: int, heads: int, dropout: float, alone: bool) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        if not alone:
            self.attention = nn.MultiheadAttention(
                2 * hidden, heads, dropout=dropout, batch_first=True
            )
        self.pooling = nn.Linear(2 * hidden, 1)

    def encode(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return `(batch, frames, 2 hidden)`, zero where padded."""
        return bidirectional_gru(self.gru, self.norm(self.projection(frames)), mask.sum(dim=1))

    def attend(self, query: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """Align another modality to this one's frames."""
        return cross_attention(self.attention, query, other, mask)

    def weights(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return the weights of the pooling `(batch, frames)`, 0 where padded."""
        return attention_weights(self.pooling(frames).squeeze(-1), mask)


@head("cross_modal_gru", CrossModalGRUOptions)
class CrossModalGRU(Head):
    """Fuse any number of modalities; with one there is no attention across."""

    def __init__(self, dims: Widths, outputs: Widths, options: CrossModalGRUOptions) -> None:
        hidden, dropout = options.hidden, options.dropout
        width = 2 * hidden * len(dims)
        super().__init__(outputs, lambda out: mlp(width, hidden, out, dropout))
        self.names = list(dims)
        self.modalities = nn.ModuleList(
            Modality(dim, hidden, _attention_heads(options, name), dropout, len(dims) == 1)
            for name, dim in dims.items()
        )
        self.norm = nn.LayerNorm(width)

    def _modalities(self) -> list[Modality]:
        return cast(list[Modality], list(self.modalities))

    def embed(self, features: Features) -> Tensor:
        """Return the embeddings `(batch, 2 hidden features)`."""
        pooled = [weighted_mean(frames, weights) for frames, weights in self._aligned(features)]
        return cast(Tensor, self.norm(torch.cat(pooled, dim=-1)))

    def attention_of(self, features: Features) -> dict[str, Tensor]:
        """Return the weights `(batch, frames)` of every feature."""
        aligned = zip(self.names, self._aligned(features), strict=True)
        return {name: weights for name, (_, weights) in aligned}

    def _aligned(self, features: Features) -> list[tuple[Tensor, Tensor]]:
        """Return each modality's frames aligned to the others, and the weights of its pooling."""
        masks = [features[name][1] for name in self.names]
        encoded = [
            m.encode(features[name][0], mask)
            for m, name, mask in zip(self._modalities(), self.names, masks, strict=True)
        ]
        pooled = []
        for i, modality in enumerate(self._modalities()):
            aligned = encoded[i]
            for j, other in enumerate(encoded):
                if j != i:
                    aligned = aligned + modality.attend(encoded[i], other, masks[j])
            pooled.append((aligned, modality.weights(aligned, masks[i])))
        return pooled


def _attention_heads(options: CrossModalGRUOptions, name: str) -> int:
    heads = options.attention_heads
    return heads if isinstance(heads, int) else heads.get(name, 1)
