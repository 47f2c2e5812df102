"""What stands before every head: its features standardised, their layers summed.

Both are saved with the head, so that a clip is treated in prediction as in training. The standard
scores of `normalize: corpus` are here; those of `normalize: speaker` hang on who speaks, which a
module does not know: `heads.training.speakers` has them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heads.head import Features, Mix

Moments = tuple[np.ndarray, np.ndarray]  # mean and deviation, of the shape of one frame


class FeatureInput(nn.Module):
    """Standardise one feature and sum its layers, where asked.

    With `layers` above 0 frames are `(batch, frames, layers, dim)` and the layers are summed with
    weights that are a softmax of learned numbers, all equal at first (Yang et al. 2021, "SUPERB",
    section 3).
    """

    def __init__(self, layers: int, moments: Moments | None) -> None:
        super().__init__()
        self.layer_weights = nn.Parameter(torch.zeros(layers)) if layers else None
        mean, deviation = moments or (None, None)
        self.register_buffer("mean", _float32(mean))
        self.register_buffer("deviation", _float32(deviation))

    def forward(self, frames: Tensor) -> Tensor:
        """Return `(batch, frames, dim)`."""
        if self.mean is not None:
            frames = (frames - self.get_buffer("mean")) / self.get_buffer("deviation")
        if self.layer_weights is None:
            return frames
        return torch.einsum("btld,l->btd", frames, self.layer_weights.softmax(dim=0))


class Prepared(nn.Module):
    """A head behind the inputs of its features; `layers` and `moments` are by feature name."""

    def __init__(
        self, head: nn.Module, layers: Mapping[str, int], moments: Mapping[str, Moments]
    ) -> None:
        super().__init__()
        self.head = head
        self.names = list(layers)
        self.inputs = nn.ModuleList(FeatureInput(n, moments.get(f)) for f, n in layers.items())

    def forward(self, features: Features, *mix: Mix) -> dict[str, Tensor]:
        """Return what the head returns."""
        outputs: dict[str, Tensor] = self.head(self._prepared(features), *mix)
        return outputs

    def pooling_weights(self, features: Features) -> dict[str, Tensor]:
        """Return what the head returns; nothing of a head that cannot say."""
        weights: Any = getattr(self.head, "pooling_weights", lambda features: {})
        return dict(weights(self._prepared(features)))

    def _prepared(self, features: Features) -> dict[str, tuple[Tensor, Tensor]]:
        return {
            name: (take(features[name][0]), features[name][1])
            for name, take in zip(self.names, self.inputs, strict=True)
        }


def _float32(values: np.ndarray | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(values.astype(np.float32))
