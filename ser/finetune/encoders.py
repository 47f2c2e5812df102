"""Pretrained encoders that can be trained: what `extract` runs, with gradients.

1. `prepare` converts one clip or text to the model's inputs in a decoding thread (normalised
   waveform, log-mels, or tokens), and returns its number of frames.
2. `forward` runs a padded batch. Where a model cannot be masked (group-norm speech models,
   Whisper), inputs of equal length run together, so that no clip's frames depend on its neighbours.
3. `save` writes the Hugging Face format, which `extract` loads by `model: FOLDER`; its frames equal
   those of this encoder.

Randomness in training (dropout, LayerDrop, SpecAugment) follows the model's own config.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ser.corpus.errors import UserError
from ser.extract.extractor import SAMPLE_RATE
from ser.extract.kinds.speech import (
    FIELD,
    MEL_HOP,
    frames_of,
    normalised,
    reads_mels,
    require_speech,
)
from ser.extract.kinds.speech import takes_mask as takes_mask_by_config
from ser.extract.kinds.text import load_tokenizer, window_of
from ser.extract.kinds.whisper import HOP, window_samples
from ser.extract.kinds.whisper_models import encoder_states
from ser.extract.layers import choose, hidden, item_shape
from ser.extract.models import Weights
from ser.finetune.config import FineTuneConfig

Prepared = tuple[np.ndarray, int]  # what a model reads (length, …), and how many frames it gives


class Encoder(nn.Module):
    """A model and the preparation of its inputs; `item_shape` is that of a frame."""

    model: Any  # of transformers
    batch_mask = True  # inputs of different lengths may run together
    item_shape: tuple[int, ...]
    layers: int  # blocks
    least = 1  # samples or characters for one frame
    frozen: tuple[str, ...] = ()  # default of the config's `freeze`

    def __init__(self, config: FineTuneConfig, weights: Weights) -> None:
        super().__init__()
        self.config, self.folder = config, weights.folder

    def prepare(self, source: Any) -> Prepared:
        """Return the model's inputs for a waveform `(samples,)` at 16 kHz, or a text."""
        raise NotImplementedError

    def cost(self, size: int) -> float:
        """Estimate the frames of an input of this many samples or characters."""
        raise NotImplementedError

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames `(batch, frames, *item_shape)` of inputs `(batch, length, …)`."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames `(batch, frames, *item_shape)`, 0 where padded, and their mask.

        Inputs are `(batch, length, …)`; sizes, int64 `(batch, 2)` on the host, are the length of
        each input and its number of frames. An input of length 0 is a frame of zeros.
        """
        counts = sizes[:, 1].to(inputs.device)
        width = int(sizes[:, 1].max())
        frames = torch.zeros(len(sizes), width, *self.item_shape, device=inputs.device)
        for rows in self._groups(sizes[:, 0].tolist()):
            lengths = sizes[rows, 0]
            longest = int(lengths.max())
            mask = torch.arange(longest) < lengths.unsqueeze(1)
            states = self.run(inputs[rows, :longest], mask.to(inputs.device)).float()
            count = min(width, states.shape[1])
            frames[rows, :count] = states[:, :count]
        mask = torch.arange(width, device=inputs.device) < counts.unsqueeze(1)
        shaped = mask.view(*mask.shape, *(1 for _ in self.item_shape))
        return frames.where(shaped, 0.0), mask

    def _groups(self, lengths: list[int]) -> list[list[int]]:
        """Group the rows that may run as one batch, without those of length 0."""
        groups: dict[int, list[int]] = {}
        for row, length in enumerate(lengths):
            if length:
                groups.setdefault(0 if self.batch_mask else length, []).append(row)
        return list(groups.values())

    def whole(self) -> Any:
        """Return the model that is saved."""
        return self.model

    def save(self, folder: Path) -> None:
        """Write model and preprocessor in Hugging Face form."""
        self.whole().save_pretrained(folder)
        self.save_preprocessor(folder)

    def save_preprocessor(self, folder: Path) -> None:
        """Write the preprocessor of its inputs."""
        raise NotImplementedError


class SpeechEncoder(Encoder):
    """wav2vec 2.0, HuBERT, WavLM and w2v-BERT 2.0."""

    def __init__(self, config: FineTuneConfig, weights: Weights) -> None:
        super().__init__(config, weights)
        from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

        model_config = AutoConfig.from_pretrained(weights.folder)
        model_config.add_adapter = False  # it would subsample the frames
        if config.layer != -1:
            model_config.layerdrop = 0.0  # a dropped layer has no state to choose
        require_speech(config.model, model_config)
        self._mels = reads_mels(model_config.to_dict())
        self.batch_mask = takes_mask_by_config(model_config.to_dict())
        self.least = FIELD + MEL_HOP if self._mels else FIELD
        self.frozen = () if self._mels else ("feature_encoder",)
        self._normalise = AutoFeatureExtractor.from_pretrained(weights.folder)
        self.model = AutoModel.from_pretrained(
            weights.folder, config=model_config, dtype=torch.float32
        )
        self.layers = int(model_config.num_hidden_layers)
        self.item_shape = item_shape(self.layers + 1, int(model_config.hidden_size), config.layer)
        self._spec_augment = bool(getattr(model_config, "apply_spec_augment", False))

    def prepare(self, source: Any) -> Prepared:
        """Return the normalised waveform or log-mels, and the frames."""
        inputs = normalised(self._normalise, source, self._mels)
        return inputs, frames_of(len(source), self._mels)

    def cost(self, size: int) -> float:
        """Return the frames."""
        return float(max(1, frames_of(size, self._mels)))

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames of the configured layers."""
        name = "input_features" if self._mels else "input_values"
        arguments = {name: inputs, "attention_mask": mask.long() if self.batch_mask else None}
        frames = inputs.shape[1] if self._mels else frames_of(inputs.shape[1], False)
        with _spec_augment(self.model.config, self._spec_augment and self.training, frames):
            return hidden(self.model, self.layers + 1, self.config.layer, **arguments)

    def save_preprocessor(self, folder: Path) -> None:
        """Write the feature extractor."""
        self._normalise.save_pretrained(folder)


