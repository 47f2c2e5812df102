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
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from ser.corpus.config import MOST_CLASSES, Name
from ser.corpus.errors import UserError
from ser.extract.extractor import SAMPLE_RATE, Extractor, FeatureOptions, extractor
from ser.extract.kinds.classifier_labels import Meaning, meaning_of, read_config, read_labels
from ser.extract.kinds.speech import (
    HOP,
    TOGETHER,
    model_inputs,
    normalised,
    reads_mels,
    require_samples,
    runs,
    takes_mask,
)

LONGEST = 30  # s of one part
WINDOW_FRAMES = LONGEST * SAMPLE_RATE // HOP
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
class Classifier(Extractor):
    """Classify clips by a published model."""

    Options: ClassVar[type[FeatureOptions]] = ClassifierOptions
    frame_rate: float | None = None  # one frame for a clip

    def load(self, device: str) -> None:
        """Load the model; raises `UserError` for one that is not a classifier of a known family."""
        from ser.extract.kinds.classifier_models import WHISPER, load_classifier

        assert self.weights is not None
        folder = self.weights.folder
        self.meaning = meaning(self.options, folder)
        self._device = device
        self._model, self._prepare, config = load_classifier(self.options.model, folder, device)
        self._whisper = config.model_type == WHISPER
        self.item_shape = (len(self.meaning.names),)

    def batch_key(self, size: int) -> Hashable:
        """Return the exact length where the model cannot be masked."""
        return None if self._equal else size

    def cost(self, size: int) -> float:
        """Return the frames of all parts; Whisper's are 30 s each."""
        if self._config["model_type"] == "whisper":
            return float(_parts(size) * WINDOW_FRAMES)
        return super().cost(size)

    @property
    def _config(self) -> dict[str, Any]:
        assert self.weights is not None
        if not hasattr(self, "_read"):
            self._read = read_config(self.weights.folder)
        return self._read

    @property
    def _equal(self) -> bool:
        """Return whether clips of different lengths may share a batch."""
        return self._config["model_type"] == "whisper" or takes_mask(self._config)

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the channels of each waveform, float32 `(1, names)`."""
        mels = reads_mels(self._config)
        if not self._whisper:
            require_samples(batch, mels)
        pieces: list[np.ndarray] = []
        owners: list[int] = []
        for i, wave in enumerate(batch):
            parts = self._inputs(wave, mels)
            pieces += parts
            owners += [i] * len(parts)
        outputs: list[list[np.ndarray]] = [[] for _ in batch]
        most = TOGETHER if len(pieces) > len(batch) else len(pieces)
        for run in runs([len(piece) for piece in pieces], self._equal, most):
            answers = self._run([pieces[p] for p in run], mels)
            for position, answer in zip(run, answers, strict=True):
                outputs[owners[position]].append(answer)
        means = np.stack([np.mean(parts, axis=0) for parts in outputs])
        return list(self.meaning.scores(means)[:, None])

    def _inputs(self, wave: np.ndarray, mels: bool) -> list[np.ndarray]:
        """Return what the model reads of each part of a clip."""
        if self._whisper:
            parts = np.array_split(wave, _parts(len(wave)))
            made = [self._prepare(p, sampling_rate=SAMPLE_RATE, return_tensors="np") for p in parts]
            return [np.asarray(one["input_features"][0], np.float32) for one in made]
        return np.array_split(normalised(self._prepare, wave, mels), _parts(len(wave)))

    def _run(self, pieces: Sequence[np.ndarray], mels: bool) -> np.ndarray:
        """Run the model on parts; returns its outputs float32 `(parts, labels)`."""
        import torch

        if self._whisper:
            inputs = {"input_features": torch.from_numpy(np.stack(pieces)).to(self._device)}
        else:
            inputs = model_inputs(pieces, mels, self._equal, self._device, torch.float32)
        with torch.inference_mode():
            outputs: np.ndarray = self._model(**inputs).logits.float().cpu().numpy()
        return outputs


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


def _parts(samples: int) -> int:
    """Return into how many parts a clip is divided."""
    return max(1, -(-samples // (LONGEST * SAMPLE_RATE)))
