"""Frames of wav2vec 2.0, HuBERT and WavLM: 50 Hz, any layer.

Models with a layer-norm feature encoder (the large ones) take an attention mask, so clips of any
length share a batch. Group-norm ones (wav2vec2-base, hubert-base, wavlm-base) average over time
before any mask applies, padding included: there, only clips of equal length share a batch.
"""

import json
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from corpus.errors import UserError
from extract.extractor import (
    SAMPLE_RATE,
    Extractor,
    FeatureOptions,
    ModelOptions,
    choose,
    extractor,
    item_shape,
)

RECEPTIVE_FIELD = 400  # samples behind one frame of the convolutional encoder: 25 ms


class SpeechOptions(ModelOptions):
    """Options of `kind: speech`."""


@extractor("speech")
class Speech(Extractor):
    """Extract hidden states of a self-supervised speech encoder."""

    Options: ClassVar[type[FeatureOptions]] = SpeechOptions
    frame_rate = 50.0

    def load(self, device: str) -> None:
        """Load the model and its own waveform normalisation."""
        import torch
        from transformers import AutoFeatureExtractor, AutoModel

        assert self.weights is not None
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self._normalise = AutoFeatureExtractor.from_pretrained(self.weights.folder)
        self._model = AutoModel.from_pretrained(self.weights.folder, dtype=dtype)
        self._model.eval().to(device)
        self._device, self._dtype = device, dtype
        config = self._model.config
        if getattr(config, "feat_extract_norm", None) not in ("layer", "group"):
            raise UserError(
                f"{self.options.model}: a {config.model_type} model is not of kind speech, which "
                "takes wav2vec 2.0, HuBERT and WavLM."
            )
        self.item_shape = item_shape(
            int(config.num_hidden_layers) + 1, int(config.hidden_size), self.options.layer
        )

    def batch_key(self, size: int) -> Hashable:
        """Return the exact length where the model cannot be masked."""
        return None if self._masked else size

    @cached_property
    def _masked(self) -> bool:
        assert self.weights is not None
        config = json.loads((self.weights.folder / "config.json").read_text())
        return bool(config.get("feat_extract_norm") == "layer")

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the frames of each waveform, as many as the convolutions give it alone."""
        import torch

        short = min(len(wave) for wave in batch)
        if short < RECEPTIVE_FIELD:
            raise ValueError(f"{short} samples are fewer than one frame needs ({RECEPTIVE_FIELD})")
        inputs = self._normalise(
            list(batch),
            sampling_rate=SAMPLE_RATE,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        mask = inputs["attention_mask"].to(self._device) if self._masked else None
        with torch.inference_mode():
            out = self._model(
                inputs["input_values"].to(self._device, self._dtype),
                attention_mask=mask,
                output_hidden_states=True,
            )
            # the last hidden state is the normalised one in every architecture
            states = [*out.hidden_states[:-1], out.last_hidden_state]
            chosen = choose(states, self.options.layer).float().cpu().numpy()
        lengths = [int(self._model._get_feat_extract_output_lengths(len(w))) for w in batch]
        return [row[:length] for row, length in zip(chosen, lengths, strict=True)]
