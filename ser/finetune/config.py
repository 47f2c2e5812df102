"""One entry of `finetune:` in pipeline.yaml: the model, which parts are trained, and the head.

The keys of a head entry (`head`, `loss`, `epochs`, `lr`, …) appear beside those of the model. Does
not import torch, as pipelines are also read where torch is not installed.
"""

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ser.corpus.augment import Views
from ser.corpus.bounded_yaml import Entry
from ser.corpus.config import Name, Rate, Section
from ser.corpus.errors import UserError
from ser.extract.layers import Layer
from ser.extract.registry import kind_of
from ser.heads.config import HeadConfig, parse_head, valid_keys

LONGEST = 30.0  # s; the longest input of a model
NOT_ALLOWED = ("features", "init", "views", "cross_fit", "augment", "seeds")  # keys of a head
FREEZABLE = r"feature_encoder|embeddings|layers:[1-9][0-9]{0,2}|all"


class LoRA(Section):
    """Low-rank adapters (Hu et al. 2021) that are trained instead of the linear layers themselves.

    `targets` are suffixes of module names, by default every linear layer of a block; `layers` is
    the number of blocks, counted from the top. An adapter's output is scaled by alpha / rank.
    """

    rank: int = Field(default=8, ge=1, le=10_000)
    alpha: float = Field(default=16.0, gt=0, le=1e6)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[Name, ...] = Field((), max_length=1000)
    layers: int | None = Field(default=None, ge=1, le=1000)


class FineTuneConfig(Section):
    """The configuration of one fine-tuned model; `training` has the keys of any head.

    `freeze` lists the parts that are not trained: `feature_encoder` (the convolutions),
    `embeddings` (everything below the first layer), `layers:k` (that and the first k layers),
    `all`. `layer_decay` d gives layer k of n the learning rate lr d^(n - k) and everything below
    the first layer lr d^n; `head_lr` is the head's.

    A training clip longer than `crop` seconds is cropped at random, differently in every epoch; for
    scoring, a clip longer than `hear` seconds is limited to its middle. `budget` is the maximum
    number of frames at a time, padding included: a larger batch is processed in parts, with the
    gradient of the whole.

    `augment` holds the views of `ser.corpus.augment`: each time a clip is drawn, it is changed by
    one of them with probability `augmented`. `join` is the probability that a clip of a common
    class is first joined with one of a rare class (see `ser.finetune.joining`).
    """

    model: str
    kind: Literal["speech", "whisper", "text"]
    of: Name = "transcript"
    layer: Layer = -1
    window: Literal["full", "trim"] = "trim"  # of Whisper
    # by default that of its kind: the convolutions of speech models
    freeze: tuple[str, ...] | None = Field(default=None, max_length=100)
    lora: LoRA | None = None
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    head_lr: Rate | None = None
    optimizer: Literal["adam", "adamw"] = "adamw"
    checkpointing: bool = False  # recompute activations: half the memory, 4/3 of the time
    crop: float = Field(default=LONGEST, ge=0.1, le=LONGEST)
    hear: float = Field(default=LONGEST, ge=0.1, le=LONGEST)
    budget: int | None = Field(default=None, ge=1, le=10**12)
    augment: Views = Field({})
    join: float = Field(default=0.0, ge=0, le=1)
    training: HeadConfig

    @field_validator("freeze", mode="before")
    @classmethod
    def _short(cls, parts: object) -> object:
        return [parts] if isinstance(parts, str) else parts

    @field_validator("freeze")
    @classmethod
    def _parts(cls, parts: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for part in parts or ():
            if not re.fullmatch(FREEZABLE, part):
                raise ValueError(
                    f"'{part}' cannot be frozen; use feature_encoder, embeddings, layers:k or all"
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
                "join: joined clips have two classes, which only kld and soft_ce can learn; set "
                "the loss to one of these"
            )
        if getattr(self.training.architecture, "standardize", False):
            raise ValueError(
                "standardize: not possible, as the pooled frames change during training"
            )
        if self.lora is not None and "all" in frozen:
            raise ValueError("lora: it cannot be combined with freeze: all")
        return self

    def as_feature(self, folder: str) -> Entry:
        """Return the entry of `features:` for the frames of the model saved in a folder."""
        entry: Entry = {"kind": self.kind, "model": folder, "precision": "float32"}
        if self.layer != -1:
            entry["layer"] = self.layer
        if self.kind == "whisper":
            entry["window"] = self.window
        return entry | ({"of": self.of} if self.kind == "text" else {})


MODEL_KEYS = [key for key in FineTuneConfig.model_fields if key != "training"]


def finetune_keys(entry: Mapping[str, object]) -> list[str]:
    """List the keys that an entry may have, including those of its head."""
    return MODEL_KEYS + [key for key in valid_keys(_with_head(entry)) if key not in NOT_ALLOWED]


def parse_finetune(name: str, entry: Mapping[str, object]) -> FineTuneConfig:
    """Validate one entry, defaults merged in; raises `ValidationError` or `UserError`."""
    model = {key: value for key, value in entry.items() if key in MODEL_KEYS}
    head = {key: value for key, value in entry.items() if key not in MODEL_KEYS}
    if "kind" not in model and "model" in model:
        model["kind"] = kind_of(str(model["model"]))
    training = parse_head(_with_head(head) | {"features": [name]})
    if training.architecture.solved:
        raise UserError(
            f"head: {training.head} is solved on frames that stay as they are, so a model cannot "
            "be fine-tuned under it; use another head."
        )
    return FineTuneConfig.model_validate(model | {"training": training})


def _with_head(entry: Mapping[str, object]) -> Entry:
    return {"head": "attentive_stats", **entry}
