"""The answers of the API as its OpenAPI page shows them; what they mean is in `ser.predict.result`.

`ser.predict.formats.to_json` writes them; these models only describe it, and a test holds them to
it.
"""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Know every field."""

    model_config = ConfigDict(extra="forbid")


class WordAnswer(Strict):
    """A word, its share of the attention, and when it was said, where known."""

    word: str
    weight: float
    start: float | None
    end: float | None


class AttentionAnswer(Strict):
    """Weights that sum to 1, one a frame; the seconds of frames, null for tokens of a text."""

    times: list[float] | None
    weights: list[float]


class SegmentAnswer(Strict):
    """What is heard from `start` to `end`, in seconds; `attention` and `words` by `explain`."""

    start: float
    end: float
    emotion: str | None
    probabilities: dict[str, float]
    attributes: dict[str, float]
    transcript: str | None
    heads: dict[str, dict[str, float]]
    attention: dict[str, AttentionAnswer]
    words: list[WordAnswer]


class Answer(Strict):
    """What is heard in a clip: the object that `ser predict --format json` prints."""

    path: str
    seconds: float
    emotion: str | None
    probabilities: dict[str, float]
    attributes: dict[str, float]
    transcript: str | None
    heads: dict[str, dict[str, float]]
    agreeing: list[str]
    segments: list[SegmentAnswer]


class Error(Strict):
    """Why there is no answer, in one sentence."""

    error: str


class Health(Strict):
    """`ready`, or `loading` with status 503."""

    status: str
