"""What is no speech is told so, whatever blocks it comes in; what may be speech is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser.corpus.audio import at_16_khz
from ser.corpus.signal import SignalMeter, signal_problems

RATE = 16_000
RANDOM = np.random.default_rng(0)


def voice(seconds=1.0, rate=RATE, level=0.1):
    """Return a buzz at a glottal pitch with syllables: dense at zero, rare at the peak."""
    t = np.arange(int(seconds * rate)) / rate
    buzz = sum(np.cos(2 * np.pi * 120 * k * t + k * k) / k for k in range(1, 25))
    return (level * buzz * np.sin(2 * np.pi * 2 * t) ** 2).astype(np.float32)


def kinds(wave, power=None):
    return [problem.kind for problem in signal_problems(wave, power)]


def sentences(wave, power=None):
    return [problem.sentence for problem in signal_problems(wave, power)]


@pytest.mark.parametrize("level", [0.003, 0.1, 0.4])
def test_a_voice_has_no_problem(level):
    assert kinds(voice(level=level)) == []
    assert kinds(voice(level=level) + np.float32(0.05)) == []  # with an offset
    assert kinds(voice(0.08, level=level)) == []


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("value", [1.0, 0.2, -0.5])
def test_a_constant(value, rate):
    wave = at_16_khz(np.full(rate, value, np.float32), rate)
    assert kinds(wave) == ["constant"]
    assert sentences(wave)[0].endswith(", not sound.")
    assert kinds(wave + 1e-4 * RANDOM.standard_normal(len(wave))) == ["constant"]


def test_nearly_silent():
    assert sentences(voice(level=1e-4)) == [
        "The audio is nearly silent (its loudest 20 ms are at -81 dBFS)."
    ]
    assert kinds(voice() / 32_768) == ["nearly silent"]  # scaled once too often
    assert kinds(np.full(RATE, 1e-4)) == ["nearly silent"]
    click = np.zeros(RATE)
    click[8000:8020] = 0.9
    assert kinds(click) == ["nearly silent"]
    assert sentences(click) == ["The audio is nearly silent: only 0.02 s exceed -60 dBFS."]
    assert sentences(np.zeros(RATE)) == [
        "The audio is nearly silent (its loudest 20 ms are at digital silence)."
    ]
    # a minute of silence with one word in it is not
    assert kinds(np.concatenate([np.zeros(30 * RATE), voice(0.5), np.zeros(30 * RATE)])) == []


@pytest.mark.parametrize("scale", [2**15, 2**31, 128, 100])
def test_integers_stored_as_floats(scale):
    assert kinds(voice() * scale) == ["not at full scale 1"]


def test_the_peak_is_shown_in_full():
    wave = np.zeros(RATE)
    wave[::100] = 26_207.5
    assert sentences(wave)[0].startswith("The samples reach 26,208, far beyond full scale 1: ")


def test_what_a_codec_overshoots_is_full_scale():
    wave = voice()
    assert kinds(1.5 * wave / np.abs(wave).max()) == []


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("limit", [1.0, 0.3])
def test_mostly_clipped(rate, limit):
    wave = voice(rate=rate, level=100.0)
    assert kinds(at_16_khz(limit * np.clip(wave, -1, 1), rate)) == ["mostly clipped"]
    slightly = np.clip(1.2 * wave / np.abs(wave).max(), -1, 1)
    assert kinds(at_16_khz(limit * slightly, rate)) == []


def test_channels_that_cancel():
    left = voice()
    right = (-0.9 * left).astype(np.float32)
    power = [float(np.mean(c.astype(float) ** 2)) for c in (left, right)]
    assert sentences((left + right) / 2, power) == [
        "The 2 channels cancel each other when they are mixed (0.3% of their power is left); use "
        "one channel only."
    ]
    assert kinds((left + left) / 2, [power[0]] * 2) == []
    noise = RANDOM.standard_normal((2, RATE)) * 0.1
    assert kinds(noise.mean(axis=0), (noise**2).mean(axis=1)) == []  # independent, not opposed
    assert kinds((left + 0 * left) / 2, [power[0], 0.0]) == []  # one of two is empty


WAVES = (
    voice(),
    np.full(8000, 0.3),
    voice(level=1e-4),
    voice(level=100.0).clip(-1, 1),
    voice() * 128,
)


@given(st.sampled_from(range(len(WAVES))), st.lists(st.integers(0, 16_000), max_size=6))
def test_blocks_change_nothing(which, cuts):
    meter = SignalMeter()
    for block in np.split(WAVES[which], sorted(cuts)):
        meter.add(block)
    whole = signal_problems(WAVES[which])
    assert [p.kind for p in meter.problems()] == [p.kind for p in whole]
    assert len(whole) == (which > 0)


def test_nothing_has_no_problem():
    assert kinds(np.empty(0)) == []
