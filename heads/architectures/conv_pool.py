"""The SAIL head: three pointwise convolutions, the mean over time, an MLP per output.

The categorical system of SAIL at Interspeech 2025 (SAILER), on frozen features, as in the models
that the team released (tiantiaf0627/vox-profile-release on GitHub): per feature three convolutions
of kernel 1 to `hidden` channels, ReLU and dropout after the first two, masked mean; then a Linear,
ReLU and a Linear for the classes, for each attribute and, in the released models, for secondary
emotions. A pointwise convolution is a Linear on every frame and written as one, so no frame sees
its neighbours and padding needs no care before the mean.
"""

import torch
from torch import Tensor, nn

from ser.heads.head import Features, Head, Widths, equal_weights, head, weighted_mean
from ser.heads.options import ConvPoolOptions


@head("conv_pool", ConvPoolOptions)
class ConvPool(Head):
    """Transform each feature frame by frame, average, and classify all of them at once."""

    def __init__(self, dims: Widths, outputs: Widths, options: ConvPoolOptions) -> None:
        width = options.hidden * len(dims)
        if options.secondary:
            outputs = {**outputs, "secondary": options.secondary}
        super().__init__(outputs, lambda out: _classifier(width, options.hidden, out))
        if "attributes" in outputs:
            self.outputs["attributes"] = Apart(width, options.hidden, outputs["attributes"])
        self.names = list(dims)
        self.convolutions = nn.ModuleList(
            _pointwise(dim, options.hidden, options.dropout) for dim in dims.values()
        )

    def embed(self, features: Features) -> Tensor:
        """Return the embeddings `(batch, width)`."""
        pooled = []
        for name, convolve in zip(self.names, self.convolutions, strict=True):
            frames, mask = features[name]
            pooled.append(weighted_mean(convolve(frames), equal_weights(mask)))
        return torch.cat(pooled, dim=-1)


class Apart(nn.Module):
    """An MLP for each attribute, which shares nothing with the others."""

    def __init__(self, width: int, hidden: int, attributes: int) -> None:
        super().__init__()
        self.each = nn.ModuleList(_classifier(width, hidden, 1) for _ in range(attributes))

    def forward(self, embedding: Tensor) -> Tensor:
        """Return `(batch, attributes)` of embeddings `(batch, width)`."""
        return torch.cat([rate(embedding) for rate in self.each], dim=1)


def _classifier(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))


def _pointwise(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (dim, hidden):
        layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(hidden, hidden))
