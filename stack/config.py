"""The `stack` section of pipeline.yaml."""

from typing import Any, Literal

from pydantic import Field

from corpus.config import Section

ModelName = Literal[
    "random_forest",
    "lightgbm",
    "extra_trees",
    "logistic",
    "meta_soup",
    "mean_logits",
    "mean_proba",
    "weighted",
    "majority",
    "top_k",
]
ProtocolName = Literal["oof", "unicamp"]
LEARNED = ("random_forest", "lightgbm", "extra_trees", "logistic", "meta_soup")  # others are rules


class ForestConfig(Section):
    """Set the random forest; the defaults are the published ones."""

    trees: int = Field(default=200, ge=1)
    max_depth: int = Field(default=8, ge=1)
    min_samples_leaf: int = Field(default=10, ge=1)
    min_samples_split: int = Field(default=10, ge=2)


class BoostingConfig(Section):
    """Set LightGBM: small trees and few rounds, for the balanced subset is small."""

    rounds: int = Field(default=100, ge=1)
    learning_rate: float = Field(default=0.05, gt=0)
    num_leaves: int = Field(default=15, ge=2)
    min_data_in_leaf: int = Field(default=20, ge=1)
    feature_fraction: float = Field(default=0.5, gt=0, le=1)


class LinearConfig(Section):
    """Set a linear model: `c` is scikit-learn's inverse strength of the L2 penalty."""

    c: float = Field(default=0.1, gt=0)


class WeightedConfig(Section):
    """Say what the weights of the heads come from.

    `nnls`: non-negative least squares of the heads' probabilities to the labels of train.
    `macro_f1`: each head's macro-F1 on dev.
    """

    by: Literal["nnls", "macro_f1"] = "nnls"


class TopKConfig(Section):
    """Keep the `k` heads with the best macro-F1 on dev; `by` says how they are combined."""

    k: int = Field(default=5, ge=1)
    by: Literal["plurality", "mean"] = "mean"


class RidgeConfig(Section):
    """Set the ridge regression of attributes."""

    alpha: float = Field(default=1.0, ge=0)


class StackConfig(Section):
    """Choose the model that turns the heads' logits into one emotion.

    `heads` None means every head of the pipeline. `protocol` says which logits of train are learned
    from; None is `oof` when all heads are cross-fitted, else `unicamp`. `input` None is what the
    model was published with, `draws` None is 6 for meta_soup and 1 for the others. Each model has a
    section of its own; the sections of models that are not chosen are kept, checked and without
    effect.
    """

    model: ModelName = "random_forest"
    heads: tuple[str, ...] | None = Field(default=None, min_length=1)
    protocol: ProtocolName | None = None
    folds: int = Field(default=5, ge=2)
    balance: bool = True
    draws: int | None = Field(default=None, ge=1)
    input: Literal["logits", "probabilities", "both"] | None = None
    calibrate: bool = False
    seed: int = Field(default=42, ge=0, lt=2**31)
    attributes: Literal["ridge", "mean"] = "ridge"
    random_forest: ForestConfig = ForestConfig()
    lightgbm: BoostingConfig = BoostingConfig()
    extra_trees: ForestConfig = ForestConfig()
    logistic: LinearConfig = LinearConfig()
    meta_soup: LinearConfig = LinearConfig()
    weighted: WeightedConfig = WeightedConfig()
    top_k: TopKConfig = TopKConfig()
    ridge: RidgeConfig = RidgeConfig()

    @property
    def learns_from(self) -> Literal["train", "dev"] | None:
        """Name the split that the model is fitted or chosen on; None for a fixed rule."""
        if self.model == "top_k" or (self.model == "weighted" and self.weighted.by == "macro_f1"):
            return "dev"
        return "train" if self.model in LEARNED or self.model == "weighted" else None

    def decisive(self) -> dict[str, Any]:
        """Return the plain values that change this model's numbers; the heads are not among them.

        Two configurations with the same decisive values give the same stack on the same logits.
        """
        names = {"model", "protocol", "attributes", "calibrate"}
        if self.model in LEARNED:
            names |= {"folds", "balance", "draws", "input", "seed", self.model}
        elif self.model in ("weighted", "top_k"):
            names.add(self.model)
        if self.calibrate:
            names |= {"balance", "seed"}
        if self.attributes == "ridge":
            names.add("ridge")
        return self.model_dump(mode="json", include=names)
