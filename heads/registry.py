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


HEADS: "Registry[Callable[..., nn.Module], type[Architecture]]" = Registry(
    "head",
    "heads",
    {
        name: BuiltIn(f"ser.heads.architectures.{name}", summary, options)
        for name, summary, options in (
            (
                "cross_modal_gru",
                "BiGRUs, cross-modal attention, attention pooling (UNICAMP).",
                own.CrossModalGRUOptions,
            ),
            (
                "attentive_stats",
                "Attentive statistics pooling and an MLP (the challenge baseline).",
                own.AttentiveStatsOptions,
            ),
            ("mean_mlp", "The mean over time and an MLP.", own.MeanMLPOptions),
            ("conv_pool", "Pointwise convolutions and a mean (SAIL).", own.ConvPoolOptions),
            (
                "deep_fusion",
                "Transformers per modality, fused at two depths (MEDUSA).",
                own.DeepFusionOptions,
            ),
            (
                "early_mha",
                "All frames in one sequence, attended to twice (BSC-UPC).",
                own.EarlyMHAOptions,
            ),
            ("expert_lstm", "An LSTM over the features as experts (SRPOL).", own.ExpertLSTMOptions),
            ("mdat", "Graph attention, co-attention and transformers (UFG).", own.MDATOptions),
            (
                "class_scores",
                "Class scores or attributes made elsewhere, scaled.",
                own.ClassScoresOptions,
            ),
            (
                "linear_probe",
                "Pooled statistics and a solved linear layer: the plain baseline.",
                own.LinearProbeOptions,
            ),
        )
    },
)

_LOSSES: tuple[tuple[str, str, type[LossUse], Output, Target], ...] = (
    ("ce", "Cross-entropy.", own.CrossEntropyLoss, "logits", "classes"),
    ("wce", "Class-weighted cross-entropy.", own.PlainLoss, "logits", "classes"),
    ("focal", "Focal loss.", own.FocalLoss, "logits", "classes"),
    (
        "label_smoothing",
        "Cross-entropy of smoothed targets.",
        own.LabelSmoothingLoss,
        "logits",
        "classes",
    ),
    ("vs", "Vector scaling loss.", own.VectorScalingLoss, "logits", "classes"),
    ("soft_f1", "1 - macro soft-F1 of a batch.", own.PlainLoss, "logits", "classes"),
    ("kld", "Divergence from the votes.", own.DivergenceLoss, "logits", "votes"),
    ("soft_ce", "Cross-entropy of the votes.", own.SoftCrossEntropyLoss, "logits", "votes"),
    ("ccc", "1 - CCC of a batch.", own.PlainLoss, "attributes", "attributes"),
    ("mse", "Mean squared error.", own.PlainLoss, "attributes", "attributes"),
    (
        "gaussian_mse",
        "Squared error, weighted by a Gaussian.",
        own.GaussianMSELoss,
        "attributes",
        "attributes",
    ),
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

SAMPLERS: "Registry[Callable[..., np.ndarray], type[SamplerUse]]" = Registry(
    "sampler",
    "",
    {
        name: BuiltIn(f"ser.heads.training.samplers:{name}", summary, options)
        for name, summary, options in (
            ("natural", "Every utterance once.", own.Sampler),
            (
                "neutral_expressive",
                "Neutral and the rest equally likely, with replacement.",
                own.Sampler,
            ),
            (
                "class_balanced",
                "Each class equally likely, with replacement.",
                own.ClassBalancedSampler,
            ),
            (
                "undersample",
                "Each class cut to the rarest, anew every epoch.",
                own.UndersampleSampler,
            ),
        )
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
