"""One entry of `heads:` in pipeline.yaml: what a head reads, how it is built, how it is trained.

Free of torch, so that a pipeline can be read and a stacker fitted where there is none.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, SerializeAsAny, model_validator

from corpus.config import Section
from corpus.errors import UserError, nearest
from heads.options import ARCHITECTURES, READS, Architecture, Loss, PlainLoss

Attribute = Literal["arousal", "valence", "dominance"]


class FeatureUse(Section):
    """Name a feature and say how it is read.

    `stride` k takes the mean of every k frames. `layer` picks one of a feature that was stored with
    all layers (-1 is the last), or several whose channels then stand side by side; without it the
    head learns a softmax-weighted sum of all.

    `normalize: corpus` shifts and scales each channel by its mean and standard deviation over the
    frames of the training split (no labels, nothing of dev or test); hand-made features such as
    eGeMAPS, whose channels are in Hz, dB and ratios, need it, and a LayerNorm behind a Linear is no
    substitute. `normalize: speaker` does so with each speaker's own frames, of dev and test too: no
    labels, but it looks at unlabelled test clips, and says so in a table of results.
    """

    name: str
    stride: PositiveInt = 1
    layer: int | tuple[int, ...] | None = None
    normalize: Literal["none", "corpus", "speaker"] = "none"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Sampler(Section):
    """Name a sampler; `heads.training.samplers` says what each draws.

    `no_consensus` is an option of `undersample`: with every balanced subset come clips without a
    class, as many as this share of it.
    """

    name: Literal["natural", "neutral_expressive", "class_balanced", "undersample"] = "natural"
    no_consensus: float = Field(default=0.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Votes(Section):
    """Say how raters' votes become the distribution that kld and soft_ce learn.

    `secondary` is what a further choice counts beside a first choice's 1. `other: keep` gives the
    votes for none of the classes a place of their own, and the head a logit for it that nobody sees
    afterwards; `drop` leaves them out. `dropout` is the chance of a vote for a common class (one
    with more than its even share of all votes) to be left out, drawn anew every epoch.
    """

    secondary: float = Field(default=0.0, ge=0)
    other: Literal["drop", "keep"] = "drop"
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Augment(Section):
    """Say how often training clips are changed in feature space (0: never, 1: always).

    `mixup`: the chance of a clip's embedding and targets to be mixed with another clip's of the
    batch, by a share from Beta(mixup_alpha, mixup_alpha) (manifold mix-up). `seqaug`: the chance of
    a clip to have a random subset of its channels permuted in time, the subset's size by
    Beta(seqaug_alpha, seqaug_alpha). `time_mask`: the chance of a clip to have a span of up to
    `time_mask_share` of its frames set to zero.
    """

    mixup: float = Field(default=0.0, ge=0, le=1)
    mixup_alpha: PositiveFloat = 0.2
    seqaug: float = Field(default=0.0, ge=0, le=1)
    seqaug_alpha: PositiveFloat = 0.5
    time_mask: float = Field(default=0.0, ge=0, le=1)
    time_mask_share: float = Field(default=0.2, gt=0, le=1)


class CrossFit(Section):
    """Say how a head is cross-fitted: `folds` speaker-disjoint parts of train.

    Each row of train is scored by the head that has not seen its speaker. Dev and test get the
    mean of all folds' logits, or with `final: refit` those of one more head, trained on all of
    train.
    """

    folds: int = Field(default=5, ge=2, le=127)
    final: Literal["mean", "refit"] = "mean"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"folds": value} if isinstance(value, int) else value


class Phase(Section):
    """Say what a stretch of the training does otherwise than the head's own keys say.

    The learning rate runs its schedule once a phase; weights and the optimizer's state go on.
    """

    epochs: PositiveInt
    loss: tuple[Loss, ...] | None = Field(default=None, min_length=1)
    sampler: Sampler | None = None
    lr: PositiveFloat | None = None
    lr_min: float | None = Field(default=None, ge=0)
    schedule: Literal["cosine", "exponential", "linear", "constant"] | None = None
    warmup: int | None = Field(default=None, ge=0)


class HeadConfig(Section):
    """Say everything about one head; keys of its architecture stand beside these in the file.

    With `views`, each draw of a training clip is from a view with the chance `augmented`, any of
    them equally likely, and clean otherwise; dev, test and all logits are clean.

    `no_consensus: keep` trains on clips without a class too, by the losses that can: those of
    votes, attributes and gender. `accumulate` k steps once in k batches, which is just a step on
    the one large batch, whatever the loss.
    """

    head: str = "cross_modal_gru"
    features: tuple[FeatureUse, ...] = Field(min_length=1)
    loss: tuple[Loss, ...] = Field(default=(PlainLoss(name="wce"),), min_length=1)
    sampler: Sampler = Sampler()
    neutral: str = "neutral"  # the class that sml and neutral_expressive set apart
    votes: Votes = Votes()
    no_consensus: Literal["drop", "keep"] = "drop"
    attributes: tuple[Attribute, ...] = ("arousal", "valence", "dominance")
    views: tuple[str, ...] = ()  # of those under `augment:` of the features
    augmented: float = Field(default=0.5, ge=0, le=1)
    augment: Augment = Augment()
    epochs: int = Field(default=30, ge=0)  # 0: `init`, or `class_scores`, as it is
    lr: PositiveFloat = 1e-5
    lr_min: float = Field(default=1e-6, ge=0)  # where the schedule ends
    schedule: Literal["cosine", "exponential", "linear", "constant"] = "cosine"
    warmup: int = Field(default=0, ge=0)  # steps over which the rate climbs to what it should be
    phases: tuple[Phase, ...] = ()  # in place of `epochs`
    weight_decay: float = Field(default=1e-6, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    batch: PositiveInt = 64
    accumulate: PositiveInt = 1
    clip: PositiveFloat | None = None  # the largest norm of the gradient
    amp: bool = True  # bfloat16 where a GPU computes
    ema: float = Field(default=0.0, ge=0, lt=1)  # decay of averaged weights, which are then kept
    patience: PositiveInt | None = None  # epochs without a better dev score
    best_by: Literal["macro_f1", "uar", "accuracy", "ccc", "loss"] | None = None
    keep: Literal["best", "last"] = "best"  # epoch; on a small dev set the best is luck
    cross_fit: CrossFit | None = None
    init: Path | None = None  # weights to begin with, as `ser heads import` writes them
    log: Literal["tensorboard", "mlflow"] | None = None
    seed: int = 7
    architecture: SerializeAsAny[Architecture]

    @property
    def feature_names(self) -> list[str]:
        """Return the features in the order of the head's inputs."""
        return [use.name for use in self.features]

    @property
    def stages(self) -> list["HeadConfig"]:
        """Return the config of each phase in order; without phases, of the one there is."""
        if not self.phases:
            return [self]
        said = [{k: v for k, v in phase if v is not None} for phase in self.phases]
        return [self.model_copy(update=each | {"phases": ()}) for each in said]

    @property
    def reads(self) -> frozenset[str]:
        """Return the targets that the losses of any phase learn: classes, votes, attributes, …."""
        return frozenset(READS[use.name][1] for stage in self.stages for use in stage.loss)

    @property
    def gives(self) -> frozenset[str]:
        """Return the outputs that the losses of any phase need: logits, attributes, …."""
        return frozenset(READS[use.name][0] for stage in self.stages for use in stage.loss)

    @property
    def chosen_by(self) -> str:
        """Return the dev score that the best epoch is chosen by."""
        return self.best_by or ("macro_f1" if "logits" in self.gives else "ccc")

    @model_validator(mode="after")
    def _consistent(self) -> "HeadConfig":
        names = self.feature_names
        if len(set(names)) != len(names):
            raise ValueError(f"features: {', '.join(names)}: a feature is named twice")
        if len(set(self.views)) != len(self.views):
            raise ValueError(f"views: {', '.join(self.views)}: a view is named twice")
        if not self.gives & {"logits", "attributes"}:
            raise ValueError("loss: none of them teaches classes or attributes; add one that does")
        if not (self.epochs or self.init or self.architecture.ready):
            raise ValueError("epochs: 0 epochs teach nothing; give some, or weights by `init`")
        if self.no_consensus == "drop" and any(s.sampler.no_consensus for s in self.stages):
            raise ValueError("sampler: its no_consensus needs `no_consensus: keep` beside it")
        needed = "attributes" if self.chosen_by == "ccc" else "logits"
        if self.best_by not in (None, "loss") and needed not in self.gives:
            raise ValueError(f"best_by: {self.best_by} needs a loss that teaches {needed}")
        return self


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
        raise UserError(f"heads: the head '{name}' is unknown; {nearest(name, ARCHITECTURES)}")
    return ARCHITECTURES[name]
