"""The answers of the API in its OpenAPI description; `ser.predict.result` explains them.

`ser.predict.formats.to_json` writes them; these models only describe its output, which a test
compares.
"""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A model without unknown fields."""

    model_config = ConfigDict(extra="forbid")


class WordAnswer(Strict):
    """A word, its share of the attention, and its start and end, if known."""

    word: str
    weight: float
    start: float | None
    end: float | None


class AttentionAnswer(Strict):
    """Weights that sum to 1, one a frame; the times of frames in s, null for tokens of a text."""

    times: list[float] | None
    weights: list[float]


class PredictionAnswer(Strict):
    """The fields that a clip has in common with its segments."""

    emotion: str | None
    probabilities: dict[str, float]
    attributes: dict[str, float]
    transcript: str | None
    heads: dict[str, dict[str, float]]
    unsure: bool | None


class SegmentAnswer(PredictionAnswer):
    """The prediction for `start` to `end`, in s; `attention` and `words` with `explain`.

    `speaker` is null: a server gets no turns.
    """

    start: float
    end: float
    attention: dict[str, AttentionAnswer]
    words: list[WordAnswer]
    speaker: str | None


class Answer(PredictionAnswer):
    """The prediction for a clip: the object that `ser predict --format json` prints.

    `notes` are sentences that qualify the answer: that the model was trained on synthetic speech,
    or that the audio is nearly silent. `unsure` is null unless the server has a `--min-confidence`.
    """

    path: str
    seconds: float
    agreeing: list[str]
    segments: list[SegmentAnswer]
    notes: list[str]


class Error(Strict):
    """The reason for an error, in one sentence."""

    error: str


class Health(Strict):
    """`ready`, or `loading` with status 503."""

    status: str
