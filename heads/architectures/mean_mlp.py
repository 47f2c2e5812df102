"""The simplest head: the mean of each feature over time, and an MLP.

Masked mean per feature, with `deviation: true` the masked standard deviation as well (divided by
the number of frames, not one less), all concatenated and classified. It trains in seconds and is
the baseline of the features alone; any head that models time has to beat it. There is no norm in
it: features whose channels differ in scale want `standardize: true`, which standardises what is
pooled (on Whisper's frames much better than `normalize: corpus`, which standardises each frame).
"""

import torch
from torch import Tensor

from ser.heads.head import Features, Head, Widths, equal_weights, head, mlp, weighted_moments
from ser.heads.options import MeanMLPOptions


@head("mean_mlp", MeanMLPOptions)
class MeanMLP(Head):
    """Average each feature over its frames and classify all of them at once."""

    def __init__(self, dims: Widths, outputs: Widths, options: MeanMLPOptions) -> None:
        moments = 2 if options.deviation else 1
        width = moments * sum(dims.values())
        super().__init__(
            outputs,
            lambda out: mlp(width, options.hidden, out, options.dropout),
            standardize=width if options.standardize else None,
        )
        self.names, self.moments = list(dims), moments

    def embed(self, features: Features) -> Tensor:
        """Return the embeddings `(batch, width)`."""
        pooled: list[Tensor] = []
        for name in self.names:
            frames, mask = features[name]
            pooled += weighted_moments(frames, equal_weights(mask))[: self.moments]
        return torch.cat(pooled, dim=-1)
