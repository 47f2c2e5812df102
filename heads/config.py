"""One entry of `heads:` in pipeline.yaml: what a head reads, how it is built, how it is trained.

Free of torch, so that a pipeline can be read and a stacker fitted where there is none; that is why
the options of the built-in architectures stand here and not beside their classes.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    model_validator,
)

from corpus.config import Section
from corpus.errors import UserError


class FeatureUse(Section):
    """Name a feature and say how it is read.

    `stride` k takes the mean of every k frames. `normalize: corpus` shifts and scales each channel
    by its mean and standard deviation over the frames of the training split (no labels, nothing of
    dev or test); hand-made features such as eGeMAPS, whose channels are in Hz, dB and ratios, need
    it, and a LayerNorm behind a Linear is no substitute.
    """

    name: str
    stride: PositiveInt = 1
    normalize: Literal["none", "corpus"] = "none"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class LossUse(Section):
    """Name a loss and its weight in the sum; a loss's own options stand beside these.

    What the options mean is said in `heads.losses`. `class_weight_power` p weighs class c by
    (N / (C n_c))^p over the training set: 0 not at all, 1 as wce does, 0.5 by the root.
    """

    name: str
    weight: PositiveFloat = 1.0


class PlainLoss(LossUse):
    """A loss without options."""

    name: Literal["wce", "sml", "soft_f1"]


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


def _named(value: Any) -> Any:
    if isinstance(value, Mapping) and "name" not in value:
        raise ValueError("a loss has no `name`")
    return {"name": value} if isinstance(value, str) else value


Loss = Annotated[
    PlainLoss | CrossEntropyLoss | FocalLoss | LabelSmoothingLoss | VectorScalingLoss,
    Field(discriminator="name"),
    BeforeValidator(_named),
]


class Architecture(Section):
    """Base of the options of an architecture."""


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
    """

    hidden: PositiveInt = 1024
    dropout: float = Field(default=0.5, ge=0, lt=1)
    attention: PositiveInt | None = None


class MeanMLPOptions(Architecture):
    """Options of `head: mean_mlp`; with `deviation` the standard deviation stands by the mean."""

    hidden: PositiveInt = 512
    dropout: float = Field(default=0.5, ge=0, lt=1)
    deviation: bool = False


class ConvPoolOptions(Architecture):
    """Options of `head: conv_pool`; the defaults are the published ones."""

    hidden: PositiveInt = 256
    dropout: float = Field(default=0.1, ge=0, lt=1)


ARCHITECTURES: dict[str, type[Architecture]] = {
    "cross_modal_gru": CrossModalGRUOptions,
    "attentive_stats": AttentiveStatsOptions,
    "mean_mlp": MeanMLPOptions,
    "conv_pool": ConvPoolOptions,
}


class HeadConfig(Section):
    """Say everything about one head; keys of its architecture stand beside these in the file.

    With `views`, each draw of a training clip is from a view with the chance `augmented`, any of
    them equally likely, and clean otherwise; dev, test and all logits are clean.
    """

    head: str = "cross_modal_gru"
    features: tuple[FeatureUse, ...] = Field(min_length=1)
    loss: tuple[Loss, ...] = Field(default=(PlainLoss(name="wce"),), min_length=1)
    sampler: Literal["natural", "neutral_expressive", "class_balanced", "undersample"] = "natural"
    neutral: str = "neutral"  # the class that sml and neutral_expressive set apart
    views: tuple[str, ...] = ()  # of those under `augment:` of the features
    augmented: float = Field(default=0.5, ge=0, le=1)
    epochs: PositiveInt = 30
    lr: PositiveFloat = 1e-5
    lr_min: float = Field(default=1e-6, ge=0)  # where the cosine ends
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(default=1e-6, ge=0)
    batch: PositiveInt = 64
    seed: int = 7
    architecture: SerializeAsAny[Architecture]

    @property
    def feature_names(self) -> list[str]:
        """Return the features in the order of the head's inputs."""
        return [use.name for use in self.features]

    @model_validator(mode="after")
    def _distinct(self) -> "HeadConfig":
        names = self.feature_names
        if len(set(names)) != len(names):
            raise ValueError(f"features: {', '.join(names)}: a feature is named twice")
        if len(set(self.views)) != len(self.views):
            raise ValueError(f"views: {', '.join(self.views)}: a view is named twice")
        return self


def register_architecture(name: str, options: type[Architecture]) -> None:
    """Make an architecture's options known; `@heads.head.head` does so for new heads."""
    ARCHITECTURES[name] = options


def valid_keys(entry: Mapping[str, Any]) -> list[str]:
    """List the keys an entry may have, its architecture's included."""
    options = _architecture(str(entry.get("head", "cross_modal_gru")))
    return [k for k in HeadConfig.model_fields if k != "architecture"] + list(options.model_fields)


def parse_head(entry: Mapping[str, Any]) -> HeadConfig:
    """Validate one entry, defaults merged in; raises `ValidationError` or `UserError`."""
    options = _architecture(str(entry.get("head", "cross_modal_gru")))
    own = {k: v for k, v in entry.items() if k in options.model_fields}
    rest = {k: v for k, v in entry.items() if k not in own}
    return HeadConfig.model_validate(rest | {"architecture": options.model_validate(own)})


def _architecture(name: str) -> type[Architecture]:
    if name not in ARCHITECTURES:
        near = get_close_matches(name, ARCHITECTURES, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(ARCHITECTURES)}."
        raise UserError(f"heads: the head '{name}' is unknown; {hint}")
    return ARCHITECTURES[name]
