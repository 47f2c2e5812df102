"""Prosody: our own 16 values at 100 Hz, openSMILE's 25 at 100 Hz, FACodec's 512 at 80 Hz.

`kind: prosody` (numpy, no licence strings):

    0     voicing: peak of the normalised autocorrelation, 0-1
    1     log2 F0 relative to 100 Hz (octaves) where voicing is over 0.45, else 0
    2     log energy (natural log of the mean square)
    3     spectral centroid, kHz
    4     spectral flux: distance of this frame's normalised spectrum to the last one's
    5     slope: log energy below 1 kHz minus log energy above
    6, 7  zero-crossing rate (per sample); share of energy over 4 kHz
    8-15  the same eight, as differences over 5 frames

F0 is the autocorrelation of a 40 ms Hann window divided by the window's own (Boersma 1993,
"Accurate short-term analysis of the fundamental frequency"), each frame by itself, no path finding.

`values: pitch` is F0 alone, as the whole number of its step: the steps 1 to 255 are equally wide in
mel = 1127 ln(1 + F0 / 700), from 50 to 1,100 Hz, and unvoiced frames are in step 1 (the UFG entry
of 2025, which takes F0 of RMVPE at 50 Hz).

`kind: opensmile`: the eGeMAPSv02 low-level descriptors (Eyben et al. 2016, "The Geneva Minimalistic
Acoustic Parameter Set"), of samples clipped to the full scale of 16 bits: the package casts them to
int16, where speech that overshoots would wrap around. openSMILE comes under audEERING's research
licence: an extra, no default.

`kind: facodec`: NaturalSpeech 3's FACodec v2, quantized prosody beside timbre frames. The clip is
padded with zeros to the next multiple of 200 samples, by a whole frame where it is one already, as
the published extraction does; `samples // 200 + 1` frames come out. Neither the convolutions (each
repeats the edge that it sees) nor the attention take a mask, so only clips of one padded length
share a batch.
"""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ser.corpus.errors import UserError
from ser.corpus.machine import cores
from ser.extract.encoding import EncoderExtractor
from ser.extract.extractor import SAMPLE_RATE, Extractor, FeatureOptions, extractor
from ser.version import install

if TYPE_CHECKING:
    from ser.extract.kinds.facodec_weights import FacodecEncoder

HOP = 160
WINDOW = 640
FFT = 2048
F0_HZ = (60.0, 500.0)
VOICED = 0.45
PITCH_HZ = (50.0, 1100.0)
PITCH_STEPS = 255
MOST_AT_ONCE = 4  # batches: numpy's transforms run in as many threads
SILENCE = 1e-10  # mean square that log energy bottoms out at
FACODEC_HOP = 200
FACODEC_SHORTEST = 2 * FACODEC_HOP  # the mel's edges reflect 412 samples: 600 have them, 400 not


class ProsodyOptions(FeatureOptions):
    """Options of `kind: prosody`: all sixteen values, or the step of the pitch alone."""

    values: Literal["all", "pitch"] = "all"


