"""Augmented views: copies of the training clips, each changed in one way, under the same ids.

noise    coloured Gaussian noise, its power spectrum ~ 1/f^exponent, at a drawn SNR
reverb   a synthetic room: the direct sound and an exponentially decaying tail
speed    played faster or slower, pitch and tempo together
mix      another speaker's training clip in the background, at a drawn SNR

A view is extracted once into a folder of its own; a head then draws an utterance clean or from a
view, so an epoch costs no more than without, and N views cost N more extractions.

Everything drawn depends only on (seed, view, utterance) through BLAKE2, not on order, thread or
process: a resumed run and any worker give the same samples. (numpy may change its Gaussian stream
between releases; such clips differ in their noise, and are as good.) That is also why
audiomentations is not used: it draws from the process-wide `random`, which decoding threads share,
holds soxr below 1.0, and brings numba. SNR is over the whole clip, pauses included.
"""

import itertools
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import soxr
from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, ValidationError

from ser.corpus.audio import SAMPLE_RATE, SHORTEST
from ser.corpus.config import Section, correction
from ser.corpus.errors import AudioError, UserError, nearest
from ser.corpus.other_speakers import OtherSpeakers, stable_hash

TRIES = 8  # backgrounds that may be unreadable before a clip is given up
LOWEST = 50.0  # Hz; below it coloured noise is flat, or pink would be mostly inaudible rumble
GAP = 0.0025  # s between the direct sound and the first of the tail

Span = tuple[float, float]  # drawn from uniformly
Wave = np.ndarray  # `(samples,)` at 16 kHz
Random = np.random.Generator
Load = Callable[[str], Wave]
Background = Callable[[], Wave]


def _between(lowest: float, highest: float) -> AfterValidator:
    """Return a validator of spans; it refuses NaN."""

    def check(span: Span) -> Span:
        if not lowest <= span[0] <= span[1] <= highest:
            raise ValueError(f"it must be two numbers from {lowest} to {highest}, in order")
        return span

    return AfterValidator(check)


