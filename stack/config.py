"""The `stack` section of pipeline.yaml."""

from typing import Literal, Self

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from ser.corpus.config import Name, Rate, Section, Seed
from ser.corpus.registry import validate_as
from ser.stack.registry import META_MODELS

ProtocolName = Literal["oof", "unicamp"]
AUTO = "auto"
# fitted on train
FITTED_RULES = (AUTO, "best_head", "weighted", "greedy", "log_pool", "mean_scaled")
LEARNED = ("random_forest", "lightgbm", "extra_trees", "logistic", "meta_soup")  # the rest: rules


class ForestConfig(Section):
    """Hyperparameters of the random forest; the defaults are the published ones."""

    trees: int = Field(default=200, ge=1, le=10_000)
    max_depth: int = Field(default=8, ge=1, le=1000)
    min_samples_leaf: int = Field(default=10, ge=1, le=10**9)
    min_samples_split: int = Field(default=10, ge=2, le=10**9)


class BoostingConfig(Section):
    """Hyperparameters of LightGBM: small trees, few rounds, as the balanced subset is small."""

    rounds: int = Field(default=100, ge=1, le=10_000)
    learning_rate: Rate = 0.05
    num_leaves: int = Field(default=15, ge=2, le=131_072)  # LightGBM's own limit
    min_data_in_leaf: int = Field(default=20, ge=1, le=10**9)
    feature_fraction: float = Field(default=0.5, gt=0, le=1)


class LinearConfig(Section):
    """Hyperparameters of a linear model: `c` is the inverse strength of the L2 penalty."""

    c: float = Field(default=0.1, gt=0, le=1e12)


class WeightedConfig(Section):
    """How the weights of the heads are determined.

    `nnls`: non-negative least squares from the heads' probabilities to the labels of train.
    `macro_f1`: each head's macro-F1 on dev.
    """

    by: Literal["nnls", "macro_f1"] = "nnls"


class GreedyConfig(Section):
    """Options of greedy: how many heads are added, each one or more times."""

    rounds: int = Field(default=50, ge=1, le=1000)


class TopKConfig(Section):
    """Options of top_k: the `k` heads with the best macro-F1 on dev, combined `by` this rule."""

    k: int = Field(default=5, ge=1, le=10_000)
    by: Literal["plurality", "mean"] = "mean"


class RidgeConfig(Section):
    """Hyperparameters of the ridge regression of attributes: `alpha`, the L2 penalty."""

    alpha: float = Field(default=1.0, ge=0, le=1e12)


class StackConfig(Section):
    """The meta-model that combines the heads' logits into one emotion, and its options.

    Attributes:
        model: the name of the meta-model; `auto` chooses one by out-of-fold macro-F1.
        options: the options of a meta-model that is not built in.
        heads: the heads to combine; None means every head of the pipeline.
        protocol: which logits of train the stack is fitted on; None is `oof` when all heads are
            cross-fitted, otherwise `unicamp`.
        folds: members per draw, each fitted without one fold.
        balance: undersample each training class to the size of the rarest.
        draws: how many balanced subsets are drawn; None is 6 for meta_soup and 1 for the others.
        input: what the model reads; None is what it was published with.
        offsets: add to each class's log probability what raises macro-F1 on held-out predictions.
        calibrate: fit a temperature on held-out predictions.
        seed: seed of the draws, folds and models.
        attributes: how attributes are combined.

    Each built-in model has its own section; the sections of other models are validated and ignored.

    >>> StackConfig(model="top_k", top_k={"k": 3}).learns_from
    'dev'
    """

    model: Name = AUTO
    options: SerializeAsAny[Section] | None = Field(None, validate_default=True)
    heads: tuple[Name, ...] | None = Field(default=None, min_length=1, max_length=10_000)
    protocol: ProtocolName | None = None
    folds: int = Field(default=5, ge=2, le=1000)
    balance: bool = True
    draws: int | None = Field(default=None, ge=1, le=1000)
    input: Literal["logits", "probabilities", "both"] | None = None
    offsets: bool = False
    calibrate: bool = False
    seed: Seed = 42
    attributes: Literal["ridge", "mean"] = "ridge"
    random_forest: ForestConfig = ForestConfig()
    lightgbm: BoostingConfig = BoostingConfig()
    extra_trees: ForestConfig = ForestConfig()
    logistic: LinearConfig = LinearConfig()
    meta_soup: LinearConfig = LinearConfig()
    weighted: WeightedConfig = WeightedConfig()
    greedy: GreedyConfig = GreedyConfig()
    top_k: TopKConfig = TopKConfig()
    ridge: RidgeConfig = RidgeConfig()

    @field_validator("model")
    @classmethod
    def _known(cls, model: str) -> str:
        return META_MODELS.validate(model)

    @field_validator("options", mode="before")
    @classmethod
    def _of_model(cls, options: object, info: ValidationInfo) -> object:
        if "model" not in info.data or isinstance(options, Section):
            return options
        options_class = META_MODELS.about(info.data["model"]).options
        if options_class is not None:
            return validate_as(options_class, {} if options is None else options)
        if options is not None:
            raise ValueError(f"the options of {info.data['model']} are keys of their own section")
        return None

    @model_validator(mode="after")
    def _offsets_of_probabilities(self) -> Self:
        if self.offsets and self.votes:
            raise ValueError(
                f"offsets need probabilities, and {self.model} counts votes; remove offsets"
            )
        return self

    @property
    def folded(self) -> bool:
        """Whether the model is fitted on the folds of train; the others are rules."""
        return META_MODELS.about(self.model).folded

    @property
    def learns_from(self) -> Literal["train", "dev"] | None:
        """The split that the model is fitted or selected on; None for a fixed rule."""
        if self.model == "top_k" or (self.model == "weighted" and self.weighted.by == "macro_f1"):
            return "dev"
        return "train" if self.folded or self.model in FITTED_RULES else None

    @property
    def reads_labels(self) -> bool:
        """Whether fitting needs the labels of rows, and so a row of every class."""
        return self.model != "mean_scaled" or self.offsets or self.calibrate

    @property
    def reads_attributes(self) -> bool:
        """Whether the model reads the heads' predicted attributes beside their logits."""
        return self.model == "meta_soup"

    @property
    def votes(self) -> bool:
        """Whether the model counts votes; the others average probabilities."""
        return self.model == "majority" or (self.model == "top_k" and self.top_k.by == "plurality")

    def spec(self) -> dict[str, object]:
        """Return the plain values that a fingerprint is taken of: all that change the results.

        The heads are not among them. Two configurations with the same values give the same stack on
        the same logits.
        """
        names = {"model", "protocol", "attributes", "calibrate"}
        if self.folded:
            own = self.model if META_MODELS.about(self.model).options is None else "options"
            names |= {"folds", "balance", "draws", "input", "seed", own}
        elif self.model == AUTO:
            names |= {"folds", "balance", "draws", "input", "seed"}
            names |= {"greedy", "logistic", "random_forest"}
        elif self.model in ("weighted", "greedy", "top_k"):
            names.add(self.model)
        if self.offsets:
            names |= {"offsets", "folds", "seed"}
        if self.calibrate:
            names |= {"balance", "seed"}
        if self.attributes == "ridge":
            names.add("ridge")
        return self.model_dump(mode="json", include=names)
