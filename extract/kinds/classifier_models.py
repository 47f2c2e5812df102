"""Published audio classifiers, loaded from their folders; code of theirs is never executed.

Two families of heads exist for wav2vec 2.0, HuBERT, WavLM and their kin. That of transformers
(`…ForSequenceClassification`): a projection of each frame, the mean over time, a linear layer. And
the one that many models before it were published with (`…ForSpeechClassification`, audEERING's
model of MSP-Podcast among them; Wagner et al. 2023, "Dawn of the Transformer Era in Speech Emotion
Recognition"): the mean over time, a linear layer, tanh, a linear layer. Whisper's is the first, on
windows of 30 s, with the padding in its mean, as it was trained.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from ser.corpus.errors import UserError
from ser.corpus.registry import reason
from ser.extract.encoder import Encoder, Piece
from ser.extract.encoding import model_type_of
from ser.extract.extractor import SAMPLE_RATE
from ser.extract.kinds.classifier import WHISPER, parts_of
from ser.extract.kinds.speech import AT_ONCE, require_samples
from ser.extract.kinds.speech_families import FAMILIES
from ser.extract.kinds.speech_inputs import as_given
from ser.extract.loading import load_whole

SPEECH = ("wav2vec2", "hubert", "wavlm", "wav2vec2-bert", "wav2vec2-conformer")
OWN_CODE = "write an extractor of your own for it, as examples/add_extractor.py does"


class DenseHead(nn.Module):
    """A linear layer, tanh, and a linear layer to the outputs; dropout is for training alone."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, outputs)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the outputs `(batch, outputs)` of pooled frames `(batch, width)`."""
        outputs: Tensor = self.out_proj(self.dense(pooled).tanh())
        return outputs


class ClassifierEncoder(Encoder):
    """A classifier in float32, of which a part of a clip has one frame: the outputs for all labels.

    Raises `UserError` for a model of another family, and for weights that lack a part: it would be
    random.
    """

    at_once = AT_ONCE

    def __init__(self, model: str, folder: Path) -> None:
        super().__init__()
        config, self._prepare = _read(model, folder)
        cls = _class_of(model, config)
        self.model = load_whole(model, cls, folder, OWN_CODE, config=config, dtype=torch.float32)
        self._family = FAMILIES.get(config.model_type)  # None of Whisper
        self.batch_mask = self._family is not None and self._family.takes_mask(config.to_dict())
        self.layers = int(config.num_hidden_layers)
        self.item_shape = (int(config.num_labels),)

    def prepare(self, source: Any) -> list[Piece]:
        """Return what the model reads of each part of a clip."""
        parts = parts_of(len(source))
        if self._family is not None:
            require_samples(source, self._family)
            inputs, _ = as_given(self._prepare, self._family, source)
            return [Piece(part, 1) for part in np.array_split(inputs, parts)]
        windows = [
            self._prepare(part, sampling_rate=SAMPLE_RATE, return_tensors="np")
            for part in np.array_split(source, parts)
        ]
        return [Piece(np.asarray(one["input_features"][0], np.float32), 1) for one in windows]

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the outputs `(batch, 1, labels)`."""
        if self._family is None:
            given: dict[str, Tensor | None] = {"input_features": inputs}
        else:
            given = {"attention_mask": mask.long() if self.batch_mask else None}
            given[self._family.input_name] = inputs
        outputs: Tensor = self.model(**given).logits.unsqueeze(1)
        return outputs


def _read(model: str, folder: Path) -> tuple[Any, Any]:
    """Read the config and the feature extractor of a model of a known family."""
    family = model_type_of(model, folder)
    if family not in (WHISPER, *SPEECH):
        raise UserError(
            f"{model}: a {family[:40]} model is not of kind classifier, which takes Whisper, "
            "wav2vec 2.0, HuBERT, WavLM and w2v-BERT 2.0, and runs no code of a model's; "
            f"{OWN_CODE}."
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{model}: its config.json or preprocessor_config.json cannot be used "
            f"({reason(error)}); get the model again."
        ) from error
    if extractor.sampling_rate != SAMPLE_RATE:
        raise UserError(
            f"{folder / 'preprocessor_config.json'}: the model reads {extractor.sampling_rate} Hz, "
            f"and kind classifier gives {SAMPLE_RATE} Hz; {OWN_CODE}."
        )
    return config, extractor


def _class_of(model: str, config: Any) -> Any:
    """Return the class that a classifier's weights are of."""
    published: Any = MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING[type(config)]
    architecture = (config.architectures or [published.__name__])[0]
    if architecture == published.__name__:
        return published
    if not architecture.endswith("ForSpeechClassification") or config.model_type == WHISPER:
        raise UserError(
            f"{model}: its config.json names the architecture {architecture[:60]}, which is not a "
            f"classifier that is known here ({published.__name__}); {OWN_CODE}."
        )
    if (pooling := getattr(config, "pooling_mode", "mean")) != "mean":
        raise UserError(
            f"{model}: its config.json has `pooling_mode: {str(pooling)[:40]}`, and only `mean` is "
            f"known here; {OWN_CODE}."
        )
    return _dense_class(MODEL_MAPPING[type(config)])


def _dense_class(encoder: Any) -> Any:
    """Return the class of an encoder whose mean over time goes through a `DenseHead`."""
    prefix = encoder.base_model_prefix

    class DenseClassifier(encoder.__mro__[1]):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            setattr(self, prefix, encoder(config))
            self.classifier = DenseHead(config.hidden_size, config.num_labels)
            self.post_init()

        def forward(self, attention_mask: Tensor | None = None, **inputs: Tensor) -> Any:
            frames = getattr(self, prefix)(attention_mask=attention_mask, **inputs)[0]
            mask = torch.ones(frames.shape[:2], device=frames.device)
            if attention_mask is not None:
                mask = self._get_feature_vector_attention_mask(frames.shape[1], attention_mask)
            weights = mask.to(frames.dtype) / mask.sum(dim=1, keepdim=True)
            pooled = torch.einsum("bt,btd->bd", weights, frames)
            return SequenceClassifierOutput(logits=self.classifier(pooled))

    return DenseClassifier
