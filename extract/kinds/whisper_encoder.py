"""The encoder of kind whisper as a module that can be trained."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, WhisperForConditionalGeneration

from ser.extract.encoder import Encoder, Piece
from ser.extract.kinds.whisper import HOP, LogMels, WhisperOptions, cut, own_frames, window_of
from ser.extract.kinds.whisper_models import encoder_states, has_ctranslate2, torch_encoder
from ser.extract.layers import choose, item_shape


class WhisperEncoder(Encoder):
    """The encoder of a Whisper; its decoder is saved with it, unchanged.

    CTranslate2 weights are saved without a decoder, which frames do not need but words do.
    """

    batch_mask = False

    def __init__(self, options: WhisperOptions, folder: Path, dtype: torch.dtype) -> None:
        super().__init__()
        self.options, self.folder = options, folder
        self.model = torch_encoder(folder, dtype).requires_grad_(True)
        self.model.embed_positions.requires_grad_(False)  # sinusoids, never learned
        config = self.model.config
        self._mels = LogMels(folder, int(config.num_mel_bins))
        self.layers = int(config.encoder_layers)
        self.item_shape = item_shape(self.layers + 1, int(config.d_model), options.layer)

    def prepare(self, source: Any) -> list[Piece]:
        """Return the log-mels of each window of 30 s, and the clip's own frames in it."""
        pieces = []
        for piece in cut(source):
            mels = self._mels(piece, window_of(self.options, len(piece)))
            pieces.append(Piece(np.ascontiguousarray(mels.T), own_frames(piece)))
        return pieces

    def cost(self, size: int) -> float:
        """Return the frames of the window."""
        return window_of(self.options, size) / HOP

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames of the configured layers."""
        mels = inputs.transpose(1, 2).to(self.model.dtype)
        return choose(encoder_states(self.model, mels), self.options.layer)

    def save(self, folder: Path) -> None:
        """Write encoder and decoder, the feature extractor, and the tokenizer if there is one."""
        whole: Any = (
            WhisperForConditionalGeneration(self.model.config)
            if has_ctranslate2(self.folder)
            else WhisperForConditionalGeneration.from_pretrained(self.folder, dtype=torch.float32)
        )
        whole.model.encoder = self.model
        whole.save_pretrained(folder)
        self._mels.extractor.save_pretrained(folder)
        if (self.folder / "tokenizer_config.json").exists():
            AutoTokenizer.from_pretrained(self.folder).save_pretrained(folder)
