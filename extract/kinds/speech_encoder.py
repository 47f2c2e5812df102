"""The encoder of kind speech: wav2vec 2.0, XLS-R, HuBERT, WavLM and w2v-BERT 2.0."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from ser.extract.encoder import Encoder, Piece
from ser.extract.kinds.speech import (
    AT_ONCE,
    FIELD,
    HOP,
    SpeechOptions,
    cuts_of,
    frames_of,
    normalised,
    reads_mels,
    require_samples,
    require_speech,
    takes_mask,
)
from ser.extract.layers import hidden, item_shape


class SpeechEncoder(Encoder):
    """A self-supervised speech model, its own normalisation, and the chunks of long clips."""

    at_once = AT_ONCE

    def __init__(self, options: SpeechOptions, folder: Path, dtype: torch.dtype) -> None:
        super().__init__()
        config = AutoConfig.from_pretrained(folder)
        config.add_adapter = False  # it would subsample the frames
        if options.layer != -1:
            config.layerdrop = 0.0  # a dropped layer has no state to choose
        require_speech(options.model, config)
        self.options = options
        self._mels = reads_mels(config.to_dict())
        self.batch_mask = takes_mask(config.to_dict())
        self.frozen = () if self._mels else ("feature_encoder",)
        self._normalise = AutoFeatureExtractor.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, config=config, dtype=dtype)
        self.layers = int(config.num_hidden_layers)
        self.item_shape = item_shape(self.layers + 1, int(config.hidden_size), options.layer)
        self._spec_augment = bool(getattr(config, "apply_spec_augment", False))
        if options.compile:
            self.model = torch.compile(self.model, dynamic=True)

    def prepare(self, source: Any) -> list[Piece]:
        """Normalise a waveform, as log-mels where the model reads those, and cut it to chunks."""
        require_samples(source, self._mels)
        inputs = normalised(self._normalise, source, self._mels)
        step, field = (1, 1) if self._mels else (HOP, FIELD)
        chunk = self.options.chunk_frames
        frames, span = min(frames_of(len(source), self._mels), chunk), (chunk - 1) * step + field
        return [
            Piece(inputs[start * step : start * step + span], frames, kept)
            for start, kept in cuts_of(self.options, len(source), self._mels)
        ]

    def cost(self, size: int) -> float:
        """Return the frames."""
        return float(max(1, frames_of(size, self._mels)))

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames of the configured layers."""
        name = "input_features" if self._mels else "input_values"
        arguments = {
            name: inputs.to(self.model.dtype),
            "attention_mask": mask.long() if self.batch_mask else None,
        }
        frames = inputs.shape[1] if self._mels else frames_of(inputs.shape[1], False)
        with _spec_augment(self.model.config, self._spec_augment, frames, self.training):
            return hidden(self.model, self.layers + 1, self.options.layer, **arguments)

    def save(self, folder: Path) -> None:
        """Write the model and its feature extractor."""
        self.model.save_pretrained(folder)
        self._normalise.save_pretrained(folder)


@contextlib.contextmanager
def _spec_augment(config: Any, enabled: bool, frames: int, training: bool) -> Iterator[None]:
    """Let a model mask spans of its input as in pretraining, seeded by PyTorch's generator.

    transformers draws the spans from numpy's global generator, which must be the same when a batch
    is run a second time, and cannot mask a clip that is shorter than a span.
    """
    if not (training and hasattr(config, "apply_spec_augment")):
        yield
        return
    state = np.random.get_state()  # noqa: NPY002
    if enabled:
        np.random.seed(int(torch.randint(2**31, ())))  # noqa: NPY002
    config.apply_spec_augment = enabled and frames > int(config.mask_time_length)
    try:
        yield
    finally:
        config.apply_spec_augment = enabled
        np.random.set_state(state)  # noqa: NPY002
