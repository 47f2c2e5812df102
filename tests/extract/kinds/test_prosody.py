from typing import Any

import numpy as np
import pytest

from ser.extract.extractor import Extractor
from ser.extract.kinds import prosody
from ser.extract.testing import ExtractorConformance, clip
from tests.extract.factories import made


class TestProsody(ExtractorConformance):
    layered = False

    def make(self, **options: Any) -> Extractor:
        return made("prosody", **options)


class TestPitch(ExtractorConformance):
    layered = False

    def make(self, **options: Any) -> Extractor:
        return made("prosody", values="pitch", **options)


class TestOpensmile(ExtractorConformance):
    layered = False
    slack = 5  # samples // 160 - 4

    def make(self, **options: Any) -> Extractor:
        pytest.importorskip("opensmile")
        return made("opensmile", **options)


def voice(hertz: float, seconds: float = 1.0) -> np.ndarray:
    """Make a pulse train's first ten harmonics."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    harmonics = [np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 11)]
    return (0.1 * np.sum(harmonics, axis=0)).astype(np.float32)


@pytest.mark.parametrize(("cores", "at_once"), [(1, 1), (2, 2), (64, 4)])
def test_batches_run_on_all_cores_at_once(cores: int, at_once: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(prosody, "cores", lambda: cores)
    extractor = prosody.Prosody(prosody.ProsodyOptions(kind="prosody"))
    extractor.load("cpu")
    assert extractor.batches_at_once == at_once


@pytest.mark.parametrize("hertz", [70, 100, 160, 220, 330, 450])
def test_pitch_of_a_voice_is_found(hertz: float) -> None:
    (frames,) = made("prosody").extract([voice(hertz)])
    inner = frames[5:-5]
    assert (inner[:, 0] > 0.8).all()
    np.testing.assert_allclose(100 * 2 ** inner[:, 1], hertz, rtol=0.02)


@pytest.mark.parametrize(("hertz", "step"), [(80, 12), (160, 41), (320, 90), (400, 112)])
def test_a_pitch_is_in_its_step(hertz: float, step: int) -> None:
    silence, frames = made("prosody", values="pitch").extract(
        [np.zeros(1600, np.float32), voice(hertz)]
    )
    assert silence.tolist() == [[1.0]] * 10
    assert np.median(frames[5:-5]) == step
    assert (frames == frames.round()).all()


def test_noise_is_unvoiced() -> None:
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    (frames,) = made("prosody").extract([0.1 * noise])
    assert np.median(frames[:, 0]) < 0.45
    assert np.median(frames[:, 1]) == 0


def test_twice_as_loud_is_six_decibels_more() -> None:
    quiet, loud = made("prosody").extract([voice(120), 2 * voice(120)])
    np.testing.assert_allclose((loud - quiet)[5:-5, 2], np.log(4), atol=1e-4)


def test_opensmile_pitch_agrees_with_ours() -> None:
    pytest.importorskip("opensmile")
    (frames,) = made("opensmile").extract([voice(160)])
    semitones = np.median(frames[:, 10])  # F0semitoneFrom27.5Hz
    assert frames.shape == (16_000 // 160 - 4, 25)
    assert 27.5 * 2 ** (semitones / 12) == pytest.approx(160, rel=0.02)


def test_samples_beyond_full_scale_do_not_wrap() -> None:
    pytest.importorskip("opensmile")
    loud = 1.7 * voice(160) / np.abs(voice(160)).max()
    assert loud.max() > 1.5
    assert loud.min() < -1.5
    extractor = made("opensmile")
    beyond, clipped = extractor.extract([loud, np.clip(loud, -1, 32767 / 32768)])
    np.testing.assert_array_equal(beyond, clipped)
    (quiet,) = extractor.extract([loud / 4])
    assert np.abs(beyond[:, 10] - quiet[:, 10]).mean() < 5  # of Hz or dB, not another sound


def test_opensmile_refuses_a_clip_without_a_frame() -> None:
    pytest.importorskip("opensmile")
    with pytest.raises(ValueError, match=r"^openSMILE needs more than 50 ms of audio$"):
        made("opensmile").extract([clip(0.04)])
