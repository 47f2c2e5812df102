"""The SAIL head: three pointwise convolutions, the mean over time, an MLP.

The categorical system of SAIL at Interspeech 2025 (SAILER), on frozen features: per feature three
convolutions of kernel 1 to `hidden` channels, ReLU and dropout after each, masked mean, then an
MLP over the concatenation. A pointwise convolution is a Linear on every frame and written as one,
so no frame sees its neighbours and padding needs no care before the mean.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from heads.config import Architecture, ConvPoolOptions
from heads.head import Features, equal_weights, head, mlp, require_extras


@head("conv_pool", ConvPoolOptions)
class ConvPool(nn.Module):
    """Transform each feature frame by frame, average, and classify all of them at once."""

    def __init__(
        self, dims: Mapping[str, int], classes: int, options: Architecture, extras: frozenset[str]
    ) -> None:
        super().__init__()
        assert isinstance(options, ConvPoolOptions)
        require_extras("conv_pool", extras)
        self.names = list(dims)
        hidden, dropout = options.hidden, options.dropout
        self.convolutions = nn.ModuleList(_pointwise(dim, hidden, dropout) for dim in dims.values())
        self.classifier = mlp(hidden * len(dims), hidden, classes, dropout)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return logits `(batch, classes)`."""
        pooled = []
        for name, convolve in zip(self.names, self.convolutions, strict=True):
            frames, mask = features[name]
            pooled.append(torch.einsum("bt,btd->bd", equal_weights(mask), convolve(frames)))
        return {"logits": self.classifier(torch.cat(pooled, dim=-1))}


def _pointwise(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (dim, hidden, hidden):
        layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)
