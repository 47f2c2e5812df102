"""Prosody and speaker frames of NaturalSpeech 3's FACodec v2: 512 values at 80 Hz.

The clip is padded with zeros to the next multiple of 200 samples, by a whole frame where it is one
already, as the published extraction does; `samples // 200 + 1` frames come out. Neither the
convolutions (each repeats the edge that it sees) nor the attention take a mask, so only clips of
one padded length share a batch.
"""

from collections.abc import Hashable, Sequence
from typing import ClassVar

import numpy as np

from extract.extractor import SAMPLE_RATE, Extractor, FeatureOptions, extractor

HOP = 200
SHORTEST = 2 * HOP  # the mel's edges reflect 412 samples, which 600 have and 400 have not


class FacodecOptions(FeatureOptions):
    """Options of `kind: facodec`; `model` is its short name, hub id, or a folder."""

    model: str = "facodec"


@extractor("facodec")
class Facodec(Extractor):
    """Extract quantized prosody (256) beside timbre-encoder frames (256)."""

    Options: ClassVar[type[FeatureOptions]] = FacodecOptions
    item_shape = (512,)
    frame_rate = SAMPLE_RATE / HOP

    def load(self, device: str) -> None:
        """Load the two official files, in fp32 on any device."""
        from extract.facodec_model import load_facodec

        assert self.weights is not None
        self._model = load_facodec(self.weights.folder).to(device)
        self._device = device

    def batch_key(self, size: int) -> Hashable:
        """Return the padded length."""
        return padded(size)

    def cost(self, size: int) -> float:
        """Return the frames."""
        return padded(size) / HOP

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return `samples // 200 + 1` frames of each waveform; under 25 ms is a `ValueError`."""
        short = min(len(wave) for wave in batch)
        if short < SHORTEST:
            raise ValueError(f"{short} samples are fewer than FACodec takes ({SHORTEST})")
        by_length: dict[int, list[int]] = {}
        for i, wave in enumerate(batch):
            by_length.setdefault(padded(len(wave)), []).append(i)
        frames: list[np.ndarray] = [np.empty(0)] * len(batch)
        for length, positions in by_length.items():
            waves = np.stack([np.pad(batch[i], (0, length - len(batch[i]))) for i in positions])
            for i, row in zip(positions, self._run(waves), strict=True):
                frames[i] = row.copy()  # a view would keep the whole batch alive
        return frames

    def _run(self, waves: np.ndarray) -> np.ndarray:
        import torch

        # cuDNN convolves in TF32 unless told otherwise; see extract/facodec_model.py for why not
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            frames = self._model(torch.from_numpy(waves).float().to(self._device))
        out: np.ndarray = frames.cpu().numpy()
        return out


def padded(samples: int) -> int:
    """Return the length that a clip is padded to."""
    return (samples // HOP + 1) * HOP
