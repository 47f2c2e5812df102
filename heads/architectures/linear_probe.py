"""The plain baseline: statistics of the frames, standardised, and one linear layer.

Of every channel the mean and the standard deviation over the real frames, and the quantiles that
`quantiles` names, standardised by the moments of the training clips. It has no epochs: the layer of
a feature with all its layers, the strength of the penalty and the weights are solved for
(`ser.heads.training.solving`), in seconds. A head that scores less than this one learns less from
the frames than a few lines of scikit-learn do.

Attributes are linear in the statistics and limited to the scale of 1 to 7. The auxiliary outputs
`neutral_logit` and `gender` are 0: there is nothing that they could help to train.
"""

import torch
from torch import Tensor, nn

from ser.heads.head import Features, Standard, Widths, equal_weights, head
from ser.heads.options import LinearProbeOptions


@head("linear_probe", LinearProbeOptions)
class LinearProbe(nn.Module):
    """Pool each feature over its frames, standardise, and apply one linear layer per output."""

    def __init__(self, dims: Widths, outputs: Widths, options: LinearProbeOptions) -> None:
        super().__init__()
        self.names, self.quantiles = list(dims), options.quantiles
        width = (2 + len(self.quantiles)) * sum(dims.values())
        self.standard = Standard(width)
        self.outputs = nn.ModuleDict({name: nn.Linear(width, out) for name, out in outputs.items()})

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return the statistics `(batch, ..., statistics * dim)` of `(batch, frames, ..., dim)`."""
        weights = equal_weights(mask)
        mean = torch.einsum("bt,bt...->b...", weights, frames)
        variance = torch.einsum("bt,bt...->b...", weights, (frames - mean.unsqueeze(1)).square())
        statistics = [mean, variance.clamp_min(1e-12).sqrt()]
        if self.quantiles:
            statistics += masked_quantiles(frames, mask, self.quantiles)
        return torch.cat(statistics, dim=-1)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return every output `(batch, width)`."""
        pooled = torch.cat([self.pool(*features[name]) for name in self.names], dim=-1)
        scores = self.standard(pooled)
        values: dict[str, Tensor] = {n: linear(scores) for n, linear in self.outputs.items()}
        if "attributes" in values:  # the scale of MSP-Podcast's ratings
            values["attributes"] = values["attributes"].clamp(1, 7)
        return values


def masked_quantiles(frames: Tensor, mask: Tensor, quantiles: tuple[float, ...]) -> list[Tensor]:
    """Return each quantile over the real frames `(batch, ..., dim)`, interpolated linearly."""
    shape = (-1, 1, *(1 for _ in frames.shape[2:]))
    real = mask.view(*mask.shape, *(1 for _ in frames.shape[2:]))
    ordered = frames.masked_fill(~real, float("inf")).sort(dim=1).values
    last = (mask.sum(dim=1) - 1).float()
    values = []
    for quantile in quantiles:
        place = quantile * last
        below = place.floor()
        low, high = (
            ordered.gather(1, at.long().view(shape).expand(-1, 1, *frames.shape[2:])).squeeze(1)
            for at in (below, place.ceil())
        )
        values.append(torch.lerp(low, high, (place - below).view(shape).squeeze(1)))
    return values
