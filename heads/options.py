"""The options of losses, samplers and architectures in pipeline.yaml, and their defaults.

They are here, and not beside the code they configure, because a pipeline is also read where there
is no torch; `ser.heads.registry` says which belong to which name.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ser.corpus.config import Name, Section, Seed, Width

Heads = Annotated[int, Field(ge=1, le=1024)]  # of attention


class LossUse(Section):
    """The name of a loss and its weight in the sum; a loss's own options are beside these.

    The options are explained in `ser.heads.training.losses`. `class_weight_power` p weighs
    class c by (N / (C n_c))^p over the training set: 0 not at all, 1 as wce does, 0.5 by the root.
    """

    name: Name
    weight: float = Field(default=1.0, gt=0, le=1e6)


class PlainLoss(LossUse):
    """A loss without options."""

    name: Literal["wce", "sml", "soft_f1", "ccc", "mse", "gender"]


class CrossEntropyLoss(LossUse):
    """Options of `ce` and `kld`."""

    name: Literal["ce", "kld"]
    class_weight_power: float = Field(default=0.0, ge=0, le=100)


class FocalLoss(LossUse):
    """Options of `focal`."""

    name: Literal["focal"]
    gamma: float = Field(default=2.0, ge=0, le=100)
    class_weight_power: float = Field(default=0.0, ge=0, le=100)


class LabelSmoothingLoss(LossUse):
    """Options of `label_smoothing`."""

    name: Literal["label_smoothing"]
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    class_weight_power: float = Field(default=0.0, ge=0, le=100)


class VectorScalingLoss(LossUse):
    """Options of `vs`; the defaults are those of the ABHINAYA entry."""

    name: Literal["vs"]
    gamma: float = Field(default=0.3, ge=0, le=100)
    tau: float = Field(default=1.0, ge=0, le=100)
    class_weight_power: float = Field(default=0.0, ge=0, le=100)


class SoftCrossEntropyLoss(LossUse):
    """Options of `soft_ce`; the default is that of the NTUA entry."""

    name: Literal["soft_ce"]
    class_weight_power: float = Field(default=0.5, ge=0, le=100)


class GaussianMSELoss(LossUse):
    """Options of `gaussian_mse`; the defaults are those of the SRPOL entry, sigma our own."""

    name: Literal["gaussian_mse"]
    mean: float = Field(default=4.0, ge=-1000, le=1000)
    sigma: float = Field(default=1.0, gt=0, le=1000)


class SamplerUse(Section):
    """The name of a sampler; the options of a sampler of one's own are beside it."""

    name: Name


class Sampler(SamplerUse):
    """The options of the built-in samplers; `ser.heads.training.samplers` describes each.

    `no_consensus` is an option of `undersample`: with every balanced subset come clips without a
    class, as many as this share of it.
    """

    name: Literal["natural", "neutral_expressive", "class_balanced", "undersample"] = "natural"
    no_consensus: float = Field(default=0.0, ge=0, le=1000)


class UndersampleSampler(Sampler):
    """Options of `undersample`: a `subset_seed` keeps its subset of the classes for all epochs."""

    name: Literal["undersample"]  # pyright: ignore[reportGeneralTypeIssues]
    subset_seed: Seed | None = None


class ClassBalancedSampler(Sampler):
    """Options of `class_balanced`; `weights` may move with the epoch, as in the UFG entry.

    `to_uniform` begins balanced and ends near the corpus' own distribution, `to_distribution` the
    other way round.
    """

    name: Literal["class_balanced"]  # pyright: ignore[reportGeneralTypeIssues]
    weights: Literal["constant", "to_uniform", "to_distribution"] = "constant"


class Architecture(Section):
    """Base of the options of an architecture, and what is known of it without its module.

    `summary` describes a built-in one in a listing. One that is `ready` may have `epochs: 0`; one
    that is `solved` has no epochs. `revision` is counted up where the module of the same options
    computes something else.
    """

    summary: ClassVar[str] = ""
    ready: ClassVar[bool] = False
    solved: ClassVar[bool] = False
    revision: ClassVar[int] = 1


class CrossModalGRUOptions(Architecture):
    """Options of `head: cross_modal_gru`; the defaults are the published ones.

    `attention_heads` is one number, or one per feature name (the others have 1).
    """

    summary: ClassVar[str] = "BiGRUs, cross-modal attention, attention pooling (UNICAMP)."
    hidden: Width = 512
    dropout: float = Field(default=0.5, ge=0, lt=1)
    attention_heads: Heads | dict[Name, Heads] = 1


class AttentiveStatsOptions(Architecture):
    """Options of `head: attentive_stats`; the defaults are the challenge baseline's.

    `attention` is the width of the layer that scores the frames; without one, the feature's own.
    `standardize` shifts and scales what is pooled by its moments over the training clips. `form:
    baseline` classifies as the baseline's code does: dropout of what is pooled, a LayerNorm behind
    the first Linear, attributes without a sigmoid; `plain` is the MLP of the other heads.
    """

    summary: ClassVar[str] = "Attentive statistics pooling and an MLP (the challenge baseline)."
    hidden: Width = 1024
    dropout: float = Field(default=0.5, ge=0, lt=1)
    attention: Width | None = None
    standardize: bool = False
    form: Literal["baseline", "plain"] = "baseline"
    revision: ClassVar[int] = 2


