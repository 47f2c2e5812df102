"""The heads, losses and samplers there are, and what is known of each without torch.

A pipeline is also read where there is no torch, so the options of the built-in ones are in a table
here, and their code is imported when a head is built. A part of a user's brings its own options:
`@head(name, Options)`, `@loss(name, Options, …)`, `@sampler(name, Options)`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, SerializeAsAny

from ser.corpus.registry import BuiltIn, Registry, validate_as
from ser.heads import options as own
from ser.heads.options import Architecture, LossUse, SamplerUse

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

Output = Literal["logits", "neutral_logit", "attributes", "gender"]
Target = Literal["classes", "votes", "attributes", "gender"]


@dataclass(frozen=True)
class LossInfo:
    """A loss as a pipeline needs it: its options, the output that it reads, and the target."""

    options: type[LossUse]
    output: Output
    target: Target


_HEADS: dict[str, type[Architecture]] = {
    "cross_modal_gru": own.CrossModalGRUOptions,
    "attentive_stats": own.AttentiveStatsOptions,
    "mean_mlp": own.MeanMLPOptions,
    "conv_pool": own.ConvPoolOptions,
    "deep_fusion": own.DeepFusionOptions,
    "early_mha": own.EarlyMHAOptions,
    "expert_lstm": own.ExpertLSTMOptions,
    "mdat": own.MDATOptions,
    "class_scores": own.ClassScoresOptions,
    "linear_probe": own.LinearProbeOptions,
}
HEADS: "Registry[Callable[..., nn.Module], type[Architecture]]" = Registry(
    "head",
    "heads",
    {
        name: BuiltIn(f"ser.heads.architectures.{name}", options.summary, options)
        for name, options in _HEADS.items()
    },
)

CLASSES: tuple[Output, Target] = ("logits", "classes")
VOTES: tuple[Output, Target] = ("logits", "votes")
RATINGS: tuple[Output, Target] = ("attributes", "attributes")
_LOSSES: tuple[tuple[str, str, type[LossUse], Output, Target], ...] = (
    ("ce", "Cross-entropy.", own.CrossEntropyLoss, *CLASSES),
    ("wce", "Class-weighted cross-entropy.", own.PlainLoss, *CLASSES),
    ("focal", "Focal loss.", own.FocalLoss, *CLASSES),
    ("label_smoothing", "Cross-entropy of smoothed targets.", own.LabelSmoothingLoss, *CLASSES),
    ("vs", "Vector scaling loss.", own.VectorScalingLoss, *CLASSES),
    ("soft_f1", "1 - macro soft-F1 of a batch.", own.PlainLoss, *CLASSES),
    ("kld", "Divergence from the votes.", own.CrossEntropyLoss, *VOTES),
    ("soft_ce", "Cross-entropy of the votes.", own.SoftCrossEntropyLoss, *VOTES),
    ("ccc", "1 - CCC of a batch.", own.PlainLoss, *RATINGS),
    ("mse", "Mean squared error.", own.PlainLoss, *RATINGS),
    ("gaussian_mse", "Squared error, weighted by a Gaussian.", own.GaussianMSELoss, *RATINGS),
    ("sml", "Soft margin of neutral against the rest.", own.PlainLoss, "neutral_logit", "classes"),
    ("gender", "Cross-entropy of the gender.", own.PlainLoss, "gender", "gender"),
)
LOSSES: "Registry[Callable[..., Tensor], LossInfo]" = Registry(
    "loss",
    "",
    {
        name: BuiltIn(
            f"ser.heads.training.losses:{name}", summary, LossInfo(options, output, target)
        )
        for name, summary, options, output, target in _LOSSES
    },
)

_SAMPLERS = (
    ("natural", own.Sampler, "Every utterance once."),
    ("neutral_expressive", own.Sampler, "Neutral and the rest equally likely, with replacement."),
    ("class_balanced", own.ClassBalancedSampler, "Each class equally likely, with replacement."),
    ("undersample", own.UndersampleSampler, "Each class cut to the rarest, anew every epoch."),
)
SAMPLERS: "Registry[Callable[..., np.ndarray], type[SamplerUse]]" = Registry(
    "sampler",
    "",
    {
        name: BuiltIn(f"ser.heads.training.samplers:{name}", summary, options)
        for name, options, summary in _SAMPLERS
    },
)


def _loss(value: object) -> object:
    value = {"name": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping):
        return value
    if "name" not in value:
        raise ValueError("a loss has no `name`")
    return validate_as(LOSSES.about(LOSSES.validate(str(value["name"]))).options, value)


def _sampler(value: object) -> object:
    value = {"name": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping):
        return value
    value = {"name": "natural"} | dict(value)
    return validate_as(SAMPLERS.about(SAMPLERS.validate(str(value["name"]))), value)


Loss = Annotated[SerializeAsAny[LossUse], BeforeValidator(_loss)]
SamplerChoice = Annotated[SerializeAsAny[SamplerUse], BeforeValidator(_sampler)]
