"""Predictions that were made elsewhere, as they are: of a language model, a published classifier.

Each feature has a channel a class, log-probabilities or logits in the order of the classes. The
logits are the mean over features of s_f x_f, plus b: x_f the masked mean over time, s_f a scale
that begins at 1, b a bias that begins at 0. So `epochs: 0` is the prediction of the scores alone,
and training fits a temperature and, with `bias: true`, the classes' shares (vector scaling with one
scale; Guo et al. 2017, "On Calibration of Modern Neural Networks").

With a loss of attributes, each feature has a channel an attribute, in the order of `attributes:`.
The output is computed alike, with the scales about 4, the middle of the scale of 1 to 7, so that
training shrinks or stretches the ratings around it.
"""

import torch
from torch import Tensor, nn

from ser.corpus.errors import UserError
from ser.heads.head import Features, Widths, equal_weights, head, weighted_mean
from ser.heads.options import ClassScoresOptions

NOUNS = {"logits": ("class", "classes"), "attributes": ("attribute", "attributes")}
MIDDLE = 4.0  # of the scale of attributes


@head("class_scores", ClassScoresOptions)
class ClassScores(nn.Module):
    """Scale scores or ratings, average them over features, and shift them."""

    def __init__(self, dims: Widths, outputs: Widths, options: ClassScoresOptions) -> None:
        super().__init__()
        if list(outputs) not in (["logits"], ["attributes"]):
            raise UserError(
                "head 'class_scores': it gives classes or attributes alone, not "
                f"{', '.join(outputs)}; use a loss of one of them."
            )
        ((self.output, width),) = outputs.items()
        one, many = NOUNS[self.output]
        for name, dim in dims.items():
            if dim != width:
                raise UserError(
                    f"head 'class_scores': features.{name} has {dim} channels for {width} {many}; "
                    f"give one per {one}, in the order of the {many}."
                )
        self.names = list(dims)
        self.scale = nn.Parameter(torch.ones(len(dims)))
        self.bias = nn.Parameter(torch.zeros(width)) if options.bias else None

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return `logits` `(batch, classes)`, or `attributes` `(batch, attributes)`, 1 to 7."""
        middle = MIDDLE if self.output == "attributes" else 0.0
        read = [features[name] for name in self.names]
        means = [weighted_mean(frames, equal_weights(mask)) - middle for frames, mask in read]
        values = (torch.stack(means, dim=-1) * self.scale).mean(dim=-1) + middle
        if self.bias is not None:
            values = values + self.bias
        return {self.output: values.clamp(1, 7) if self.output == "attributes" else values}
