"""The plainest head: the mean of each feature over time, and an MLP.

Masked mean per feature, with `deviation: true` the masked standard deviation as well (divided by
the number of frames, not one less), all concatenated and classified. It trains in seconds and says
what the features alone are worth; any head that looks at time has to beat it. There is no norm in
it: features of other scales than their neighbours' want `normalize: corpus`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from heads.config import Architecture, MeanMLPOptions
from heads.head import Features, equal_weights, head, mlp, require_extras, weighted_moments


@head("mean_mlp", MeanMLPOptions)
class MeanMLP(nn.Module):
    """Average each feature over its frames and classify all of them at once."""

    def __init__(
        self, dims: Mapping[str, int], classes: int, options: Architecture, extras: frozenset[str]
    ) -> None:
        super().__init__()
        assert isinstance(options, MeanMLPOptions)
        require_extras("mean_mlp", extras)
        self.names = list(dims)
        self.moments = 2 if options.deviation else 1
        width = self.moments * sum(dims.values())
        self.classifier = mlp(width, options.hidden, classes, options.dropout)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return logits `(batch, classes)`."""
        pooled: list[Tensor] = []
        for name in self.names:
            frames, mask = features[name]
            pooled += weighted_moments(frames, equal_weights(mask))[: self.moments]
        return {"logits": self.classifier(torch.cat(pooled, dim=-1))}
