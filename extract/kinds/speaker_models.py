"""The models of kind speaker: `…ForXVector` of transformers, and Resemblyzer's d-vectors."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import MODEL_FOR_AUDIO_XVECTOR_MAPPING as XVECTORS
from transformers import AutoFeatureExtractor

from ser.corpus.errors import UserError
from ser.extract.encoder import Encoder, Piece
from ser.extract.kinds.classifier import parts_of
from ser.extract.kinds.log_mels import mel_filters
from ser.extract.kinds.own_model import OwnModel
from ser.extract.kinds.speech import AT_ONCE, require_samples
from ser.extract.kinds.speech_families import FAMILIES
from ser.extract.kinds.speech_inputs import as_given
from ser.extract.kinds.speech_models import load_with_head

WINDOW, STEP, BANDS = 160, 77, 40  # rows of 10 ms; bands
COVERED = 0.75  # of the last window, or it is left out
HOP, FFT = 160, 400
LEVEL = 10 ** (-30 / 20)  # root mean square that softer clips are amplified to


class XVectorEncoder(Encoder):
    """A model with a time-delay network; a part of a clip has one vector of length 1."""

    at_once = AT_ONCE
    batch_mask = False

    def __init__(self, model: str, folder: Path, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = load_with_head(model, folder, XVECTORS, "an x-vector head", dtype)
        config = self.model.config
        self._family = FAMILIES[config.model_type]
        self._extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
        self.layers = int(config.num_hidden_layers)
        self.item_shape = (int(config.xvector_output_dim),)
        reach = zip(config.tdnn_kernel, config.tdnn_dilation, strict=True)
        self._least = 2 + sum((kernel - 1) * dilation for kernel, dilation in reach)

    def prepare(self, source: Any) -> list[Piece]:
        """Return what the model reads of each part of a clip."""
        require_samples(source, self._family)
        frames = self._family.frames(len(source))
        if frames < self._least:
            raise ValueError(f"{frames} frames are fewer than an x-vector needs ({self._least})")
        inputs, _ = as_given(self._extractor, self._family, source)
        return [Piece(part, 1) for part in np.array_split(inputs, parts_of(len(source)))]

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the vectors `(batch, 1, dim)`."""
        given = {self._family.input_name: inputs.to(self.model.dtype)}
        embeddings: Tensor = self.model(**given).embeddings
        return normalize(embeddings.float(), dim=1).unsqueeze(1)


class DVectors(OwnModel):
    """The last state of three LSTM layers, a linear layer, ReLU, length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels: Tensor) -> Tensor:
        """Return vectors `(batch, 256)` of mel powers `(batch, rows, 40)`."""
        _, (states, _) = self.lstm(mels)
        return normalize(torch.relu(self.linear(states[-1])), dim=1)


class DVectorEncoder(Encoder):
    """Resemblyzer's network with the published weights; a window has one vector of length 1."""

    at_once = 64
    item_shape = (256,)
    layers = 3

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.model = DVectors()
        try:
            stored = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
            wanted = self.model.state_dict()
            self.model.load_state_dict({name: stored[name] for name in wanted})
        except Exception as error:  # which one depends on where the file is damaged
            raise UserError(f"{weights}: these are not Resemblyzer's weights.") from error
        self._filters = torch.from_numpy(mel_filters(BANDS)).float()

    def prepare(self, source: Any) -> list[Piece]:
        """Return the mel powers of each window."""
        loudness = float(np.sqrt(np.mean(np.square(source))))
        if loudness == 0:
            raise ValueError("the clip is silent")
        starts = window_starts(len(source))
        samples = max((starts[-1] + WINDOW) * HOP, len(source))
        wave = np.pad(source * max(1.0, LEVEL / loudness), (0, samples - len(source)))
        rows = self._powers(wave.astype(np.float32))
        return [Piece(rows[start : start + WINDOW], 1) for start in starts]

    def _powers(self, wave: np.ndarray) -> np.ndarray:
        window, padding = torch.hann_window(FFT), "constant"
        spectrum = torch.stft(
            torch.from_numpy(wave), FFT, HOP, window=window, pad_mode=padding, return_complex=True
        )
        powers: np.ndarray = (self._filters.T @ spectrum.abs() ** 2).T.contiguous().numpy()
        return powers

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the vectors `(batch, 1, 256)`."""
        vectors: Tensor = self.model(inputs)
        return vectors.unsqueeze(1)


def window_starts(samples: int) -> list[int]:
    """Return the first row of each window of a clip; the last one is filled for three quarters."""
    rows = math.ceil((samples + 1) / HOP)
    starts = list(range(0, max(1, rows - WINDOW + STEP + 1), STEP))
    filled = (samples / HOP - starts[-1]) / WINDOW
    return starts[:-1] if filled < COVERED and len(starts) > 1 else starts