class View(Section):
    """The options of one view; each kind adds its own.

    To add one: subclass, implement `change`, and enter it in `VIEWS`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1  # raise it when a change of code changes the samples

    seed: int = Field(default=7, ge=-(2**31), lt=2**31)

    def spec(self) -> dict[str, object]:
        """Return what the samples depend on, as plain values, without options at their default.

        So a new option whose default is the earlier behaviour leaves every cache valid.
        """
        options = self.model_dump(mode="json", exclude={"seed"}, exclude_defaults=True)
        return {"view": self.name, "version": self.version, "seed": self.seed, **options}

    def samples(self, utterance: str, before: int) -> int:
        """Return the number of samples that `apply` returns for a clip of `before` samples."""
        return before

    def partner(self, utterance: str, others: OtherSpeakers) -> str | None:
        """Return the utterance whose audio is mixed into the result, if any.

        Raises `UserError` when there is no other speaker.
        """
        return None

    def apply(self, utterance: str, wave: Wave, load: Load, others: OtherSpeakers) -> Wave:
        """Change one clip, float32 `(samples,)` at 16 kHz; returns the same kind within ±1.

        A result beyond full scale is scaled down as a whole; silence stays silence.
        `load` reads another training utterance, which only `mix` does: it raises `ValueError` when
        none of those it tries can be read, and `UserError` when there is no other speaker.
        """
        random = self._random(utterance)
        background = partial(self._background, utterance, load, others)
        changed = self.change(wave.astype(np.float64), random, background)
        loudest = np.abs(changed).max(initial=0.0)
        safe: Wave = (changed / max(loudest, 1.0)).astype(np.float32)
        return safe

    @abstractmethod
    def change(self, wave: Wave, random: Random, background: Background) -> Wave:
        """Return the clip changed: float64 `(samples,)` in and out, of any loudness."""

    def _random(self, utterance: str) -> Random:
        return np.random.default_rng(stable_hash(self.seed, self.name, utterance))

    def _background(self, utterance: str, load: Load, others: OtherSpeakers) -> Wave:
        """Return the first background that can be read; a bad clip is reported elsewhere."""
        candidates = itertools.islice(others.draw(utterance, self.seed), TRIES)
        problem = ""
        for other in candidates:
            try:
                return load(other)
            except (AudioError, ValueError) as error:
                problem = problem or str(error)
        if problem:
            raise ValueError(f"none of the backgrounds tried can be read (first: {problem})")
        raise _no_other(utterance)


class Noise(View):
    """Add noise with a power spectrum ~ 1/f^exponent: 0 is white, 1 pink, 2 brown.

    White Gaussian noise is shaped in the frequency domain (Timmer and Koenig 1995).
    """

    name: ClassVar[str] = "noise"

    snr: Annotated[Span, _between(-20, 60)] = (5.0, 20.0)  # dB
    exponent: Annotated[Span, _between(0, 2)] = (0.0, 1.0)

    def change(self, wave: Wave, random: Random, background: Background) -> Wave:
        """Add noise at an SNR and of a colour drawn uniformly."""
        snr, exponent = random.uniform(*self.snr), random.uniform(*self.exponent)
        size = _next_power_of_two(len(wave))
        frequency = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), LOWEST)
        spectrum = np.fft.rfft(random.standard_normal(size)) * frequency ** (-exponent / 2)
        return _add(wave, np.fft.irfft(spectrum, size)[: len(wave)], snr)


class Reverb(View):
    """Add the tail of a room: Gaussian noise that decays by 60 dB in `rt60` (Polack 1988).

    No geometry and no colour, so no room in particular; the direct sound stays where it was and
    as loud as it was, so frames keep their times.
    """

    name: ClassVar[str] = "reverb"

    rt60: Annotated[Span, _between(0.05, 5)] = (0.2, 0.8)  # s
    drr: Annotated[Span, _between(-10, 40)] = (0.0, 12.0)  # dB, direct to reverberant

    def change(self, wave: Wave, random: Random, background: Background) -> Wave:
        """Convolve with a room drawn for this clip; what rings on behind its end is cut."""
        response = self.response(random)
        size = _next_power_of_two(len(wave) + len(response))
        spectrum = np.fft.rfft(wave, size) * np.fft.rfft(response, size)
        reverberant: Wave = np.fft.irfft(spectrum, size)[: len(wave)]
        return reverberant

    def response(self, random: Random) -> Wave:
        """Draw an impulse response: float64 `(taps,)`, the direct sound a 1 at its start."""
        rt60, drr = random.uniform(*self.rt60), random.uniform(*self.drr)
        time = np.arange(round(rt60 * SAMPLE_RATE)) / SAMPLE_RATE
        tail = random.standard_normal(len(time)) * 10 ** (-3 * time / rt60)
        tail[time < GAP] = 0.0
        tail *= 10 ** (-drr / 20) / _norm(tail)
        tail[0] = 1.0
        return tail


class Speed(View):
    """Play at one of some rates, pitch and tempo changed together (Ko et al. 2015).

    Nothing is made shorter than the 25 ms that models need; zeros fill it up.
    """

    name: ClassVar[str] = "speed"

    rates: tuple[Annotated[float, Field(ge=0.5, le=2)], ...] = Field(
        (0.9, 1.1), min_length=1, max_length=100
    )

    def samples(self, utterance: str, before: int) -> int:
        """Return round(before / rate), or 25 ms where that is shorter."""
        return self._samples(before, self._rate(self._random(utterance)))

    def change(self, wave: Wave, random: Random, background: Background) -> Wave:
        """Resample as if the clip had been recorded at `rate` times its sample rate."""
        rate = self._rate(random)
        count = self._samples(len(wave), rate)
        played = soxr.resample(wave, rate * SAMPLE_RATE, SAMPLE_RATE, quality="HQ")[:count]
        return np.pad(played, (0, count - len(played)))

    def _rate(self, random: Random) -> float:
        return self.rates[random.integers(len(self.rates))]

    @staticmethod
    def _samples(before: int, rate: float) -> int:
        return max(round(before / rate), min(before, round(SHORTEST * SAMPLE_RATE)))


class Mix(View):
    """Put a training clip of another speaker into the background, at a drawn SNR.

    A longer one is cut at a drawn place, a shorter one repeated.
    """

    name: ClassVar[str] = "mix"

    snr: Annotated[Span, _between(-20, 60)] = (10.0, 20.0)  # dB

    def partner(self, utterance: str, others: OtherSpeakers) -> str | None:
        """Name the utterance in the background; raises `UserError` without another speaker."""
        first = next(others.draw(utterance, self.seed), None)
        if first is None:
            raise _no_other(utterance)
        return first

    def change(self, wave: Wave, random: Random, background: Background) -> Wave:
        """Add the background at an SNR drawn uniformly."""
        snr, place = random.uniform(*self.snr), random.random()
        behind = background().astype(np.float64)
        start = round(place * max(0, len(behind) - len(wave)))
        return _add(wave, np.resize(behind[start:], len(wave)), snr)


VIEWS: dict[str, type[View]] = {view.name: view for view in (Noise, Reverb, Speed, Mix)}


def parse_views(section: Mapping[str, object]) -> dict[str, View]:
    """Check `augment: {view: options}`; returns the views by name, in the order of the file.

    Raises `UserError` that names the first wrong key.
    """
    if not isinstance(section, Mapping):
        raise UserError(f"augment: it must be a mapping of views; choose from {', '.join(VIEWS)}.")
    views = {}
    for name, options in section.items():
        if name not in VIEWS:
            raise UserError(f"augment: the view '{name}' is unknown; {nearest(str(name), VIEWS)}")
        if not isinstance(options, Mapping | None):
            raise UserError(
                f"augment.{name}: it must be a mapping of options; write `{name}: {{}}` for the "
                "defaults."
            )
        try:
            views[name] = VIEWS[name].model_validate(options or {})
        except ValidationError as error:
            raise _wrong(VIEWS[name], error) from error
    return views


# the field `augment` of a config: each view is dumped with the options of its own class
Views = Annotated[dict[str, SerializeAsAny[View]], BeforeValidator(parse_views)]


def _wrong(view: type[View], error: ValidationError) -> UserError:
    first = error.errors()[0]
    key = first["loc"][0]
    if first["type"] == "extra_forbidden":
        hint = nearest(str(key), view.model_fields)
        return UserError(f"augment.{view.name}.{key}: unknown key; {hint}")
    return UserError(f"augment.{view.name}.{key}: {correction(first)}")


def _no_other(utterance: str) -> UserError:
    return UserError(
        f"augment.mix: the training split has no speaker other than that of '{utterance}'; name "
        "the speakers in the manifest, or leave `mix` out."
    )


def _add(wave: Wave, noise: Wave, snr: float) -> Wave:
    """Add `noise` at `snr` dB below `wave`; returns `wave` where either is silent."""
    loud, quiet = _norm(wave), _norm(noise)
    if not loud or not quiet:
        return wave
    mixed: Wave = wave + noise * (loud / quiet * 10 ** (-snr / 20))
    return mixed


def _norm(wave: Wave) -> float:
    # not np.linalg.norm: its last bit changes with the number of BLAS threads
    return float(np.sqrt(np.square(wave).sum()))


def _next_power_of_two(samples: int) -> int:
    return 1 << max(samples - 1, 1).bit_length()
