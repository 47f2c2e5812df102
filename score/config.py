"""The `score` section of pipeline.yaml."""

from pydantic import Field

from corpus.config import Section


class ScoreConfig(Section):
    """Say how the intervals are drawn, from which seed, and which groups are scored apart.

    `bootstrap` counts the class-balanced subsets of the published bootstrap, `resamples` those of
    the speaker-clustered one. `groups` are columns of the manifest.
    """

    bootstrap: int = Field(default=100, ge=1)
    resamples: int = Field(default=1000, ge=1)
    groups: tuple[str, ...] = ("gender",)
    seed: int = Field(default=42, ge=0)
