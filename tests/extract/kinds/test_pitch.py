from typing import Any

import numpy as np

from ser.extract.extractor import SAMPLE_RATE, Extractor
from ser.extract.kinds.pitch import best_path
from ser.extract.testing import ExtractorConformance
from tests.extract.factories import made


class TestPitch(ExtractorConformance):
    layered = False

    def make(self, **options: Any) -> Extractor:
        return made("pitch", **options)


def voice(hertz: np.ndarray, seed: int = 0) -> np.ndarray:
    """Make a tone of 12 harmonics, whose F0 is given every sample, in noise of -30 dB."""
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 13))
    noise = np.random.default_rng(seed).standard_normal(len(hertz))
    return (0.2 * tone + 0.006 * noise).astype(np.float32)


def octaves_of(hertz: np.ndarray) -> np.ndarray:
    return np.log2(hertz[::160] / 100)


def test_glide_is_followed_within_one_percent() -> None:
    hertz = np.geomspace(90, 360, 2 * SAMPLE_RATE)
    (frames,) = made("pitch").extract([voice(hertz)])
    inside = slice(5, -5)
    error = np.abs(frames[inside, 0] - octaves_of(hertz)[inside])
    assert error.max() < np.log2(1.01)
    assert frames[inside, 1].min() > 0.9


def test_silence_and_noise_are_unvoiced() -> None:
    hertz = np.full(SAMPLE_RATE, 200.0)
    quiet = np.zeros(SAMPLE_RATE // 2, np.float32)
    noise = 0.1 * np.random.default_rng(1).standard_normal(SAMPLE_RATE // 2).astype(np.float32)
    (frames,) = made("pitch").extract([np.concatenate([quiet, voice(hertz), noise])])
    assert not frames[:46, 0].any()
    np.testing.assert_allclose(frames[55:145, 0], 1.0, atol=0.01)
    assert np.count_nonzero(frames[156:, 0]) <= 4


def test_path_avoids_an_octave_jump_that_a_single_frame_would_take() -> None:
    hertz = np.tile([0.0, 100.0, 200.0], (5, 1))
    strengths = np.tile([0.45, 0.90, 0.20], (5, 1))
    strengths[2] = [0.45, 0.70, 0.80]  # by itself, this frame is an octave higher
    assert best_path(hertz, strengths).tolist() == [1, 1, 1, 1, 1]
    strengths[2] = [0.45, 0.00, 1.00]  # more than two jumps cost
    assert best_path(hertz, strengths).tolist() == [1, 1, 2, 1, 1]


def test_every_second_period_louder_is_no_octave_error() -> None:
    hertz = np.full(SAMPLE_RATE, 220.0)
    phase = np.cumsum(hertz) / SAMPLE_RATE
    louder = 1 + 0.15 * (np.floor(phase) % 2)
    (frames,) = made("pitch").extract([(louder * voice(hertz)).astype(np.float32)])
    np.testing.assert_allclose(frames[5:-5, 0], np.log2(2.2), atol=0.01)
