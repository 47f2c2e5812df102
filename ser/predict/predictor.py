"""A trained run that predicts the emotion in any audio.

1. Read the run's pipeline.yaml, its stack and the heads of the stack (or one head); no more.
2. Extract what the heads read and apply heads and stack by the code of the stages, so that a clip
   gets the probabilities that it got in its run. `ser.predict.audio_predictor` has the rest.
"""

from collections.abc import Hashable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ser.corpus.errors import UserError, nearest
from ser.corpus.synthetic import model_note
from ser.extract.models import resolve
from ser.heads.saved import SavedHead
from ser.predict.attention import Pooling, head_weights, inputs_of
from ser.predict.audio_predictor import AudioPredictor, Prediction, by_name
from ser.predict.bundle import open_bundle, run_path
from ser.predict.features import Extracted, LiveFeatures
from ser.predict.html import facts
from ser.predict.joining import require_confidence
from ser.predict.runs import best_head, read_pipeline, synthetic_share, table_without_rows
from ser.score.heads import softmax
from ser.score.record import has_stack
from ser.stack.run import load as load_stack
from ser.stack.run import stacked_heads
from ser.stack.table import Rows

if TYPE_CHECKING:
    from ser.heads.trained import TrainedHead


class Predictor(AudioPredictor):
    """A trained run, or one of its heads, that predicts emotions in audio; see `ser.load`.

    Args:
        run: the folder of a run, a bundle that `ser pack` made of it, or a bundle on the Hugging
            Face hub, as hf:owner/name or hf:owner/name@revision.
        head: the head to use; by default the stack, and in a run without one the head with the best
            score on dev.
        device: auto, cpu or cuda.
        min_confidence: the highest probability below which a result is `unsure`, 0 to 1; by default
            that of the bundle, if it has one, for its stack; 0: none is.
        lazy: read the heads' weights, which takes torch, with the first clip instead of now.

    `classes` and `attributes` are what it predicts, `heads` the names of the heads in use; `stack`
    is None for a head alone. `synthetic` is the share of synthetic speech among the training clips
    (None where it is unknown), and `notes` are sentences that every result carries. `evaluation` is
    that of a bundle, with its errors on corpora that it has not seen, and `summary` one sentence of
    it; both are None without one. `record` is the bundle.json of a bundle, None for a folder.
    Raises `UserError` for a run that is incomplete.

        >>> p = Predictor("runs/mine", device="cpu")
        >>> p
        Predictor('runs/mine', heads=['audio'], classes=['angry', 'sad'], device='cpu')
        >>> [result.emotion for result in p(["clip.wav", "clips/1.wav"])]
        ['angry', 'sad']
    """

    def __init__(
        self,
        run: str | Path,
        head: str | None = None,
        device: str = "auto",
        min_confidence: float | None = None,
        *,
        lazy: bool = False,
    ) -> None:
        require_confidence(min_confidence)
        path = run_path(run)
        bundle = open_bundle(path) if path.is_file() else None
        self.run = bundle.folder if bundle else path
        self.pipeline = bundle.pipeline() if bundle else read_pipeline(self.run)
        systems = self.pipeline.systems
        if head and head not in systems and not (self.run / "heads" / head).is_dir():
            raise UserError(f"{run}: there is no head '{head}'; {nearest(head, systems)}")
        stacked = head is None and has_stack(self.run)  # damaged or not: never another system
        self._reading = bundle.reading if bundle else nullcontext
        with self._reading():
            names = stacked_heads(self.run) if stacked else [head or best_head(self.run)]
            self._saved = [SavedHead.read(self.run / "heads" / name) for name in names]
            table = table_without_rows(self._saved)
            self.stack = load_stack(self.run, table) if stacked else None
        self.heads, self._table = tuple(names), table
        self.record = bundle.record if bundle else None
        self.evaluation = self.record.evaluation if self.record else None
        if min_confidence is None and self.evaluation is not None and stacked:
            min_confidence = self.evaluation.min_confidence
        trained_on = {name: spec for h in self._saved for name, spec in h.record.features.items()}
        find = bundle.weights if bundle else resolve
        features = dict(self.pipeline.features) | self.pipeline.finetuned
        live = LiveFeatures(features, trained_on, trained_on, device, find)
        # the heads of a bundle record it all, and no file that a bundle names is opened
        options = {} if bundle else {n: live.options[n] for n in live.names}
        manifest = None if bundle else self.pipeline.corpus.manifest
        self.synthetic = synthetic_share(self.run, names, options, manifest)
        note = model_note(self.synthetic)
        super().__init__(
            Path(run),
            live,
            table.classes if table.classifiers else (),
            table.attributes,
            min_confidence=min_confidence,
            notes=() if note is None else (note,),
            summary=bundle.summary if bundle else None,
        )
        if not lazy:
            _ = self.trained_heads

    def __repr__(self) -> str:
        return (
            f"Predictor({str(self.source)!r}, heads={list(self.heads)}, "
            f"classes={list(self.classes)}, device={self.device!r})"
        )

    def _repr_html_(self) -> str:
        options, stack = self.features.options, self.stack
        models = ((name, options[name].pretrained) for name in self.features.names)
        values = {
            "run": str(self.source),
            "predicts by": f"the stack {stack.config.model}" if stack is not None else "one head",
            "heads": ", ".join(self.heads),
            "classes": ", ".join(self.classes),
            "attributes": ", ".join(self.attributes),
            "features": ", ".join(f"{n} ({model})" if model else n for n, model in models),
            "device": self.device,
        }
        return facts("Predictor", values, self.notes)

    def load(self) -> None:
        """Load every model and every head now instead of with the first clip."""
        super().load()
        with self._lock:
            _ = self.trained_heads

    @cached_property
    def trained_heads(self) -> "list[TrainedHead]":
        """The heads in use, with their modules, in the order of `heads`."""
        from ser.heads.trained import TrainedHead  # imports torch

        with self._reading():
            return [TrainedHead(saved, self.device) for saved in self._saved]

    @property
    def by_speaker(self) -> bool:
        """Return whether any head in use reads a feature with `normalize: speaker`."""
        return any(head.by_speaker for head in self._saved)

    def _attention(self, clips: Sequence[Extracted], speakers: Sequence[Hashable]) -> list[Pooling]:
        return head_weights(self.trained_heads, clips, speakers)

    def _classify(
        self, clips: Sequence[Extracted], speakers: Sequence[Hashable]
    ) -> list[Prediction | None]:
        """Apply heads and stack to clips.

        None where a head's output is NaN or infinite: the stack would predict a class all the same.
        """
        finite = np.ones(len(clips), bool)
        outputs: dict[str, Mapping[str, np.ndarray]] = {}
        for name, head in zip(self.heads, self.trained_heads, strict=True):
            output = head.predict(inputs_of(head, clips), speakers)
            finite &= np.all(
                [np.isfinite(values).all(axis=1) for values in output.values()], axis=0
            )
            outputs[name] = {key: np.nan_to_num(values) for key, values in output.items()}
        logits = {name: outputs[name]["logits"] for name in self._table.classifiers}
        ratings = [output["attributes"] for output in outputs.values() if "attributes" in output]
        none = np.empty((len(clips), 0), np.float32)
        predicted = np.concatenate([none, *ratings], axis=1)
        alone = {name: softmax(values) for name, values in logits.items()}
        if self.stack is not None:
            joined = np.concatenate([none, *logits.values()], axis=1)
            prediction = self.stack.predict(Rows.new(joined, predicted))
            chosen, probability = prediction.chosen, prediction.probability
            attributes = prediction.attributes
        else:
            probability = next(iter(alone.values()), None)
            chosen = None if probability is None else probability.argmax(axis=1)
            attributes = predicted if self.attributes else None
        return [
            Prediction(
                emotion=None if chosen is None else self.classes[int(chosen[i])],
                probabilities=by_name(self.classes, probability, i),
                attributes=by_name(self.attributes, attributes, i),
                heads={name: by_name(self.classes, p, i) for name, p in alone.items()},
            )
            if finite[i]
            else None
            for i in range(len(clips))
        ]
