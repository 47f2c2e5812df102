"""What the encoders of kind speech read of a clip, by each model's own feature extractor."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch

from ser.extract.extractor import SAMPLE_RATE
from ser.extract.kinds.log_mels import triangles
from ser.extract.kinds.speech_families import Family

Inputs = Callable[[np.ndarray], tuple[np.ndarray, int]]
CLAP_RATE = 48_000
STACKED = 2  # rows of log-mels in a frame of Granite


def inputs_of(model_type: str, family: Family, folder: Path) -> tuple[Any, Inputs]:
    """Return a model's feature extractor, and what turns a waveform to the encoder's inputs.

    These are the waveform `(samples,)`, or rows of log-mels `(rows, bands)`, float32, and how many
    at their end are padding that attention must not see.
    """
    if model_type == "granite_speech_encoder":
        return None, lambda wave: (granite_mels(wave), 0)  # transformers' own needs torchaudio
    if model_type == "dasheng":
        return None, lambda wave: (_dasheng(wave), 0)
    if model_type == "spear":
        return None, lambda wave: (kaldi_mels(wave), 0)
    if model_type == "emotion2vec":
        return None, lambda wave: (_standardized(wave), 0)
    from transformers import AutoFeatureExtractor

    extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
    return extractor, partial(OWN.get(model_type, as_given), extractor, family)


def as_given(extractor: Any, family: Family, wave: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the inputs as the extractor gives them."""
    given = extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    if family.reads == "waveform" or "input_features" not in given:
        values = _float32(given["input_values"][0])
        return values.ravel() if family.reads == "waveform" else values, 0
    whole = int(given["attention_mask"][0].sum())  # a last odd row is no frame
    return _float32(given["input_features"][0, :whole]), 0


def _whisper(extractor: Any, family: Family, wave: np.ndarray) -> tuple[np.ndarray, int]:
    """Return log-mels padded to the window, or those of the clip alone."""
    given = extractor(
        wave,
        sampling_rate=SAMPLE_RATE,
        padding="max_length" if family.reads == "window" else "do_not_pad",
        return_attention_mask=True,
        return_tensors="np",
    )
    rows = np.ascontiguousarray(_float32(given["input_features"][0]).T)
    if family.reads == "rows":
        return rows[: len(wave) // 160], 0
    return rows, len(rows) - int(given["attention_mask"][0].sum())


def _clap(extractor: Any, family: Family, wave: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the log-mels of a window at 48 kHz, into which a shorter clip is repeated."""
    window = family.window * family.hop // SAMPLE_RATE * CLAP_RATE
    resampled = soxr.resample(wave, SAMPLE_RATE, CLAP_RATE)[:window]
    given = extractor(resampled, sampling_rate=CLAP_RATE, return_tensors="np")
    return _float32(given["input_features"][0][0]), 0  # of fusion, four copies


OWN = {
    "voxtral_encoder": _whisper,
    "glmasr_encoder": _whisper,
    "qwen2_audio_encoder": _whisper,
    "audioflamingo3_encoder": _whisper,
    "qwen3_asr_encoder": _whisper,
    "qwen3_omni_moe_audio_encoder": _whisper,
    "clap_audio_model": _clap,
}


def _standardized(wave: np.ndarray) -> np.ndarray:
    """Return a waveform of mean 0 and variance 1, as torch's `layer_norm` gives it."""
    return _float32((wave - wave.mean()) / np.sqrt(wave.var() + 1e-5))


def granite_mels(wave: np.ndarray) -> np.ndarray:
    """Return Granite's log-mels, two rows of 80 bands for a frame.

    As torchaudio's MelSpectrogram with 512 points, windows of 400 samples and steps of 160, then
    log10, at most 8 below the maximum of the clip, scaled to about -1 to 1.
    """
    mels = _log10_mels(wave, 400, 80)
    mels = torch.maximum(mels, mels.max() - 8.0) / 4 + 1
    rows = mels.T[: mels.shape[1] // STACKED * STACKED]
    return rows.reshape(-1, STACKED * mels.shape[0]).numpy()


def _dasheng(wave: np.ndarray) -> np.ndarray:
    """Return Dasheng's mels in decibels, 64 bands, at most 120 dB below the maximum of the clip.

    As torchaudio's MelSpectrogram with 512 points, windows of 512 samples and steps of 160, and its
    AmplitudeToDB. (In the published code the maximum is that of a whole batch.)
    """
    decibels = 10.0 * _log10_mels(wave, 512, 64)
    rows: np.ndarray = torch.maximum(decibels, decibels.max() - 120.0).T.contiguous().numpy()
    return rows


def kaldi_mels(wave: np.ndarray) -> np.ndarray:
    """Return Kaldi's log-mels, 128 bands from 20 to 7600 Hz of windows of 25 ms each 10 ms.

    As torchaudio's `kaldi.fbank` without dither and with `snip_edges=False`: both ends of the
    clip are mirrored, so that there is a row for every 160 samples.
    """
    rows = (len(wave) + 80) // 160
    padded = np.pad(np.asarray(wave, np.float32), (120, 280), mode="symmetric")
    windows = torch.from_numpy(padded).unfold(0, 400, 160)[:rows]
    windows = windows - windows.mean(1, keepdim=True)
    before = torch.cat([windows[:, :1], windows[:, :-1]], dim=1)
    window = torch.hann_window(400, periodic=False) ** 0.85
    powers = torch.fft.rfft((windows - 0.97 * before) * window, 512).abs() ** 2
    mels = (powers @ _kaldi_filters(128)).clamp(min=torch.finfo(torch.float32).eps)
    log_mels: np.ndarray = mels.log().numpy()
    return log_mels


@cache
def _kaldi_filters(bands: int) -> torch.Tensor:
    bins = 1127.0 * np.log1p(np.linspace(0.0, SAMPLE_RATE / 2, 257) / 700.0)  # in mels
    lowest, highest = 1127.0 * np.log1p(np.array([20.0, 7600.0]) / 700.0)
    edges = np.linspace(lowest, highest, bands + 2)
    return torch.from_numpy(triangles(bins[:, np.newaxis], edges)).float()


def _log10_mels(wave: np.ndarray, window: int, bands: int) -> torch.Tensor:
    """Return log10 of the power in bands of HTK's mel scale, `(bands, rows)` each 160 samples."""
    spectrum = torch.stft(
        torch.from_numpy(wave).float(),
        n_fft=512,
        hop_length=160,
        win_length=window,
        window=torch.hann_window(window),
        return_complex=True,
    )
    return (_htk_filters(bands).T @ spectrum.abs() ** 2).clamp(min=1e-10).log10()


@cache
def _htk_filters(bands: int) -> torch.Tensor:
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(257, bands, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, mel_scale="htk")
    return torch.from_numpy(filters).float()


def _float32(array: Any) -> np.ndarray:
    return np.asarray(array, np.float32)
