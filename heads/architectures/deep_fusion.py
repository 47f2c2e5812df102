"""The NTUA head (DeepSER of MEDUSA): transformers per modality, fused at two depths.

Chatzichristodoulou et al. 2025, "MEDUSA: A Multimodal Deep Fusion Multi-Stage Training Framework
for Speech Emotion Recognition in Naturalistic Conditions", and its released `net/`. A *leg* is a
Linear-ReLU-Linear to `hidden`, two one-head transformer layers giving h1 and h2, and the mean h3 of
h2 over time:

1. every modality goes through a leg of its own;
2. a fourth leg takes the h1 of all, one after another in time; its h2 is f12;
3. a fifth takes the h2 of all and f12 likewise; its h3 is f23;
4. a Linear of all h3 and f23 is the embedding (where mix-up comes); ReLU and a Linear an output.

The released code has no masks, so zeros that pad a clip are attended to and averaged; here they are
not. Its two layers of a leg start as copies of each other, ours each at random. There are no
positions: the order of frames changes nothing. The fifth leg attends over twice the frames of all
modalities, quadratically: give speech features a `stride`.
"""

from typing import cast

import torch
from torch import Tensor, nn

from ser.heads.head import Features, Head, Widths, equal_weights, head, weighted_mean
from ser.heads.options import DeepFusionOptions


class Leg(nn.Module):
    """Project frames and transform them twice."""

    def __init__(self, dim: int, options: DeepFusionOptions) -> None:
        super().__init__()
        hidden = options.hidden
        self.projection = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden)
        )
        self.first, self.second = (
            nn.TransformerEncoderLayer(
                hidden, 1, options.feed_forward, options.dropout, batch_first=True
            )
            for _ in range(2)
        )

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return h1, h2 `(batch, frames, hidden)` and h3 `(batch, hidden)`."""
        h1 = self.first(self.projection(frames), src_key_padding_mask=~mask)
        h2 = self.second(h1, src_key_padding_mask=~mask)
        return h1, h2, weighted_mean(h2, equal_weights(mask))


@head("deep_fusion", DeepFusionOptions)
class DeepFusion(Head):
    """Fuse any number of modalities."""

    def __init__(self, dims: Widths, outputs: Widths, options: DeepFusionOptions) -> None:
        hidden = options.hidden
        super().__init__(outputs, lambda out: nn.Sequential(nn.ReLU(), nn.Linear(hidden, out)))
        self.names = list(dims)
        self.legs = nn.ModuleList(Leg(dim, options) for dim in dims.values())
        self.shallow, self.deep = Leg(hidden, options), Leg(hidden, options)
        self.fuse = nn.Linear(hidden * (len(dims) + 1), hidden)

    def embed(self, features: Features) -> Tensor:
        """Return the embeddings `(batch, hidden)`."""
        legs = [leg(*features[name]) for name, leg in zip(self.names, self.legs, strict=True)]
        h1, h2, h3 = (list(depth) for depth in zip(*legs, strict=True))
        mask = torch.cat([features[name][1] for name in self.names], dim=1)
        _, f12, _ = self.shallow(torch.cat(h1, dim=1), mask)
        _, _, f23 = self.deep(torch.cat([*h2, f12], dim=1), torch.cat([mask, mask], dim=1))
        return cast(Tensor, self.fuse(torch.cat([*h3, f23], dim=-1)))
