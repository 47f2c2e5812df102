"""One entry of `heads:` in pipeline.yaml: what a head reads, how it is built, how it is trained.

Free of torch, so that a pipeline can be read and a stacker fitted where there is none; that is why
the options of the built-in architectures stand here and not beside their classes.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, SerializeAsAny, model_validator

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
    """Name a loss and its weight in the sum."""

    name: Literal["wce", "sml"]
    weight: PositiveFloat = 1.0

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Architecture(Section):
    """Base of the options of an architecture."""


class CrossModalGRUOptions(Architecture):
    """Options of `head: cross_modal_gru`; the defaults are the published ones.

    `attention_heads` is one number, or one per feature name (the others have 1).
    """

    hidden: PositiveInt = 512
    dropout: float = Field(default=0.5, ge=0, lt=1)
    attention_heads: PositiveInt | dict[str, PositiveInt] = 1


ARCHITECTURES: dict[str, type[Architecture]] = {"cross_modal_gru": CrossModalGRUOptions}


class HeadConfig(Section):
    """Say everything about one head; keys of its architecture stand beside these in the file.

    With `views`, each draw of a training clip is from a view with the chance `augmented`, any of
    them equally likely, and clean otherwise; dev, test and all logits are clean.
    """

    head: str = "cross_modal_gru"
    features: tuple[FeatureUse, ...] = Field(min_length=1)
    loss: tuple[LossUse, ...] = Field(default=(LossUse(name="wce"),), min_length=1)
    sampler: Literal["natural", "neutral_expressive"] = "natural"
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
