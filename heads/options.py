"""The options that losses and architectures take in pipeline.yaml, and their defaults.

They stand here, and not beside the code they configure, because a pipeline is also read where there
is no torch. A head of a user's brings its own options, by `@head(name, Options)`.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from corpus.config import Section


class LossUse(Section):
    """Name a loss and its weight in the sum; a loss's own options stand beside these.

    What the options mean is said in `heads.training.losses`. `class_weight_power` p weighs class c
    by (N / (C n_c))^p over the training set: 0 not at all, 1 as wce does, 0.5 by the root.
    """

    name: str
    weight: PositiveFloat = 1.0


class PlainLoss(LossUse):
    """A loss without options."""

    name: Literal["wce", "sml", "soft_f1", "ccc", "mse", "gender"]


class CrossEntropyLoss(LossUse):
    """Options of `ce`."""

    name: Literal["ce"]
    class_weight_power: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class FocalLoss(LossUse):
    """Options of `focal`."""

    name: Literal["focal"]
    gamma: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    class_weight_power: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class LabelSmoothingLoss(LossUse):
    """Options of `label_smoothing`."""

    name: Literal["label_smoothing"]
    smoothing: float = Field(default=0.1, ge=0, lt=1)


class VectorScalingLoss(LossUse):
    """Options of `vs`; the defaults are those of the ABHINAYA entry."""

    name: Literal["vs"]
    gamma: float = Field(default=0.3, ge=0, allow_inf_nan=False)
    tau: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    class_weight_power: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class DivergenceLoss(LossUse):
    """Options of `kld`."""

    name: Literal["kld"]
    class_weight_power: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class SoftCrossEntropyLoss(LossUse):
    """Options of `soft_ce`; the default is that of the NTUA entry."""

    name: Literal["soft_ce"]
    class_weight_power: float = Field(default=0.5, ge=0, allow_inf_nan=False)


class GaussianMSELoss(LossUse):
    """Options of `gaussian_mse`; the defaults are those of the SRPOL entry, sigma our own."""

    name: Literal["gaussian_mse"]
    mean: float = 4.0
    sigma: PositiveFloat = 1.0


LOSSES = (
    PlainLoss
    | CrossEntropyLoss
    | FocalLoss
    | LabelSmoothingLoss
    | VectorScalingLoss
    | DivergenceLoss
    | SoftCrossEntropyLoss
    | GaussianMSELoss
)
# what each loss reads: the output of the head, and the target that it is compared with
READS = {
    **dict.fromkeys(
        ("ce", "wce", "focal", "label_smoothing", "vs", "soft_f1"), ("logits", "classes")
    ),
    **dict.fromkeys(("kld", "soft_ce"), ("logits", "votes")),
    **dict.fromkeys(("ccc", "mse", "gaussian_mse"), ("attributes", "attributes")),
    "sml": ("neutral_logit", "classes"),
    "gender": ("gender", "gender"),
}


def _named(value: Any) -> Any:
    value = {"name": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping):
        return value
    if "name" not in value:
        raise ValueError("a loss has no `name`")
    if value["name"] not in READS:
        near = get_close_matches(str(value["name"]), READS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(READS)}"
        raise ValueError(f"the loss '{value['name']}' is unknown; {hint}")
    return value


Loss = Annotated[LOSSES, Field(discriminator="name"), BeforeValidator(_named)]


class Architecture(Section):
    """Base of the options of an architecture; one that is `ready` may have `epochs: 0`."""

    ready: ClassVar[bool] = False


class CrossModalGRUOptions(Architecture):
    """Options of `head: cross_modal_gru`; the defaults are the published ones.

    `attention_heads` is one number, or one per feature name (the others have 1).
    """

    hidden: PositiveInt = 512
    dropout: float = Field(default=0.5, ge=0, lt=1)
    attention_heads: PositiveInt | dict[str, PositiveInt] = 1


class AttentiveStatsOptions(Architecture):
    """Options of `head: attentive_stats`; the defaults are the challenge baseline's.

    `attention` is the width of the layer that scores the frames; without one, the feature's own.
    `standardize` shifts and scales what is pooled by its moments over the training clips.
    """

    hidden: PositiveInt = 1024
    dropout: float = Field(default=0.5, ge=0, lt=1)
    attention: PositiveInt | None = None
    standardize: bool = False


class MeanMLPOptions(Architecture):
    """Options of `head: mean_mlp`; with `deviation` the standard deviation stands by the mean.

    `standardize` shifts and scales both by their moments over the training clips.
    """

    hidden: PositiveInt = 512
    dropout: float = Field(default=0.5, ge=0, lt=1)
    deviation: bool = False
    standardize: bool = False


class ConvPoolOptions(Architecture):
    """Options of `head: conv_pool`; the defaults are the published ones."""

    hidden: PositiveInt = 256
    dropout: float = Field(default=0.1, ge=0, lt=1)


class DeepFusionOptions(Architecture):
    """Options of `head: deep_fusion`; the defaults are the published ones.

    `feed_forward` is the inner width of the transformer layers.
    """

    hidden: PositiveInt = 512
    dropout: float = Field(default=0.1, ge=0, lt=1)
    feed_forward: PositiveInt = 2048


class EarlyMHAOptions(Architecture):
    """Options of `head: early_mha`; the defaults are the published ones.

    `hidden` is the width that all features are projected to, `classifier` that of each of the
    `classifier_layers` hidden layers behind the pooling. `attention: full` has heads as wide as
    `hidden`, `sub_vector` gives each head its own part of it.
    """

    hidden: PositiveInt = 1024
    dropout: float = Field(default=0.1, ge=0, lt=1)
    attention: Literal["full", "sub_vector"] = "full"
    attention_heads: PositiveInt = 4
    classifier: PositiveInt = 512
    classifier_layers: PositiveInt = 5

    @model_validator(mode="after")
    def _divisible(self) -> "EarlyMHAOptions":
        if self.attention == "sub_vector" and self.hidden % self.attention_heads:
            raise ValueError(
                f"attention_heads: {self.attention_heads} sub-vectors do not divide "
                f"hidden: {self.hidden}; take a divisor of it"
            )
        return self


class ExpertLSTMOptions(Architecture):
    """Options of `head: expert_lstm`; the sizes are our own, as none are published.

    `attention` is the width of the layer that scores the frames; without one, the feature's own.
    """

    hidden: PositiveInt = 512
    dropout: float = Field(default=0.0, ge=0, lt=1)
    attention: PositiveInt | None = None


class ClassScoresOptions(Architecture):
    """Options of `head: class_scores`: whether a bias is learned beside the scales."""

    ready: ClassVar[bool] = True

    bias: bool = True


ARCHITECTURES: dict[str, type[Architecture]] = {
    "cross_modal_gru": CrossModalGRUOptions,
    "attentive_stats": AttentiveStatsOptions,
    "mean_mlp": MeanMLPOptions,
    "conv_pool": ConvPoolOptions,
    "deep_fusion": DeepFusionOptions,
    "early_mha": EarlyMHAOptions,
    "expert_lstm": ExpertLSTMOptions,
    "class_scores": ClassScoresOptions,
}
