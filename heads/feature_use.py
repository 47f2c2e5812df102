"""How a head reads one of its features: an entry of `features:` of a head."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ser.corpus.config import Name, Section

PRIOR_CLIPS = 2  # that the corpus is worth in the statistics of a speaker; see docs/heads.md
Layer = Annotated[int, Field(ge=-1000, le=1000)]


class FeatureUse(Section):
    """A feature of a head, and how it is read.

    `stride` k takes the mean of every k frames. `layer` picks one of a feature that was stored with
    all layers (-1 is the last), or several, whose channels are concatenated; without it the
    head learns a sum of all, weighted by a softmax, or with `layer_sum: free` by any numbers.

    `normalize: corpus` shifts and scales each channel by its mean and standard deviation over the
    frames of the training split (no labels, nothing of dev or test); hand-made features such as
    eGeMAPS, whose channels are in Hz, dB and ratios, need it, and a LayerNorm behind a Linear is no
    substitute. `normalize: speaker` does so with each speaker's own frames, of dev and test too: no
    labels, but it uses unlabelled test clips, which a table of results has to mention. The
    statistics of a speaker of n clips have the weight n / (n + 2), those of the training split the
    rest, so that a few clips, or one alone, will do.
    """

    name: Name
    stride: int = Field(default=1, ge=1, le=10_000)
    layer: Layer | Annotated[tuple[Layer, ...], Field(min_length=1, max_length=1000)] | None = None
    normalize: Literal["none", "corpus", "speaker"] = "none"
    layer_sum: Literal["softmax", "free"] = "softmax"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value
