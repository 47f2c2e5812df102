"""F0 by the path that fits a whole clip best: Boersma 1993, as in Praat.

`kind: pitch` has two values every 10 ms: log2 of F0 relative to 100 Hz (octaves), 0 where unvoiced,
and the strength of the best voiced candidate (0 to 1).

1. Each frame has a few candidates: peaks of the autocorrelation of a Hann window of three periods,
   divided by that of the window, and one for no voice.
2. A candidate's strength is its peak, with a small bonus for higher pitches; that of no voice grows
   as the frame falls below the loudest one.
3. The path with the most strength is taken, less a cost for octaves between neighbours and for each
   change of voicing (section "The path finder"; the costs are those of the paper and of Praat).

`kind: prosody` decides frame by frame instead, which jumps by an octave where a frame is ambiguous.
"""

from collections.abc import Sequence

import numpy as np

from ser.extract.extractor import SAMPLE_RATE, Extractor, extractor
from ser.extract.kinds.prosody import HOP, frames_of

FLOOR, CEILING = 60.0, 500.0  # Hz
WINDOW = round(3 * SAMPLE_RATE / FLOOR)
FFT = 2048
CANDIDATES = 6  # voiced ones of a frame
BLOCK = 1024  # frames whose spectra are in memory at once, about 50 MB
SILENCE, VOICING = 0.03, 0.45  # of the loudest frame; strength of an unvoiced frame
OCTAVE, JUMP, CHANGE = 0.01, 0.35, 0.14  # costs: of an octave down, of an octave's jump, of voicing


@extractor("pitch")
class Pitch(Extractor):
    """Track F0 over each clip, in numpy."""

    item_shape = (2,)
    frame_rate = SAMPLE_RATE / HOP

    def load(self, device: str) -> None:
        """Prepare the window; there is no model."""
        self._window = np.hanning(WINDOW)
        own = np.fft.irfft(np.abs(np.fft.rfft(self._window, FFT)) ** 2)
        self._own = own / own[0]

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return `ceil(samples / 160)` frames of each waveform, at least one."""
        return [self._track(np.asarray(wave, np.float64)) for wave in batch]

    def _track(self, wave: np.ndarray) -> np.ndarray:
        hertz, strengths = self._candidates(wave)
        path = best_path(hertz, strengths)
        frames = np.arange(len(path))
        chosen = hertz[frames, path]
        octaves = np.where(chosen > 0, np.log2(np.maximum(chosen, 1) / 100), 0.0)
        voiced = np.clip(strengths[:, 1:].max(axis=1), 0, 1)
        return np.stack([octaves, voiced], axis=1).astype(np.float32)

    def _candidates(self, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return Hz and strength of candidates `(frames, 1 + CANDIDATES)`, the first unvoiced."""
        framed = frames_of(wave, WINDOW)
        blocks = [self._voiced(framed[i : i + BLOCK]) for i in range(0, len(framed), BLOCK)]
        peaks, hertz, strength = (np.concatenate(part) for part in zip(*blocks, strict=True))
        quiet = 2 - peaks / max(float(peaks.max()), 1e-12) * (1 + VOICING) / SILENCE
        unvoiced = VOICING + np.maximum(0, quiet)
        hertz = np.hstack([np.zeros((len(framed), 1)), hertz])
        return hertz, np.hstack([unvoiced[:, None], strength])

    def _voiced(self, framed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the peak of each frame, and Hz and strength of its voiced candidates."""
        framed = framed - framed.mean(axis=1, keepdims=True)
        peaks = np.abs(framed).max(axis=1)
        power = np.abs(np.fft.rfft(framed * self._window, FFT)) ** 2
        correlation = np.fft.irfft(power, axis=1)
        correlation /= correlation[:, :1] + 1e-12
        first, last = int(SAMPLE_RATE / CEILING), int(SAMPLE_RATE / FLOOR) + 1
        lags = correlation[:, : last + 2] / self._own[: last + 2]
        left, top = lags[:, first - 1 : last], lags[:, first : last + 1]
        right = lags[:, first + 1 :]
        curve = left - 2 * top + right
        summit = (top >= left) & (top > right) & (curve < 0)
        shift = np.where(summit, (left - right) / (2 * np.where(curve < 0, curve, -1.0)), 0.0)
        height = top - (left - right) * shift / 4
        lag = np.arange(first, last + 1) + shift
        strength = np.where(summit, height - OCTAVE * np.log2(FLOOR * lag / SAMPLE_RATE), -np.inf)
        best = np.argsort(-strength, axis=1, kind="stable")[:, :CANDIDATES]
        rows = np.arange(len(framed))[:, None]
        return peaks, SAMPLE_RATE / lag[rows, best], strength[rows, best]


def best_path(hertz: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """Return which candidate of each frame is on the path with the most strength (Viterbi).

    Args:
        hertz: `(frames, candidates)`, 0 of the unvoiced one.
        strengths: of the same shape; -inf of one that does not exist.
    """
    total = strengths[0]
    back = np.zeros(hertz.shape, np.int64)
    for first in range(1, len(hertz), BLOCK):
        for i, cost in enumerate(_costs(hertz[first - 1 : first + BLOCK]), first):
            arriving = total - cost
            back[i] = arriving.argmax(axis=1)
            total = strengths[i] + arriving.max(axis=1)
    path = np.empty(len(hertz), np.int64)
    path[-1] = total.argmax()
    for i in range(len(hertz) - 1, 0, -1):
        path[i - 1] = back[i, path[i]]
    return path


def _costs(hertz: np.ndarray) -> np.ndarray:
    """Return what each step costs: `(frames - 1, candidates, candidates)`, to and from."""
    voiced = hertz > 0
    octaves = np.log2(np.where(voiced, hertz, 1.0))
    jumps = JUMP * np.abs(octaves[1:, :, None] - octaves[:-1, None])
    to, start = voiced[1:, :, None], voiced[:-1, None]
    costs: np.ndarray = np.where(to & start, jumps, CHANGE * (to != start))
    return costs
