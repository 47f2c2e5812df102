"""Checks of a decoded signal: five problems that make it useless for emotion recognition.

    meter = SignalMeter()
    for block in blocks:          # mono float32 at 16 kHz, of any length
        meter.add(block)
    meter.problems()              # the same as signal_problems(whole)

A problem is a warning: the clip is used, and its predictions carry the warning. What is measured,
and why the limits are where they are:

* frames of 20 ms, each about its own mean, so that an offset or a slow drift is not taken for
  sound. A signal with less than 0.1 s of frames above -60 dBFS is `nearly silent`, or `constant`
  where it is far from zero all the same. -60 dBFS is 33 steps of 16 bits: speech in published
  corpora has its loudest frames at -40 to -5 dBFS, and the noise of a room is at -60 and below.
* the peak. Decoding and resampling overshoot full scale by less than 2; int16, 24-bit and percent
  scales lie far above: `not at full scale 1`.
* how samples are spread over levels of 0.1 dB. In speech at most 3 in 100 samples lie in any 1.5 dB
  near the peak; with 20 dB of overdrive 35, whatever rate it is resampled from. From 25 on the
  waveform is mostly flat tops: `mostly clipped`. Samples 30 dB below the peak and less (pauses) do
  not count. A pure tone, at 37 and more, is the only other sound reported so.
* with `channels_power`, the mean power of the channels before they were averaged: a mix far weaker
  than its channels has lost what they share: `channels cancel`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

SAMPLE_RATE = 16_000
FRAME = 320  # samples; 20 ms
AUDIBLE = -60.0  # dBFS of a frame about its mean
SHORTEST_SOUND = 5  # frames; 0.1 s
LOUDEST = 2.0  # of full scale 1; what resampling and lossy codecs overshoot stays below
OFFSET = 0.01  # of full scale; a signal without sound that lies further from zero is constant
STEP = 0.1  # dB of a level
LEVELS = (-100.0, 220.0)  # dB; all levels below and above count as these
CLIPPED = 0.25  # of the active samples, in FLAT dB within TOP dB of the peak
FLAT, TOP, ACTIVE = 1.5, 4.0, 30.0  # dB
OFF_CENTRE = 0.25  # mean by peak, beyond which clipping is not judged
CANCEL = "channels cancel"  # a problem that cannot be seen in the mixed signal
CANCELLED = 0.02  # of the power that the channels have in the mean; uncorrelated ones keep 1 / n


@dataclass(frozen=True)
class SignalProblem:
    """Why a signal is not usable as speech: `kind` for tables, `sentence` for people."""

    kind: str
    sentence: str


def signal_problems(
    wave: np.ndarray, channels_power: Sequence[float] | None = None
) -> list[SignalProblem]:
    """Return what makes float `(samples,)` at 16 kHz useless as speech; an empty list for speech.

    `channels_power` is the mean square of each channel before they were averaged, where known.
    """
    meter = SignalMeter()
    meter.add(wave)
    return meter.problems(channels_power)


@dataclass
class SignalMeter:
    """Running measures of a signal that arrives in blocks; memory does not grow with its length."""

    samples: int = 0
    peak: float = 0.0
    total: float = 0.0  # sum of the samples
    energy: float = 0.0  # sum of their squares
    frames: int = 0
    audible: int = 0  # frames above AUDIBLE
    loudest: float = 0.0  # mean square of a frame about its mean
    levels: np.ndarray = field(default_factory=lambda: np.zeros(_level(LEVELS[1]) + 1, np.int64))
    _pending: np.ndarray = field(default_factory=lambda: np.empty(0))

    def add(self, block: np.ndarray) -> None:
        """Measure the next samples, float `(samples,)` at 16 kHz without NaN."""
        if not len(block):
            return
        block = np.asarray(block, np.float64)
        size = np.abs(block)
        self.samples += len(block)
        self.peak = max(self.peak, float(size.max()))
        self.total += float(block.sum())
        self.energy += float(block @ block)
        with np.errstate(divide="ignore"):
            decibel = np.clip(20 * np.log10(size), *LEVELS)
        bins = np.round((decibel - LEVELS[0]) / STEP).astype(np.int64)
        self.levels += np.bincount(bins, minlength=len(self.levels))
        pending = np.concatenate([self._pending, block])
        whole = len(pending) // FRAME * FRAME
        self._measure(pending[:whole].reshape(-1, FRAME))
        self._pending = pending[whole:]

    def _measure(self, frames: np.ndarray) -> None:
        if frames.size:
            power = frames.var(axis=1)
            self.frames += len(power)
            self.audible += int((power > 10 ** (AUDIBLE / 10)).sum())
            self.loudest = max(self.loudest, float(power.max()))

    def problems(self, channels_power: Sequence[float] | None = None) -> list[SignalProblem]:
        """Return what is wrong with what was added so far; see `signal_problems`."""
        if not self.samples:
            return []
        problems = [
            self._cancelled(channels_power),
            self._without_sound(),
            self._scale(),
            self._clipped(),
        ]
        return [problem for problem in problems if problem is not None]

    def _without_sound(self) -> SignalProblem | None:
        # a clip of less than 20 ms is too short to judge
        if self.audible >= min(SHORTEST_SOUND, math.ceil(self.frames / 4)):
            return None
        mean = self.total / self.samples
        if abs(mean) > OFFSET and abs(mean) > OFF_CENTRE * self.peak:
            return SignalProblem(
                "constant", f"The signal is constant (a DC offset of {mean:.3g}), not sound."
            )
        if self.audible:
            seconds = self.audible * FRAME / SAMPLE_RATE
            return SignalProblem(
                "nearly silent",
                f"The audio is nearly silent: only {seconds:.2f} s exceed {AUDIBLE:.0f} dBFS.",
            )
        level = f"{10 * math.log10(self.loudest):.0f} dBFS" if self.loudest else "digital silence"
        return SignalProblem(
            "nearly silent", f"The audio is nearly silent (its loudest 20 ms are at {level})."
        )

    def _scale(self) -> SignalProblem | None:
        if self.peak <= LOUDEST:
            return None
        peak = f"{self.peak:,.0f}" if self.peak >= 100 else f"{self.peak:.3g}"
        return SignalProblem(
            "not at full scale 1",
            f"The samples reach {peak}, far beyond full scale 1: they look like integers "
            "stored as floats; divide them by their full scale.",
        )

    def _clipped(self) -> SignalProblem | None:
        # levels are measured from zero, which means nothing for a signal with a large offset
        if not self.peak or abs(self.total / self.samples) > OFF_CENTRE * self.peak:
            return None
        highest = _level(20 * math.log10(self.peak))
        active = int(self.levels[max(0, highest - round(ACTIVE / STEP)) :].sum())
        top = self.levels[max(0, highest - round(TOP / STEP)) : highest + 1]
        flat = int(np.convolve(top, np.ones(round(FLAT / STEP), np.int64)).max())
        if flat < CLIPPED * active or self._without_sound() is not None:
            return None
        share = flat / active
        return SignalProblem(
            "mostly clipped",
            f"{share:.0%} of the samples lie at the limit of the waveform: it is clipped beyond "
            "use, or is not speech.",
        )

    def _cancelled(self, channels_power: Sequence[float] | None) -> SignalProblem | None:
        powers = [] if channels_power is None else list(channels_power)
        mean = sum(powers) / max(1, len(powers))
        share = self.energy / self.samples / mean if mean else 1.0
        if len(powers) < 2 or share >= CANCELLED:
            return None
        return SignalProblem(
            CANCEL,
            f"The {len(powers)} channels cancel each other when they are mixed ({share:.1%} of "
            "their power is left); use one channel only.",
        )


def _level(decibel: float) -> int:
    return round((min(max(decibel, LEVELS[0]), LEVELS[1]) - LEVELS[0]) / STEP)
