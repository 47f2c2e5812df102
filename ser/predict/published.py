"""A published classifier that predicts in any audio as it is, without a run.

It is the extractor of `kind: classifier`; its classes are those that the model was trained for.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from ser.cache.precision import values
from ser.corpus.errors import UserError, listed
from ser.extract.kinds.classifier import ClassifierOptions, meaning
from ser.extract.models import resolve
from ser.extract.registry import MODELS, card
from ser.predict.audio_predictor import AudioPredictor, Prediction, by_name
from ser.predict.features import Extracted, LiveFeatures
from ser.predict.html import facts
from ser.predict.joining import require_confidence
from ser.score.heads import softmax

FEATURE = "model"  # the name of its only feature
UNKNOWN_LICENCE = "licence: see its card"


class PublishedPredictor(AudioPredictor):
    """A published audio classifier that predicts emotions in audio; see `ser.load`.

    Args:
        model: short name, hub id or folder; `ser models` lists the short names.
        device: auto, cpu or cuda.
        min_confidence: the highest probability below which a result is `unsure`, 0 to 1; by default
            none is.

    `classes` or `attributes` are what it predicts, `licence` is that of its card where known, and
    `summary` a sentence with both. Raises `UserError` for a model that is absent or not a
    classifier of a known family.

        >>> p = PublishedPredictor("hubert-large-superb-er", device="cpu")
        >>> p("clip.wav").emotion
        'sad'
    """

    def __init__(
        self, model: str, device: str = "auto", min_confidence: float | None = None
    ) -> None:
        require_confidence(min_confidence)
        listed_card = card(model)
        if listed_card is not None and not listed_card.predicts:
            classifiers = [name for name, entry in MODELS.items() if entry.predicts]
            raise UserError(
                f"model '{model}': it is not a classifier; choose from {listed(classifiers)}, or "
                "give the hub id or the folder of another one."
            )
        entry = {"kind": "classifier", "model": model, "precision": "float32"}
        options = ClassifierOptions.model_validate(entry)
        weights = resolve(model)
        meant = meaning(options, weights.folder)
        self.licence = None if listed_card is None else listed_card.licence
        hub = "" if listed_card is None or listed_card.hub == model else f"{listed_card.hub}; "
        super().__init__(
            Path(model),
            LiveFeatures({FEATURE: options}, [FEATURE], {}, device, lambda _: weights),
            () if meant.attributes else meant.names,
            meant.names if meant.attributes else (),
            min_confidence=min_confidence,
            summary=(
                f"{model} ({hub}{self.licence or UNKNOWN_LICENCE}) is a published model; how often "
                "it errs on your audio is unknown."
            ),
        )

    def __repr__(self) -> str:
        predicts = list(self.classes or self.attributes)
        return f"PublishedPredictor({str(self.source)!r}, {predicts}, device={self.device!r})"

    def _repr_html_(self) -> str:
        values = {
            "model": str(self.source),
            "licence": self.licence or "",
            "classes": ", ".join(self.classes),
            "attributes": ", ".join(self.attributes),
            "device": self.device,
        }
        return facts("Published classifier", values, self.notes)

    def _classify(
        self, clips: Sequence[Extracted], speakers: Sequence[Hashable]
    ) -> list[Prediction | None]:
        """Return what the model's one frame for each clip means."""
        outputs = np.stack([values(clip.frames[FEATURE])[0] for clip in clips])
        probability = softmax(outputs) if self.classes else None
        return [
            Prediction(
                emotion=self.classes[int(outputs[i].argmax())] if self.classes else None,
                probabilities=by_name(self.classes, probability, i),
                attributes=by_name(self.attributes, outputs if self.attributes else None, i),
                heads={},
            )
            for i in range(len(clips))
        ]
