"""The encoders of kind speech: their inputs, chunks and hidden states."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from transformers import MODEL_FOR_CTC_MAPPING as CTC

from ser.extract.encoder import Encoder, Piece
from ser.extract.kinds.speech import AT_ONCE, SpeechOptions, chunk_frames, cuts_of, require_samples
from ser.extract.kinds.speech_families import Located
from ser.extract.kinds.speech_inputs import inputs_of
from ser.extract.kinds.speech_models import load_encoder, load_with_head
from ser.extract.kinds.speech_states import arguments_of, run_encoder
from ser.extract.layers import item_shape

LAYERDROP = ("layerdrop", "encoder_layerdrop", "speech_encoder_layerdrop")


class SpeechEncoder(Encoder):
    """An audio encoder, its own normalisation, and the chunks of long clips."""

    at_once = AT_ONCE

    def __init__(
        self, options: SpeechOptions, folder: Path, located: Located, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.options, self.located, self.family = options, located, located.family
        self.batch_mask = self.family.takes_mask(located.config)
        self.frozen = self.family.frozen
        kind = str(located.config["model_type"])
        self._extractor, self._inputs = inputs_of(kind, self.family, folder)
        changes: dict[str, object] = {"add_adapter": False}  # it would subsample the frames
        if options.layer != -1:
            changes |= dict.fromkeys(LAYERDROP, 0.0)  # a dropped layer has no state to choose
        if options.posteriors:
            self.model = load_with_head(options.model, folder, CTC, "a CTC head", dtype)
            self.layers, self.item_shape = 0, (int(self.model.config.vocab_size),)
        else:
            self.model = load_encoder(options.model, folder, located, dtype, changes)
            self.layers = layers_of(self.model.config) if self.family.layers else 0
            dim = int(self.model.config.hidden_size)
            self.item_shape = item_shape(self.layers + 1, dim, options.layer)
        config = self.model.config
        self._spec_augment = bool(getattr(config, "apply_spec_augment", False))
        if options.compile:
            self.model = torch.compile(self.model, dynamic=True)

    def prepare(self, source: Any) -> list[Piece]:
        """Turn a waveform to what the model reads, and cut it to chunks."""
        require_samples(source, self.family)
        family = self.family
        most = chunk_frames(family, self.options)
        cuts = cuts_of(family, self.options, len(source))
        frames = min(family.frames(len(source)), most)
        if family.reads == "window":
            return [self._window(source, start, most, kept) for start, kept in cuts]
        step, edge = family.rows, family.edge  # samples or rows for a frame, and those besides
        if family.reads == "waveform":
            step, edge = Fraction(family.hop), family.field - family.hop
        elif family.stacked:
            step, edge = Fraction(1), 0
        inputs, _ = self._inputs(source)
        span = int(most * step) + edge
        return [  # in blocks, the last one may have fewer frames
            Piece(inputs[int(start * step) :][:span], kept.stop if family.block else frames, kept)
            for start, kept in cuts
        ]

    def _window(self, wave: np.ndarray, start: int, frames: int, kept: slice) -> Piece:
        """Return the frames of a window of a waveform from a frame on."""
        first, span = start * self.family.hop, (frames - 1) * self.family.hop + self.family.field
        inputs, padding = self._inputs(wave[first : first + span])
        return Piece(inputs, kept.stop, kept, padding)

    def cost(self, size: int) -> float:
        """Return the frames."""
        return float(max(1, self.family.frames(size)))

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames of the configured layers, or the posteriors."""
        rows = self.family.reads != "waveform"
        frames = inputs.shape[1] if rows else self.family.frames(inputs.shape[1])
        with _spec_augment(self.model.config, self._spec_augment, frames, self.training):
            if self.options.posteriors:
                arguments = arguments_of(self.located, inputs.to(self.model.dtype), mask)
                return log_softmax(self.model(**arguments).logits.float(), dim=-1)
            states = self.layers, self.options.layer
            return run_encoder(self.model, self.located, states, inputs, mask)

    def save(self, folder: Path) -> None:
        """Write the encoder, by itself, and its feature extractor."""
        self.model.save_pretrained(folder, save_original_format=not self.located.tensors)
        if self._extractor is not None:
            self._extractor.save_pretrained(folder)


def layers_of(config: Any) -> int:
    """Return the layers of an encoder, by its config or by that of its model."""
    for name in ("speech_encoder_layers", "encoder_num_hidden_layers"):
        if hasattr(config, name):
            return int(getattr(config, name))
    return int(config.num_hidden_layers)


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
