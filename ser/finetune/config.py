"""One entry of `finetune:` in pipeline.yaml: which model, what of it is trained, with what head.

The keys of a head entry (`head`, `loss`, `epochs`, `lr`, …) stand beside those of the model. Free
of torch, as pipelines are also read where there is none.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from corpus.augment import View, parse_views
from corpus.config import Section
from extract.extractor import check_policy
from extract.models import kind_of
from heads.config import HeadConfig, parse_head, valid_keys

LONGEST = 30.0  # s; what a model hears at once
NOT_HERE = (
    "features",
    "init",
    "views",
    "cross_fit",
    "augment",
)  # keys of a head that make no sense
FREEZABLE = r"feature_encoder|embeddings|layers:[1-9]\d*|all"


class LoRA(Section):
    """Say which linear maps get adapters of low rank (Hu et al. 2021) in place of being trained.

    `targets` are ends of module names, by default all linear maps of a layer; `layers` how many of
    the layers, from the top. What an adapter adds is scaled by alpha / rank.
    """

    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ()
    layers: PositiveInt | None = None


class FineTuneConfig(Section):
    """Say everything about one fine-tuning; `training` has the keys that any head has.

    `freeze` leaves parts as they are: `feature_encoder` (the convolutions), `embeddings` (all below
    the first layer), `layers:k` (these and the first k layers), `all`. `layer_decay` d gives layer
    k of n the rate lr d^(n - k) and what is below the first layer lr d^n; `head_lr` is the head's.

    A training clip longer than `crop` seconds is cut at random, anew every epoch, and one longer
    than `hear` to its middle when it is scored. `budget` is how many frames run at a time, padding
    included: a batch that has more is taken in parts, with the gradient of the whole.

    `augment` holds the views of `corpus.augment`: every time a clip is drawn it is changed by one
    of them with the chance `augmented`, each time otherwise. `join` is the chance of a clip of a
    common class to be joined with one of a rare class before that, as `ser.finetune.joining` says.
    """

    model: str
    kind: Literal["speech", "whisper", "text"]
    of: str = "transcript"
    layer: int | str = -1
    window: Literal["full", "trim"] = "trim"  # of Whisper
    freeze: tuple[str, ...] | None = None  # as of its kind: the convolutions of speech models
    lora: LoRA | None = None
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    head_lr: PositiveFloat | None = None
    optimizer: Literal["adam", "adamw"] = "adamw"
    checkpointing: bool = False  # activations are computed again: half the memory, 4/3 of the time
    crop: float = Field(default=LONGEST, ge=0.1, le=LONGEST)
    hear: float = Field(default=LONGEST, ge=0.1, le=LONGEST)
    budget: PositiveInt | None = None
    augment: dict[str, View] = Field({})
    join: float = Field(default=0.0, ge=0, le=1)
    training: HeadConfig

    @field_validator("layer")
    @classmethod
    def _layer(cls, layer: int | str) -> int | str:
        return check_policy(layer)

    @field_validator("augment", mode="before")
    @classmethod
    def _views(cls, said: Any) -> dict[str, View]:
        return parse_views(said)

    @field_validator("freeze", mode="before")
    @classmethod
    def _short(cls, said: Any) -> Any:
        return [said] if isinstance(said, str) else said

    @field_validator("freeze")
    @classmethod
    def _parts(cls, parts: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for part in parts or ():
            if not re.fullmatch(FREEZABLE, part):
                raise ValueError(
                    f"'{part}' is nothing to freeze; use feature_encoder, embeddings, layers:k or "
                    "all"
                )
        return parts

    @model_validator(mode="after")
    def _consistent(self) -> "FineTuneConfig":
        frozen = self.freeze or ()
        if self.kind == "text" and (self.augment or self.join or "feature_encoder" in frozen):
            raise ValueError(
                "a text model has no waveform: leave out augment, join and feature_encoder"
            )
        reads = self.training.reads
        if self.join and ("classes" in reads or "votes" not in reads):
            raise ValueError(
                "join: two joined clips are of two classes, which only kld and soft_ce learn; let "
                "one of these be the loss of the classes"
            )
        if getattr(self.training.architecture, "standardize", False):
            raise ValueError("standardize: what is pooled changes while the model is trained")
        if self.lora is not None and "all" in frozen:
            raise ValueError("lora: it trains adapters in a model of which all is frozen")
        return self

    def as_feature(self, folder: str) -> dict[str, Any]:
        """Return the entry of `features:` that gives the frames of the model saved in a folder."""
        entry: dict[str, Any] = {"kind": self.kind, "model": folder, "precision": "float32"}
        if self.layer != -1:
            entry["layer"] = self.layer
        if self.kind == "whisper":
            entry["window"] = self.window
        return entry | ({"of": self.of} if self.kind == "text" else {})


OWN = [key for key in FineTuneConfig.model_fields if key != "training"]


def finetune_keys(entry: Mapping[str, Any]) -> list[str]:
    """List the keys an entry may have, those of its head included."""
    return OWN + [key for key in valid_keys(_with_head(entry)) if key not in NOT_HERE]


def parse_finetune(name: str, entry: Mapping[str, Any]) -> FineTuneConfig:
    """Validate one entry, defaults merged in; raises `ValidationError` or `UserError`."""
    own = {key: value for key, value in entry.items() if key in OWN}
    rest = {key: value for key, value in entry.items() if key not in OWN}
    if "kind" not in own and "model" in own:
        own["kind"] = kind_of(str(own["model"]))
    training = parse_head(_with_head(rest) | {"features": [name]})
    return FineTuneConfig.model_validate(own | {"training": training})


def _with_head(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"head": "attentive_stats", **entry}
