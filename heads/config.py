"""One entry of `heads:` in pipeline.yaml: what a head reads, how it is built, how it is trained.

Free of torch, so that a pipeline can be read and a stack fitted where torch is not installed.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from ser.corpus.config import FilePath, Name, Rate, Section, Seed
from ser.heads.feature_use import FeatureUse
from ser.heads.options import Architecture, MDATOptions, PlainLoss, Sampler
from ser.heads.registry import HEADS, LOSSES, Loss, LossInfo, SamplerChoice
from ser.score.metrics import METRICS, REPORTED

Attribute = Literal["arousal", "valence", "dominance"]
Beta = Annotated[float, Field(ge=0, lt=1)]
MOST_EPOCHS, MOST_STEPS = 100_000, 10**9
MOST_TRAININGS = 128  # of one head: folds times seeds
SOLVED_KEYS = (  # of HeadConfig: all that a head without epochs has
    *("head", "features", "loss", "votes", "no_consensus", "attributes", "batch", "cross_fit"),
    *("seed", "architecture"),
)


class Votes(Section):
    """How raters' votes become the distribution that kld and soft_ce learn.

    `secondary` is the weight of a further choice, that of a first choice being 1. `other: keep`
    gives the votes for none of the classes a place of their own, and the head a logit for it that
    is not used after training; `drop` leaves them out. `dropout` is the probability that a vote for
    a common class (one with more than an even share of all votes) is left out, drawn anew every
    epoch.
    """

    secondary: float = Field(default=0.0, ge=0, le=1000)
    other: Literal["drop", "keep"] = "drop"
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Augment(Section):
    """How often training clips are changed in feature space (0: never, 1: always).

    `mixup`: the probability that a clip's embedding and targets are mixed with those of another
    clip of the batch, by a share from Beta(mixup_alpha, mixup_alpha) (manifold mix-up); `mixup_of:
    batch` mixes all clips of a batch or none. `seqaug`:
    the probability that a random subset of a clip's channels is permuted in time, its size from
    Beta(seqaug_alpha, seqaug_alpha). `time_mask`: the probability that a span of up to
    `time_mask_share` of a clip's frames is set to zero.
    """

    mixup: float = Field(default=0.0, ge=0, le=1)
    mixup_alpha: float = Field(default=0.2, gt=0, le=1000)
    mixup_of: Literal["clip", "batch"] = "clip"
    seqaug: float = Field(default=0.0, ge=0, le=1)
    seqaug_alpha: float = Field(default=0.5, gt=0, le=1000)
    time_mask: float = Field(default=0.0, ge=0, le=1)
    time_mask_share: float = Field(default=0.2, gt=0, le=1)


class CrossFit(Section):
    """How a head is cross-fitted: `folds` speaker-disjoint parts of train.

    Each row of train is scored by the head that has not seen its speaker. Dev and test get the
    mean of all folds' logits, or with `final: refit` those of one more head, trained on all of
    train.
    """

    folds: int = Field(default=5, ge=2, le=127)
    final: Literal["mean", "refit"] = "mean"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"folds": value} if isinstance(value, int) else value


class Phase(Section):
    """A phase of the training, and what in it differs from the head's own keys.

    The learning rate runs its schedule once per phase; weights and the optimizer's state are kept,
    the latter unless `new_optimizer`.
    """

    epochs: int = Field(ge=1, le=MOST_EPOCHS)
    loss: tuple[Loss, ...] | None = Field(default=None, min_length=1, max_length=100)
    sampler: SamplerChoice | None = None
    lr: Rate | None = None
    lr_min: float | None = Field(default=None, ge=0, le=1000)
    schedule: Literal["cosine", "exponential", "linear", "constant"] | None = None
    warmup: int | None = Field(default=None, ge=0, le=MOST_STEPS)
    new_optimizer: bool | None = None


class HeadConfig(Section):
    """One head; in the file, the keys of its architecture are beside these.

    With `views`, each draw of a training clip is from one of the views with the probability
    `augmented`, all equally likely, and clean otherwise; dev, test and all logits are clean.

    `no_consensus: keep` trains on clips without a class too, by the losses of votes, attributes and
    gender. `accumulate: k` takes one step in k batches, which equals a step on one batch of k times
    the size, whatever the loss.

    `seeds: k` trains it k times, with the seeds from `seed` on, and averages their logits: one head
    of k sets of weights.

    The defaults of `epochs`, `lr` and the like are the published ones, for tens of thousands of
    clips; `ser.heads.scaling` derives those of a smaller corpus, for the keys that are not given.
    """

    head: Name = "cross_modal_gru"
    features: tuple[FeatureUse, ...] = Field(min_length=1, max_length=1000)
    loss: tuple[Loss, ...] = Field(default=(PlainLoss(name="wce"),), min_length=1, max_length=100)
    sampler: SamplerChoice = Sampler()
    neutral: Name = "neutral"  # the class that sml and neutral_expressive set apart
    votes: Votes = Votes()
    no_consensus: Literal["drop", "keep"] = "drop"
    attributes: tuple[Attribute, ...] = Field(("arousal", "valence", "dominance"), max_length=3)
    views: tuple[Name, ...] = Field((), max_length=100)  # of those under `augment:` of the features
    augmented: float = Field(default=0.5, ge=0, le=1)
    augment: Augment = Augment()
    epochs: int = Field(default=30, ge=0, le=MOST_EPOCHS)  # 0: `init`, or `class_scores`, as it is
    lr: Rate = 1e-5
    lr_min: float = Field(default=1e-6, ge=0, le=1000)  # where the schedule ends
    schedule: Literal["cosine", "exponential", "linear", "constant"] = "cosine"
    warmup: int = Field(default=0, ge=0, le=MOST_STEPS)  # until the rate is what it should be
    phases: tuple[Phase, ...] = Field((), max_length=1000)  # in place of `epochs`
    weight_decay: float = Field(default=1e-6, ge=0, le=1000)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    batch: int = Field(default=64, ge=1, le=1_000_000)
    accumulate: int = Field(default=1, ge=1, le=1_000_000)
    clip: float | None = Field(default=None, gt=0, le=1e12)  # the largest norm of the gradient
    new_optimizer: bool = False  # in every epoch: its state begins anew
    amp: bool = True  # bfloat16 where a GPU computes
    ema: float = Field(default=0.0, ge=0, lt=1)  # decay of averaged weights, which are then kept
    patience: int | None = Field(None, ge=1, le=MOST_EPOCHS)  # epochs without a better dev score
    best_by: Name | None = None  # macro_f1, uar, accuracy, ccc, loss, or a metric of your own
    keep: Literal["best", "last"] = "best"  # epoch; on a small dev set the best is luck
    cross_fit: CrossFit | None = None
    init: FilePath | None = None  # weights to begin with, as `ser heads import` writes them
    log: Literal["tensorboard", "mlflow", "wandb"] | None = None
    seed: Seed = 7
    seeds: int = Field(default=1, ge=1, le=32)
    architecture: SerializeAsAny[Architecture]

    @property
    def feature_names(self) -> list[str]:
        """Return the features in the order of the head's inputs."""
        return [use.name for use in self.features]

    @property
    def stages(self) -> list["HeadConfig"]:
        """Return the config of each phase in order; without phases, this one alone."""
        if not self.phases:
            return [self]
        changes = [{k: v for k, v in phase if v is not None} for phase in self.phases]
        return [self.model_copy(update=change | {"phases": ()}) for change in changes]

    @property
    def reads(self) -> frozenset[str]:
        """Return the targets that the losses of any phase learn: classes, votes, attributes, …."""
        return frozenset(info.target for info in self._losses())

    @property
    def gives(self) -> frozenset[str]:
        """Return the outputs that the losses of any phase need: logits, attributes, …."""
        return frozenset(info.output for info in self._losses())

    def _losses(self) -> list[LossInfo]:
        return [LOSSES.about(use.name) for stage in self.stages for use in stage.loss]

    @property
    def chosen_by(self) -> str:
        """Return the dev score that the best epoch is chosen by."""
        return self.best_by or ("macro_f1" if "logits" in self.gives else "ccc")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the metric that is computed after every epoch beside those that always are."""
        name = self.best_by
        return () if name is None or name in ("ccc", "loss", *REPORTED) else (name,)

    @field_validator("best_by")
    @classmethod
    def _metric(cls, name: str | None) -> str | None:
        return name if name in (None, "ccc", "loss") else METRICS.validate(str(name))

    @model_validator(mode="after")
    def _solved(self) -> "HeadConfig":
        fields = type(self).model_fields.items() if self.architecture.solved else ()
        for key, field in fields:
            if key not in SOLVED_KEYS and getattr(self, key) != field.default:
                raise ValueError(
                    f"{key}: the head {self.head} is solved and not trained in epochs, so it has "
                    "no such key; leave it out"
                )
        return self

    @model_validator(mode="after")
    def _steps(self) -> "HeadConfig":
        uses = {use.name: use for use in self.features}
        for name in self.architecture.steps if isinstance(self.architecture, MDATOptions) else ():
            if name not in uses:
                raise ValueError(f"steps: {name} is not one of the features of the head; remove it")
            if uses[name].stride > 1 or uses[name].normalize != "none":
                raise ValueError(
                    f"features: {name} is in `steps:`, so its frames are whole numbers, which "
                    "`stride` and `normalize` would change; leave these out"
                )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "HeadConfig":
        for kind, names in (("feature", self.feature_names), ("view", self.views)):
            if len(set(names)) != len(names):
                raise ValueError(f"{kind}s: {', '.join(names)}: a {kind} is named twice")
        if not self.gives & {"logits", "attributes"}:
            raise ValueError("loss: none of them trains classes or attributes; add one that does")
        if not (self.epochs or self.init or self.architecture.ready):
            raise ValueError(
                "epochs: nothing is trained in 0 epochs; give more, or weights with `init`"
            )
        trainings = self.seeds * (self.cross_fit.folds + 1 if self.cross_fit else 1)
        if trainings > MOST_TRAININGS:
            raise ValueError(
                f"seeds: {self.seeds} of them for each fold make {trainings} trainings, and a head "
                f"has {MOST_TRAININGS} at most; set fewer seeds or folds"
            )
        samplers = [stage.sampler for stage in self.stages]
        drawn = any(isinstance(own, Sampler) and own.no_consensus for own in samplers)
        if drawn and self.no_consensus == "drop":
            raise ValueError("sampler: its no_consensus needs `no_consensus: keep` beside it")
        needed = "attributes" if self.chosen_by == "ccc" else "logits"
        if self.best_by not in (None, "loss") and needed not in self.gives:
            raise ValueError(f"best_by: {self.best_by} needs a loss that trains {needed}")
        return self

    def spec(self) -> dict[str, object]:
        """Return the options that a head's numbers depend on, as plain values.

        Defaults are left out, so that a head does not go stale when there is a new option.
        """
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"init", "log"})


def valid_keys(entry: Mapping[str, object]) -> list[str]:
    """List the keys an entry may have, its architecture's included."""
    options = HEADS.about(str(entry.get("head", "cross_modal_gru")))
    return [k for k in HeadConfig.model_fields if k != "architecture"] + list(options.model_fields)


def merged(defaults: Mapping[str, object], own: Mapping[str, object]) -> dict[str, object]:
    """Return an entry over the defaults; those of the training do not apply to a solved head."""
    entry = dict(defaults) | dict(own)
    options = HEADS.about(str(entry.get("head", "cross_modal_gru")))
    if not options.solved:
        return entry
    of_others = {key for head in HEADS.list() for key in HEADS.about(head.name).model_fields}
    of_others |= set(HeadConfig.model_fields)
    kept = {*own, *SOLVED_KEYS, *options.model_fields}
    return {key: value for key, value in entry.items() if key in kept or key not in of_others}


def parse_head(entry: Mapping[str, object]) -> HeadConfig:
    """Validate one entry, defaults merged in; raises `ValidationError` or `UserError`."""
    options = HEADS.about(str(entry.get("head", "cross_modal_gru")))
    own = options.model_validate({k: v for k, v in entry.items() if k in options.model_fields})
    common = {k: v for k, v in entry.items() if k not in options.model_fields}
    return HeadConfig.model_validate(common | {"architecture": own})
