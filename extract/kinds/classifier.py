"""Class scores or attributes of a published audio classifier: one frame for each clip.

Classes are log-probabilities in the order of the corpus's classes, attributes the values of
arousal, valence and dominance on the scale of 1 to 7 (`ser.extract.kinds.classifier_labels`);
`head: class_scores` takes both as they are.

A clip of up to 30 s is classified whole. A longer one is normalised whole, divided into equal parts
of at most 30 s, and gets the mean of their outputs. All runs in float32: an answer is a handful of
numbers, of which bfloat16 keeps two digits.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field, field_validator

from ser.corpus.config import MOST_CLASSES, Name
from ser.corpus.errors import UserError
from ser.extract.encoding import EncoderExtractor
from ser.extract.extractor import SAMPLE_RATE, FeatureOptions, extractor
from ser.extract.kinds.classifier_labels import Meaning, meaning_of, read_labels
from ser.extract.kinds.speech_families import FAMILIES

if TYPE_CHECKING:
    from ser.extract.encoder import Piece
    from ser.extract.kinds.classifier_models import ClassifierEncoder

WHISPER = "whisper"
LONGEST = 30  # s of one part
WINDOW_FRAMES = LONGEST * 50
Bound = Annotated[float, Field(ge=-1e6, le=1e6)]


class ClassifierOptions(FeatureOptions):
    """Options of `kind: classifier`.

    `classes` are those of the corpus in a pipeline, and those of the model where none are given.
    `labels` maps labels of the model, as its config.json has them, to classes or attributes; null
    leaves a label out. `range` is the lowest and highest attribute as the model gives it.
    """

    model: str  # short name, hub id or folder
    classes: tuple[Name, ...] = Field((), max_length=MOST_CLASSES)
    labels: dict[str, Name | None] = Field({}, max_length=1000)
    range: tuple[Bound, Bound] = (0.0, 1.0)

    @field_validator("range")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] >= value[1]:
            raise ValueError("the first number must be lower than the second")
        return value


@extractor("classifier")
class Classifier(EncoderExtractor):
    """Classify clips by a published model."""

    Options: ClassVar[type[FeatureOptions]] = ClassifierOptions
    frame_rate: float | None = None  # one frame for a clip

    def build_encoder(self, device: str, trained: bool = False) -> "ClassifierEncoder":
        """Load the model in float32; its frames are its outputs."""
        from ser.extract.kinds.classifier_models import ClassifierEncoder

        return ClassifierEncoder(self.options.model, self.folder).to(device)

    def load(self, device: str) -> None:
        """Load the model; raises `UserError` for one that is not a classifier of a known family."""
        self.meaning = meaning(self.options, self.folder)
        super().load(device)
        self.item_shape = (len(self.meaning.names),)

    def batch_key(self, size: int) -> Hashable:
        """Return the exact length where the model cannot be masked."""
        if self.config["model_type"] == WHISPER:  # windows of 30 s
            return None
        family = FAMILIES.get(str(self.config["model_type"]))
        return None if family is not None and family.takes_mask(self.config) else size

    def cost(self, size: int) -> float:
        """Return the frames of all parts; Whisper's are 30 s each."""
        if self.config["model_type"] == WHISPER:
            return float(parts_of(size) * WINDOW_FRAMES)
        return super().cost(size)

    def compute(self, batch: "Sequence[list[Piece]]") -> list[np.ndarray]:
        """Return the channels of each clip in pieces, float32 `(1, names)`."""
        outputs = self.frames_of_pieces(batch)
        means = np.stack([np.mean(np.concatenate(parts), axis=0) for parts in outputs])
        return list(self.meaning.scores(means)[:, None])


def meaning(options: FeatureOptions, folder: Path) -> Meaning:
    """Return what the outputs of the model in a folder mean for a feature with these options.

    Raises `UserError` with the file for labels that cannot be used.
    """
    assert isinstance(options, ClassifierOptions)
    labels = read_labels(folder)
    try:
        return meaning_of(labels, options.labels, options.classes, options.range)
    except UserError as error:
        raise UserError(f"{options.model}: {error}") from error


def parts_of(samples: int) -> int:
    """Return into how many parts a clip is divided."""
    return max(1, -(-samples // (LONGEST * SAMPLE_RATE)))