class WhisperEncoder(Encoder):
    """The encoder of a Whisper; its decoder is saved with it, unchanged."""

    batch_mask = False

    def __init__(self, config: FineTuneConfig, weights: Weights) -> None:
        super().__init__(config, weights)
        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

        if (weights.folder / "model.bin").exists():
            raise UserError(
                f"{config.model}: CTranslate2 weights cannot be trained; give the Hugging Face "
                "folder of the model (`hf download` fetches it, or convert it)."
            )
        whole = WhisperForConditionalGeneration.from_pretrained(weights.folder, dtype=torch.float32)
        if (weights.folder / "preprocessor_config.json").exists():
            self._mels = WhisperFeatureExtractor.from_pretrained(weights.folder)
        else:
            self._mels = WhisperFeatureExtractor(feature_size=whole.config.num_mel_bins)
        self._whole = (whole,)  # a tuple, as its decoder is not part of this module
        self.model = whole.model.encoder
        self.model.embed_positions.requires_grad_(False)  # sinusoids, never learned
        self.layers = int(whole.config.encoder_layers)
        self.item_shape = item_shape(self.layers + 1, int(whole.config.d_model), config.layer)

    def prepare(self, source: Any) -> Prepared:
        """Return the log-mels of the window, and the frames of the clip."""
        window = window_samples(len(source), self.config.window, SAMPLE_RATE)
        padded = np.pad(source, (0, window - len(source)))
        batch = self._mels(
            padded, sampling_rate=SAMPLE_RATE, padding="do_not_pad", return_tensors="np"
        )
        mels = np.ascontiguousarray(batch["input_features"][0].T)
        return mels, max(1, -(-len(source) // HOP))

    def cost(self, size: int) -> float:
        """Return the frames of the window."""
        return window_samples(size, self.config.window, SAMPLE_RATE) / HOP

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames of the configured layers."""
        return choose(encoder_states(self.model, inputs.transpose(1, 2)), self.config.layer)

    def whole(self) -> Any:
        """Return encoder and decoder."""
        return self._whole[0]

    def save_preprocessor(self, folder: Path) -> None:
        """Write the feature extractor, and the tokenizer where there is one."""
        from transformers import AutoTokenizer

        self._mels.save_pretrained(folder)
        if (self.folder / "tokenizer_config.json").exists():
            AutoTokenizer.from_pretrained(self.folder).save_pretrained(folder)


class TextEncoder(Encoder):
    """Text models; a text longer than the model's context is truncated."""

    def __init__(self, config: FineTuneConfig, weights: Weights) -> None:
        super().__init__(config, weights)
        from transformers import AutoConfig, AutoModel

        model_config = AutoConfig.from_pretrained(weights.folder)
        if model_config.is_encoder_decoder:
            raise UserError(
                f"{config.model}: a {model_config.model_type} has an encoder and a decoder, which "
                "cannot be fine-tuned; use an encoder such as roberta-large."
            )
        model_config.use_cache = False
        self._tokenizer = load_tokenizer(weights.folder)
        self.model = AutoModel.from_pretrained(
            weights.folder, config=model_config, dtype=torch.float32
        )
        self._window = window_of(self._tokenizer, self.model)
        # sets the tokenizer's truncation, which must not change while another thread encodes
        self.prepare("a")
        self.layers = int(model_config.num_hidden_layers)
        self.item_shape = item_shape(self.layers + 1, int(model_config.hidden_size), config.layer)

    def prepare(self, source: Any) -> Prepared:
        """Return the tokens; none for an empty text, which is one frame of zeros."""
        if not source.strip():
            return np.zeros(0, np.int64), 1
        tokens = self._tokenizer(source, truncation=True, max_length=self._window)["input_ids"]
        return np.array(tokens, np.int64), len(tokens)

    def cost(self, size: int) -> float:
        """Return the tokens, about one in three characters."""
        return min(size / 3 + 2, self._window)

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames of the configured layers."""
        arguments = {"input_ids": inputs, "attention_mask": mask.long()}
        return hidden(self.model, self.layers + 1, self.config.layer, **arguments)

    def save_preprocessor(self, folder: Path) -> None:
        """Write the tokenizer."""
        self._tokenizer.save_pretrained(folder)


ENCODERS: dict[str, type[Encoder]] = {
    "speech": SpeechEncoder,
    "whisper": WhisperEncoder,
    "text": TextEncoder,
}


@contextlib.contextmanager
def _spec_augment(config: Any, enabled: bool, frames: int) -> Iterator[None]:
    """Let a model mask spans of its input as in pretraining, seeded by PyTorch's generator.

    transformers draws the spans from numpy's global generator, which must be the same when a batch
    is run a second time, and cannot mask a clip that is shorter than a span.
    """
    if not hasattr(config, "apply_spec_augment"):
        yield
        return
    state, configured = np.random.get_state(), config.apply_spec_augment  # noqa: NPY002
    if enabled:
        np.random.seed(int(torch.randint(2**31, ())))  # noqa: NPY002
    config.apply_spec_augment = enabled and frames > int(config.mask_time_length)
    try:
        yield
    finally:
        config.apply_spec_augment = configured
        np.random.set_state(state)  # noqa: NPY002
