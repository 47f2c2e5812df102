"""Whisper's log-mels, computed as transformers' `WhisperFeatureExtractor` does with its defaults.

The result is the same to the last bit. Importing transformers takes three CPU seconds, as long as a
whole cold `ser predict` without it.
"""

import numpy as np
import torch

from ser.extract.extractor import SAMPLE_RATE

WINDOW, HOP = 400, 160  # samples: 25 ms and 10 ms
LINEAR_UP_TO = 1000.0  # Hz; the scale is logarithmic above
MELS_BELOW = 15.0
STEP = np.log(6.4) / 27.0  # of the logarithm of the frequency in Hz, a mel
FLOOR, RANGE = 1e-10, 8.0  # the least power, and log10 of the range below the maximum


class LogMels:
    """Log-mels of waveforms at 16 kHz in a number of bands.

    Radford et al. 2022, section 2.2: powers of 25 ms Hann windows each 10 ms, in bands of the mel
    scale, log10, at most 8 below the maximum of the window, scaled to about -1 to 1.

        >>> LogMels(80)(np.zeros(3_200, np.float32)).shape
        (20, 80)
    """

    def __init__(self, bands: int) -> None:
        self._filters = torch.from_numpy(mel_filters(bands)).float()
        self._window = torch.hann_window(WINDOW)

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """Return the log-mels, float32 `(10 ms frames, bands)`, of `(samples,)`.

        Of the zeros behind a clip, most of a window of 30 s, nothing is transformed.
        """
        clip = len(wave) - int((wave[::-1] != 0).argmax())
        frames = (clip + WINDOW // 2) // HOP + 1  # that have a sample of the clip
        # the end is mirrored, and must mirror zeros
        samples = torch.from_numpy(wave[np.newaxis, : (frames + 3) * HOP]).float()
        spectrum = torch.stft(samples, WINDOW, HOP, window=self._window, return_complex=True)
        powers = torch.zeros(1, spectrum.shape[1], len(wave) // HOP)
        powers[..., : spectrum.shape[2] - 1] = spectrum[..., :-1].abs() ** 2
        mels = torch.clamp(self._filters.T @ powers, min=FLOOR).log10()
        mels = torch.maximum(mels, mels.max() - RANGE)
        log_mels: np.ndarray = ((mels + 4.0) / 4.0)[0].T.numpy()
        return log_mels


def mel_filters(bands: int) -> np.ndarray:
    """Return the triangular filters, float64 `(bins, bands)`, of equal area, from 0 to 8000 Hz.

    Slaney, Auditory Toolbox (1998): 3 mels for 200 Hz up to 1000 Hz, and logarithmic above.
    """
    nyquist = SAMPLE_RATE / 2
    highest = MELS_BELOW + np.log(nyquist / LINEAR_UP_TO) / STEP
    edges = _hertz(np.linspace(0.0, highest, bands + 2))
    bins = np.linspace(0.0, nyquist, WINDOW // 2 + 1)[:, np.newaxis]
    filters = triangles(bins, edges)
    filters *= 2.0 / (edges[2:] - edges[:-2])
    return filters


def triangles(bins: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return filters `(bins, bands)` of height 1 from each edge to the next but one."""
    widths = np.diff(edges)
    rising = (bins - edges[:-2]) / widths[:-1]
    falling = (edges[2:] - bins) / widths[1:]
    filters: np.ndarray = np.maximum(0.0, np.minimum(rising, falling))
    return filters


def _hertz(mels: np.ndarray) -> np.ndarray:
    above = LINEAR_UP_TO * np.exp(STEP * (mels - MELS_BELOW))
    hertz: np.ndarray = np.where(mels >= MELS_BELOW, above, 200.0 * mels / 3.0)
    return hertz
