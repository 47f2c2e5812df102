"""The BSC-UPC head: frames of all modalities in one sequence, attended to twice.

Costa, India, Hernando 2024, "Double Multi-Head Attention Multimodal System for Odyssey 2024 Speech
Emotion Recognition Challenge", and its first author's code (fedecosta/SpeechEmotionRecognition on
GitHub, with the defaults of its `shs/train.sh`). Every modality is brought to one width, all are
joined in time, and two attentions make one vector of them:

full        self-attention of the frames, each of the heads as wide as `hidden`, summed by a Linear;
            then a mean over the frames, weighted by softmax of their products with a learned query
sub_vector  India, Safari, Hernando 2021, "Double Multi-Head Attention for Speaker Verification":
            frames are cut into a sub-vector a head, and each head's are averaged over time by
            softmax of their products with the head's learned query, over the root of the number
            of heads, as in the code;
            then the heads' averages are pooled as the frames are above, so that the embedding is
            `hidden` / `attention_heads` wide

Dropout and `classifier_layers` of Linear, LayerNorm, GELU and dropout follow, then a Linear an
output. Each feature has a LayerNorm of its own before; in the original all are 1,024 wide, and only
speech may have an adapter (Linear, LayerNorm). The code attends to padding; this does not.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ser.heads.head import Features, Head, Widths, attention_pool, head
from ser.heads.options import EarlyMHAOptions


class WideAttention(nn.Module):
    """Self-attention of the frames by heads that see all channels."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries, self.keys, self.values = (
            nn.Linear(width, heads * width, bias=False) for _ in range(3)
        )
        self.unify = nn.Linear(heads * width, width)

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return `(batch, frames, width)` in context, and their mask."""
        query, key, value = (
            project(frames).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.queries, self.keys, self.values)
        )
        attended = mask[:, None, None, :]  # by every head and every frame
        context = scaled_dot_product_attention(query, key, value, attn_mask=attended)
        return self.unify(context.transpose(1, 2).flatten(2)), mask


class SubVectorAttention(nn.Module):
    """Average each head's part of the frames over time."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(nn.init.xavier_normal_(torch.empty(heads, width // heads)))

    def weights(self, parts: Tensor, mask: Tensor) -> Tensor:
        """Return the weights `(batch, frames, heads)` of sub-vectors, 0 where padded."""
        scores = torch.einsum("bthd,hd->bth", parts, self.queries) / math.sqrt(len(self.queries))
        return scores.masked_fill(~mask.unsqueeze(-1), float("-inf")).softmax(dim=1)

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return `(batch, heads, width / heads)`, and a mask that hides none of them."""
        parts = frames.unflatten(-1, self.queries.shape)
        pooled = torch.einsum("bth,bthd->bhd", self.weights(parts, mask), parts)
        return pooled, mask.new_ones(pooled.shape[:2])


@head("early_mha", EarlyMHAOptions)
class EarlyMHA(Head):
    """Join the modalities in time and pool them by two attentions."""

    def __init__(self, dims: Widths, outputs: Widths, options: EarlyMHAOptions) -> None:
        hidden, heads = options.hidden, options.attention_heads
        width = hidden if options.attention == "full" else hidden // heads
        super().__init__(outputs, lambda out: _classifier(width, out, options))
        self.names = list(dims)
        always = {"needed": 0, "first": 1, "all": len(dims)}[options.adapter]  # the first features
        self.adapters = nn.ModuleList(
            _adapter(dim, hidden, i < always or dim != hidden)
            for i, dim in enumerate(dims.values())
        )
        kind = WideAttention if options.attention == "full" else SubVectorAttention
        self.attention = kind(hidden, heads)
        self.pooling = nn.Linear(width, 1, bias=False)

    def embed(self, features: Features) -> Tensor:
        """Return the embeddings `(batch, width)`."""
        adapted = [
            adapt(features[name][0]) for name, adapt in zip(self.names, self.adapters, strict=True)
        ]
        mask = torch.cat([features[name][1] for name in self.names], dim=1)
        context, real = self.attention(torch.cat(adapted, dim=1), mask)
        return attention_pool(context, self.pooling(context).squeeze(-1), real)


def _adapter(dim: int, hidden: int, projected: bool) -> nn.Sequential:
    adapter = [nn.Linear(dim, hidden), nn.LayerNorm(hidden)] if projected else []
    return nn.Sequential(nn.LayerNorm(dim), *adapter)


def _classifier(width: int, out: int, options: EarlyMHAOptions) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Dropout(options.dropout)]
    for _ in range(options.classifier_layers):
        layers += [
            nn.Linear(width, options.classifier),
            nn.LayerNorm(options.classifier),
            nn.GELU(),
            nn.Dropout(options.dropout),
        ]
        width = options.classifier
    return nn.Sequential(*layers, nn.Linear(width, out))
