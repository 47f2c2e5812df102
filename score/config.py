"""The `score` section of pipeline.yaml."""

from pydantic import Field

from corpus.config import Section


class ScoreConfig(Section):
    """Say how many class-balanced subsets the bootstrap draws, and from which seed."""

    bootstrap: int = Field(default=100, ge=1)
    seed: int = Field(default=42, ge=0)