@extractor("prosody")
class Prosody(Extractor):
    """Compute the sixteen values every 10 ms, in numpy."""

    Options: ClassVar[type[FeatureOptions]] = ProsodyOptions
    item_shape = (16,)
    frame_rate = SAMPLE_RATE / HOP

    def load(self, device: str) -> None:
        """Prepare the window; there is no model."""
        self.batches_at_once = min(cores(), MOST_AT_ONCE)
        if self.options.values == "pitch":
            self.item_shape = (1,)
        self._window = np.hanning(WINDOW)
        power = np.abs(np.fft.rfft(self._window, FFT)) ** 2
        self._own = np.fft.irfft(power)[: WINDOW // 2 + 1]
        self._own /= self._own[0]

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return `max(1, ceil(samples / 160))` frames of each waveform."""
        frames = [self._frames(np.asarray(wave, np.float64)) for wave in batch]
        return frames if self.options.values == "all" else [_pitch_steps(rows) for rows in frames]

    def _frames(self, wave: np.ndarray) -> np.ndarray:
        framed = frames_of(wave, WINDOW)
        framed = framed - framed.mean(axis=1, keepdims=True)
        spectrum = np.abs(np.fft.rfft(framed * self._window, FFT)) ** 2
        voicing, octaves = self._pitch(spectrum)
        hertz = np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE)
        total = spectrum.sum(axis=1) + SILENCE
        shape = spectrum / total[:, None]
        low, high = spectrum[:, hertz < 1000].sum(axis=1), spectrum[:, hertz >= 1000].sum(axis=1)
        crossings = np.abs(np.diff(np.signbit(framed).astype(np.int8), axis=1)).mean(axis=1)
        flux = np.sqrt((np.diff(np.sqrt(shape), axis=0, prepend=np.sqrt(shape[:1])) ** 2).sum(1))
        values = np.stack(
            [
                voicing,
                octaves,
                np.log((framed**2).mean(axis=1) + SILENCE),
                shape @ hertz / 1000,
                flux,
                np.log(low + SILENCE) - np.log(high + SILENCE),
                crossings,
                shape[:, hertz >= 4000].sum(axis=1),
            ],
            axis=1,
        )
        return np.hstack([values, _slope(values)]).astype(np.float32)

    def _pitch(self, spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        correlation = np.fft.irfft(spectrum, axis=1)[:, : WINDOW // 2 + 1]
        correlation = correlation / (correlation[:, :1] + SILENCE) / self._own
        shortest, longest = (int(SAMPLE_RATE / hz) for hz in reversed(F0_HZ))
        lags = correlation[:, shortest : longest + 1]
        # a small bonus for short lags keeps the octave below from winning ties
        lags = lags - 0.02 * np.log2(np.arange(shortest, longest + 1) / shortest)
        best = lags.argmax(axis=1)
        voicing = np.clip(lags[np.arange(len(lags)), best], 0, 1)
        octaves = np.log2(SAMPLE_RATE / (best + shortest) / 100)
        return voicing, np.where(voicing > VOICED, octaves, 0.0)


def frames_of(wave: np.ndarray, window: int) -> np.ndarray:
    """Return a view of a waveform as frames `(max(1, ceil(samples / 160)), window)`.

    Each is centred on its time; zeros surround the waveform.
    """
    count = max(1, -(-len(wave) // HOP))
    padded = np.pad(wave, (window // 2, window // 2 + HOP))
    return np.lib.stride_tricks.sliding_window_view(padded, window)[: count * HOP : HOP]


def _pitch_steps(frames: np.ndarray) -> np.ndarray:
    """Return the step of F0 `(frames, 1)` float32, whole numbers from 1 to `PITCH_STEPS`."""
    voiced = frames[:, 0] > VOICED
    hertz = np.where(voiced, 100 * 2.0 ** frames[:, 1], PITCH_HZ[0])
    low, high = (_mel(np.float64(edge)) for edge in PITCH_HZ)
    steps = np.rint(1 + (_mel(hertz) - low) * (PITCH_STEPS - 1) / (high - low))
    return np.clip(steps, 1, PITCH_STEPS)[:, None].astype(np.float32)


def _mel(hertz: np.ndarray | np.float64) -> np.ndarray | np.float64:
    return 1127 * np.log(1 + hertz / 700)


def _slope(values: np.ndarray) -> np.ndarray:
    """Return the regression slope over five frames, the edges held."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    slope: np.ndarray = (padded[3:-1] - padded[1:-3] + 2 * (padded[4:] - padded[:-4])) / 10
    return slope


FULL_SCALE = np.float32(32767 / 32768)  # the largest sample of 16 bits


@extractor("opensmile")
class Opensmile(Extractor):
    """Extract the 25 low-level descriptors every 10 ms."""

    version = 2  # 1 let samples beyond full scale wrap around
    item_shape = (25,)
    frame_rate = 100.0

    def load(self, device: str) -> None:
        """Load openSMILE, which runs on the CPU whatever the device."""
        try:
            import opensmile
        except ImportError as error:
            raise UserError(
                f"kind opensmile: the package is not installed; run `{install('opensmile')}` "
                "(audEERING's research licence) or use `kind: prosody`."
            ) from error
        self._smile = opensmile.Smile(
            feature_set=opensmile.FeatureSet.eGeMAPSv02,
            feature_level=opensmile.FeatureLevel.LowLevelDescriptors,
        )

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return `samples // 160 - 4` frames of each waveform; 50 ms or less is a `ValueError`."""
        results = []
        for wave in batch:
            wave = np.clip(wave, -1.0, FULL_SCALE)  # noqa: PLW2901
            frames = self._smile.process_signal(wave, SAMPLE_RATE).to_numpy(np.float32)
            if np.isnan(frames).any():
                raise ValueError("openSMILE needs more than 50 ms of audio")
            results.append(frames)
        return results


class FacodecOptions(FeatureOptions):
    """Options of `kind: facodec`; `model` is its short name, hub id, or a folder.

    `parts: prosody` leaves the timbre frames out.
    """

    model: str = "facodec"
    parts: Literal["prosody+speaker", "prosody"] = "prosody+speaker"


@extractor("facodec")
class Facodec(EncoderExtractor):
    """Extract quantized prosody (256), beside timbre-encoder frames (256) by default.

    A clip has `samples // 200 + 1` frames.
    """

    Options: ClassVar[type[FeatureOptions]] = FacodecOptions
    item_shape = (512,)
    frame_rate = SAMPLE_RATE / FACODEC_HOP

    def build_encoder(self, device: str, trained: bool = False) -> "FacodecEncoder":
        """Load the two official files, in fp32 on any device."""
        from ser.extract.kinds.facodec_weights import FacodecEncoder

        width = 256 if self.options.parts == "prosody" else 512
        return FacodecEncoder(self.folder, width).to(device)

    def batch_key(self, size: int) -> Hashable:
        """Return the padded length."""
        return facodec_length(size)

    def cost(self, size: int) -> float:
        """Return the frames."""
        return facodec_length(size) / FACODEC_HOP


def facodec_length(samples: int) -> int:
    """Return the length that a clip is padded to."""
    return (samples // FACODEC_HOP + 1) * FACODEC_HOP
