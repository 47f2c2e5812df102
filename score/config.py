"""The `score` section of pipeline.yaml."""

from pydantic import Field, field_validator

from ser.corpus.config import Name, Section, Seed
from ser.score.metrics import METRICS


class ScoreConfig(Section):
    """The bootstraps, their seed, the further metrics, and the groups that are scored separately.

    `bootstrap` is the number of class-balanced subsets of the published bootstrap, `resamples` that
    of resamples of the speaker-clustered one. `groups` are columns of the manifest. `metrics` are
    reported beside macro-F1, UAR and accuracy. `secondary_votes` is the weight of a rater's further
    choices in the distribution that probabilities are scored against, that of a first choice
    being 1. `map` is the feature whose embeddings the report's map shows; by default the first that
    is not of text.
    """

    bootstrap: int = Field(default=100, ge=1, le=1_000_000)
    resamples: int = Field(default=1000, ge=1, le=1_000_000)
    groups: tuple[Name, ...] = Field(("gender",), max_length=100)
    metrics: tuple[Name, ...] = Field((), max_length=100)
    secondary_votes: float = Field(default=0.0, ge=0, le=1000)
    map: Name | None = None
    seed: Seed = 42

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(METRICS.validate(name) for name in names)
