"""Scores of the classes that were made elsewhere, as they are: of a language model, for example.

Each feature has a channel a class, log-probabilities or logits in the order of the classes. The
logits are the mean over features of s_f x_f, plus b: x_f the masked mean over time, s_f a scale
that begins at 1, b a bias that begins at 0. So `epochs: 0` is the prediction of the scores alone,
and training fits a temperature and, with `bias: true`, the classes' shares (vector scaling with one
scale; Guo et al. 2017, "On Calibration of Modern Neural Networks").
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ser.corpus.errors import UserError
from ser.heads.head import Features, equal_weights, head, weighted_moments
from ser.heads.options import Architecture, ClassScoresOptions


@head("class_scores", ClassScoresOptions)
class ClassScores(nn.Module):
    """Scale scores, average them over features, and shift them."""

    def __init__(
        self, dims: Mapping[str, int], outputs: Mapping[str, int], options: Architecture
    ) -> None:
        assert isinstance(options, ClassScoresOptions)
        super().__init__()
        if list(outputs) != ["logits"]:
            unsupported = ", ".join(name for name in outputs if name != "logits")
            raise UserError(f"head 'class_scores': it has no {unsupported}; use a loss of classes.")
        for name, dim in dims.items():
            if dim != outputs["logits"]:
                raise UserError(
                    f"head 'class_scores': features.{name} has {dim} channels for "
                    f"{outputs['logits']} classes; give one per class, in the order of the classes."
                )
        self.names = list(dims)
        self.scale = nn.Parameter(torch.ones(len(dims)))
        self.bias = nn.Parameter(torch.zeros(outputs["logits"])) if options.bias else None

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return `logits` `(batch, classes)`."""
        means = []
        for name in self.names:
            frames, mask = features[name]
            means.append(weighted_moments(frames, equal_weights(mask))[0])
        logits = (torch.stack(means, dim=-1) * self.scale).mean(dim=-1)
        return {"logits": logits if self.bias is None else logits + self.bias}
