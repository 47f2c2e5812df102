"""The `stack` section of pipeline.yaml."""

from typing import Any, Literal

from pydantic import Field

from corpus.config import Section

LEARNED = ("random_forest", "lightgbm")  # the other models are rules: nothing to fit


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


class StackConfig(Section):
    """Choose the model that turns the heads' logits into one emotion.

    `heads` None means every head of the pipeline. Each learned model has a section of its own;
    the sections of models that are not chosen are kept, checked and without effect.
    """

    model: Literal["random_forest", "lightgbm", "mean_logits", "majority"] = "random_forest"
    heads: tuple[str, ...] | None = Field(default=None, min_length=1)
    protocol: Literal["unicamp"] = "unicamp"
    folds: int = Field(default=5, ge=2)
    balance: bool = True
    seed: int = Field(default=42, ge=0, lt=2**31)
    random_forest: ForestConfig = ForestConfig()
    lightgbm: BoostingConfig = BoostingConfig()

    def decisive(self) -> dict[str, Any]:
        """Return the plain values that change this model's numbers; the heads are not among them.

        Two configurations with the same decisive values give the same stack on the same logits.
        """
        if self.model not in LEARNED:
            return {"model": self.model}
        names = {"model", "protocol", "folds", "balance", "seed", self.model}
        return self.model_dump(mode="json", include=names)