class MeanMLPOptions(Architecture):
    """Options of `head: mean_mlp`; with `deviation` the standard deviation is appended to the mean.

    `standardize` shifts and scales both by their moments over the training clips.
    """

    summary: ClassVar[str] = "The mean over time and an MLP."
    hidden: Width = 512
    dropout: float = Field(default=0.5, ge=0, lt=1)
    deviation: bool = False
    standardize: bool = False


class ConvPoolOptions(Architecture):
    """Options of `head: conv_pool`; the defaults are the published ones.

    `secondary` is the width of an output of that name, which no loss reads: the released heads have
    17 secondary emotions.
    """

    summary: ClassVar[str] = "Pointwise convolutions and a mean (SAIL)."
    hidden: Width = 256
    dropout: float = Field(default=0.1, ge=0, lt=1)
    secondary: int = Field(default=0, ge=0, le=1000)
    revision: ClassVar[int] = 2


class DeepFusionOptions(Architecture):
    """Options of `head: deep_fusion`; the defaults are the published ones.

    `feed_forward` is the inner width of the transformer layers.
    """

    summary: ClassVar[str] = "Transformers per modality, fused at two depths (MEDUSA)."
    hidden: Width = 512
    dropout: float = Field(default=0.1, ge=0, lt=1)
    feed_forward: Width = 2048


class EarlyMHAOptions(Architecture):
    """Options of `head: early_mha`; the defaults are the published ones.

    `hidden` is the width of the frames that are joined, `classifier` that of each of the
    `classifier_layers` hidden layers behind the pooling. Every feature has a LayerNorm; an adapter
    (Linear, LayerNorm) to `hidden` follows for the features of another width (`needed`), for the
    first one too (`first`, speech), or for `all`. `attention: full` has heads as wide as `hidden`,
    `sub_vector` gives each head its own part of it.
    """

    summary: ClassVar[str] = "All frames in one sequence, attended to twice (BSC-UPC)."
    hidden: Width = 1024
    dropout: float = Field(default=0.1, ge=0, lt=1)
    attention: Literal["full", "sub_vector"] = "full"
    attention_heads: Heads = 4
    classifier: Width = 512
    classifier_layers: int = Field(default=5, ge=1, le=1000)
    adapter: Literal["needed", "first", "all"] = "needed"
    revision: ClassVar[int] = 2

    @model_validator(mode="after")
    def _divisible(self) -> "EarlyMHAOptions":
        if self.attention == "sub_vector" and self.hidden % self.attention_heads:
            raise ValueError(
                f"attention_heads: {self.attention_heads} sub-vectors do not divide "
                f"hidden: {self.hidden}; choose a divisor of it"
            )
        return self


class ExpertLSTMOptions(Architecture):
    """Options of `head: expert_lstm`; the sizes are our own, as none are published.

    `attention` is the width of the layer that scores the frames; without one, the feature's own.
    """

    summary: ClassVar[str] = "An LSTM over the features as experts (SRPOL)."
    hidden: Width = 512
    dropout: float = Field(default=0.0, ge=0, lt=1)
    attention: Width | None = None


class MDATOptions(Architecture):
    """Options of `head: mdat`; the defaults are those of the UFG entry's configurations.

    `feed_forward` is the inner width of the transformer layers, `attention_heads` are theirs,
    `classifier` is the inner width of the SwiGLU. `steps` names features of one whole number per
    frame, 0 to n - 1, and their n. `pooling` is of the two features that are fused.
    """

    summary: ClassVar[str] = "Graph attention, co-attention and transformers (UFG)."
    hidden: Width = 512
    dropout: float = Field(default=0.5, ge=0, lt=1)
    attention_heads: Heads = 8
    feed_forward: Width = 2048
    classifier: Width = 768
    pooling: Literal["attention", "mean"] = "attention"
    steps: dict[Name, Annotated[int, Field(ge=2, le=100_000)]] = Field({}, max_length=100)

    @model_validator(mode="after")
    def _divisible(self) -> "MDATOptions":
        if self.hidden % self.attention_heads:
            raise ValueError(
                f"attention_heads: {self.attention_heads} do not divide hidden: {self.hidden}; "
                "choose a divisor of it"
            )
        return self


class ClassScoresOptions(Architecture):
    """Options of `head: class_scores`: whether a bias is learned beside the scales."""

    summary: ClassVar[str] = "Class scores or attributes made elsewhere, scaled."
    ready: ClassVar[bool] = True

    bias: bool = True


class LinearProbeOptions(Architecture):
    """Options of `head: linear_probe`: the quantiles over time beside mean and deviation."""

    summary: ClassVar[str] = "Pooled statistics and a solved linear layer: the plain baseline."
    solved: ClassVar[bool] = True

    quantiles: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field((), max_length=100)
