"""The SAIL head: three pointwise convolutions, the mean over time, an MLP.

The categorical system of SAIL at Interspeech 2025 (SAILER), on frozen features: per feature three
convolutions of kernel 1 to `hidden` channels, ReLU and dropout after each, masked mean, then an
MLP over the concatenation. A pointwise convolution is a Linear on every frame and written as one,
so no frame sees its neighbours and padding needs no care before the mean.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ser.heads.head import Features, Head, equal_weights, head, mlp
from ser.heads.options import Architecture, ConvPoolOptions


@head("conv_pool", ConvPoolOptions)
class ConvPool(Head):
    """Transform each feature frame by frame, average, and classify all of them at once."""

    def __init__(
        self, dims: Mapping[str, int], outputs: Mapping[str, int], options: Architecture
    ) -> None:
        assert isinstance(options, ConvPoolOptions)
        hidden, dropout = options.hidden, options.dropout
        super().__init__(outputs, lambda out: mlp(hidden * len(dims), hidden, out, dropout))
        self.names = list(dims)
        self.convolutions = nn.ModuleList(_pointwise(dim, hidden, dropout) for dim in dims.values())

    def embed(self, features: Features) -> Tensor:
        """Return the embeddings `(batch, width)`."""
        pooled = []
        for name, convolve in zip(self.names, self.convolutions, strict=True):
            frames, mask = features[name]
            pooled.append(torch.einsum("bt,btd->bd", equal_weights(mask), convolve(frames)))
        return torch.cat(pooled, dim=-1)


def _pointwise(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (dim, hidden, hidden):
        layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)
