"""Whisper as an encoder of windows, whichever form its weights have.

`encode` takes log-mels of one window length and returns hidden states; `transcribe` takes the last
of these, so that frames and words can share one pass of the encoder. Windows shorter than 30 s are
allowed: the sinusoidal positions are cut, which the weights tolerate (cosine 0.97-0.99 to a full
window).
"""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu

from ser.cache.transcripts import Transcript
from ser.extract.encoder import Encoder, Piece
from ser.extract.extractor import SAMPLE_RATE
from ser.extract.kinds.log_mels import LogMels
from ser.extract.kinds.whisper import HOP, LONGEST, WindowOptions, cut
from ser.extract.layers import choose, item_shape, selected

WHOLE = 2 * LONGEST // HOP  # log-mels of 30 s


class WindowEncoder(Encoder):
    """What every form of Whisper has in common: the log-mels of windows."""

    batch_mask = False

    def __init__(self, options: WindowOptions, folder: Path, bands: int) -> None:
        super().__init__()
        self.options, self.folder = options, folder
        self.bands = bands
        self._preprocess = self._own_preprocessor() or LogMels(bands)

    def prepare(self, source: Any) -> list[Piece]:
        """Return the log-mels of each window of up to 30 s."""
        return [self.in_window(wave, self.options.samples(len(wave))) for wave in cut(source)]

    def in_window(self, wave: np.ndarray, samples: int) -> Piece:
        """Return the log-mels of a waveform in a window of so many samples, and its own frames."""
        padded = np.pad(wave, (0, samples - len(wave)))
        return Piece(self._preprocess(padded), max(1, math.ceil(len(wave) / HOP)))

    def _own_preprocessor(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Return that of a folder which configures one, in transformers' class."""
        if not (self.folder / "preprocessor_config.json").exists():
            return None
        from transformers import WhisperFeatureExtractor

        extractor = WhisperFeatureExtractor.from_pretrained(self.folder)

        def preprocess(wave: np.ndarray) -> np.ndarray:
            batch = extractor(
                wave, sampling_rate=SAMPLE_RATE, padding="do_not_pad", return_tensors="np"
            )
            log_mels: np.ndarray = batch["input_features"][0].T
            return log_mels

        return preprocess

    def cost(self, size: int) -> float:
        """Return the frames of the window."""
        return self.options.samples(size) / HOP

    def frames(self, pieces: Sequence[Piece], most: int = sys.maxsize) -> list[np.ndarray]:
        """Return the kept frames of each window, as `Encoder.frames` does.

        On a CPU windows of 30 s run one by one: the states of several are larger than what malloc
        reuses (32 MB), and fresh pages cost a tenth of the time. The frames are the same bits.
        """
        whole = all(len(piece.inputs) == WHOLE for piece in pieces)
        return super().frames(pieces, 1 if whole and self.device.type == "cpu" else most)

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames of the configured layers."""
        return self.chosen(self.encode(inputs))

    @torch.inference_mode()
    def encoded(self, pieces: Sequence[Piece]) -> list[tuple[list[int], Sequence[Any]]]:
        """Encode windows; returns the positions and the states of those of each length."""
        return [(rows, self.encode(inputs)) for rows, inputs, _ in self.batches(pieces)]

    def encode(self, inputs: Tensor) -> Sequence[Any]:
        """Turn log-mels `(batch, 10 ms frames, bands)` into states, the last for `transcribe`."""
        raise NotImplementedError

    def chosen(self, states: Sequence[Any]) -> Tensor:
        """Return the frames `(batch, frames, *item_shape)` of the layer among the states."""
        raise NotImplementedError

    def transcribe(
        self, last: Any, language: str, samples: Sequence[int] | None
    ) -> list[Transcript]:
        """Read the words greedily off the last encoder state.

        With the `samples` of each clip its words get their times as well; raises `ValueError` for
        weights that cannot give them.
        """
        raise NotImplementedError


class WhisperEncoder(WindowEncoder):
    """The encoder as a torch module, ours or transformers': every layer, and any device.

    Transformers' can be trained. Its decoder is saved with it, unchanged; of CTranslate2 weights
    none is, which frames do not need but words do.
    """

    def __init__(self, options: WindowOptions, folder: Path, layer: int | str, model: Any) -> None:
        super().__init__(options, folder, int(model.conv1.in_channels))
        self.model, self.layer = model, layer
        self.model.embed_positions.requires_grad_(False)  # sinusoids, never learned
        self.layers = len(model.layers)
        self.item_shape = item_shape(self.layers + 1, int(model.conv1.out_channels), layer)
        if getattr(options, "compile", False):
            for block in model.layers:
                block.compile(dynamic=True)

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames of the configured layers; those above them do not run."""
        return self.chosen(self._states(inputs, max(selected(self.layers + 1, self.layer))))

    def encode(self, inputs: Tensor) -> Sequence[Any]:
        """Return all states `(batch, frames, dim)`, the last one normalised."""
        return self._states(inputs, self.layers)

    def _states(self, inputs: Tensor, layers: int) -> list[Any]:
        """Run so many layers; the states of those above are None.

        Hugging Face's own forward insists on 30 s; this is the same sum of parts with the positions
        cut to the window.
        """
        model = self.model
        mels = inputs.transpose(1, 2).to(model.dtype)
        x = gelu(model.conv2(gelu(model.conv1(mels)))).transpose(1, 2)
        states: list[Any] = [x + model.embed_positions.weight[: x.shape[1]]]
        for layer in model.layers[:layers]:
            states.append(layer(states[-1], None))
        if layers == self.layers:
            states[-1] = model.layer_norm(states[-1])
        return [*states, *[None] * (self.layers - layers)]

    def chosen(self, states: Sequence[Any]) -> Tensor:
        """Apply the layer policy."""
        return choose(states[: self.layers + 1], self.layer)

    def save(self, folder: Path) -> None:
        """Write encoder and decoder, the feature extractor, and the tokenizer if there is one."""
        from transformers import (
            AutoTokenizer,
            WhisperFeatureExtractor,
            WhisperForConditionalGeneration,
        )

        whole: Any = (
            WhisperForConditionalGeneration(self.model.config)
            if is_ctranslate2(self.folder)
            else WhisperForConditionalGeneration.from_pretrained(self.folder, dtype=torch.float32)
        )
        whole.model.encoder = self.model
        whole.save_pretrained(folder)
        preprocessor = (
            WhisperFeatureExtractor.from_pretrained(self.folder)
            if (self.folder / "preprocessor_config.json").exists()
            else WhisperFeatureExtractor(feature_size=self.bands)
        )
        preprocessor.save_pretrained(folder)
        if (self.folder / "tokenizer_config.json").exists():
            AutoTokenizer.from_pretrained(self.folder).save_pretrained(folder)


def is_ctranslate2(folder: Path) -> bool:
    """Return whether the weights in a folder are CTranslate2's."""
    return (folder / "model.bin").exists()
