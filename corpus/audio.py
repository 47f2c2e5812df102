"""Audio of one utterance as mono float32 at 16 kHz, from any file that can be decoded.

libsndfile reads wav, flac, mp3, ogg and their like; what it cannot open (m4a, mp4, webm, any
video) goes to FFmpeg through PyAV, where the extra `media` is installed. The length in a header is
a claim: a file is decoded to its end, every recording of a chain, and the decoded length is
compared with the claim afterwards. A segment is read by seeking where that gives the same samples,
so an hour-long podcast costs no more than its seconds in use; `blocks` reads all of it in bounded
memory. Channels are averaged; other rates are resampled with soxr HQ (about 100 dB of alias
rejection, hundreds of times real time). Nothing is kept between calls, so any thread may call
anything here. A clip that cannot be used raises `AudioError`, which callers list; one bad clip
harms no other.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr

from ser.corpus.decoding import ffmpeg, libsndfile
from ser.corpus.decoding.file import Block, Bytes, Part, Source, open_file
from ser.corpus.decoding.survey import survey
from ser.corpus.errors import AudioError
from ser.corpus.signal import CANCEL

SAMPLE_RATE = 16_000
NO_SAMPLES = "no samples between start and end"
SHORTEST = 0.025  # s; one analysis frame of the speech models

Recording = libsndfile.Recording | ffmpeg.Recording


@dataclass(frozen=True)
class AudioInfo:
    """The claims of a file's header; nothing has been decoded.

    `rate` in Hz and `channels` are within `RATES` and `CHANNELS`. `seconds` may be wrong, and is
    None where the header does not claim a length.
    """

    rate: int
    channels: int
    seconds: float | None


@dataclass
class ChannelPower:
    """The power of each channel before they are averaged, added up by `load` and `blocks`."""

    samples: int = 0
    _sums: np.ndarray | None = None

    def add(self, signal: np.ndarray) -> None:
        """Add `(samples, channels)`."""
        sums = np.einsum("ij,ij->j", signal, signal, dtype=np.float64)
        same = self._sums is not None and len(self._sums) == len(sums)
        self._sums = self._sums + sums if same and self._sums is not None else sums
        self.samples = self.samples + len(signal) if same else len(signal)

    @property
    def powers(self) -> list[float] | None:
        """Return the mean square of each channel, None before there is any."""
        if self._sums is None or not self.samples:
            return None
        return [float(power) for power in self._sums / self.samples]


def info(source: Source) -> AudioInfo:
    """Read the header of a file, which is cheap; raises `AudioError`."""
    with (
        _audio_errors(),
        _opened(source) as opened,
        closing(opened.recording(opened.parts[0])) as recording,
    ):
        seconds = recording.seconds if len(opened.parts) == 1 else None
        return AudioInfo(recording.rate, recording.channels, seconds)


def load(
    source: Source,
    start: float | None = None,
    end: float | None = None,
    channels: ChannelPower | None = None,
) -> np.ndarray:
    """Read one utterance: float32 `(samples,)`, mono, 16 kHz, full scale ±1.

    `source` is a path, or a binary file object that can seek. `start` and `end` are seconds within
    the file; None (or NaN) means the file's own bounds, and so does what is outside of them;
    `channels` is filled. Raises `AudioError` when nothing usable is there.
    """
    channels = ChannelPower() if channels is None else channels
    with _audio_errors():
        parts = list(_at_16_khz_parts(source, start, end, channels))
        mono = parts[0] if len(parts) == 1 else np.concatenate(parts)
    check_signal(mono, channels)
    return np.ascontiguousarray(mono)


def duration(source: Source) -> float:
    """Return the seconds that `load` reads of a whole file; raises `AudioError` where it does.

    Uncompressed audio is measured by its header; what is compressed is decoded.
    """
    samples: Counter[int] = Counter()
    with _audio_errors(), _opened(source) as opened:
        if len(opened.parts) == 1:
            with closing(opened.recording(opened.parts[0])) as recording:
                if recording.exact and recording.seconds:
                    return recording.seconds
        for rate, block in _all(opened):
            samples[rate] += len(block)
    if not samples:
        raise AudioError(NO_SAMPLES)
    return sum(count / rate for rate, count in samples.items())


def blocks(
    source: Source,
    seconds: float = 30.0,
    start: float | None = None,
    end: float | None = None,
    channels: ChannelPower | None = None,
) -> Iterator[np.ndarray]:
    """Yield a file in blocks of so many seconds, the last one shorter: the samples `load` gives.

    Memory holds two blocks, however long the file. The other arguments are those of `load`. Raises
    `AudioError`, of a damaged file after the blocks that could be read.
    """
    size = round(seconds * SAMPLE_RATE)
    pending: list[np.ndarray] = []
    with _audio_errors():
        for part in _at_16_khz_parts(source, start, end, channels):
            pending.append(part)
            if sum(map(len, pending)) >= size:
                whole = np.concatenate(pending)
                full = len(whole) // size * size
                yield from np.split(whole[:full], full // size)
                pending = [whole[full:]]
    last = np.concatenate(pending) if pending else np.empty(0, np.float32)
    if len(last):
        yield last


def at_16_khz(mono: np.ndarray, rate: int) -> np.ndarray:
    """Resample float32 `(samples,)` of a rate in Hz, all at once."""
    if rate == SAMPLE_RATE:
        return mono
    resampled: np.ndarray = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    return resampled


def check_signal(signal: np.ndarray, channels: ChannelPower | None = None) -> None:
    """Raise `AudioError` for `(samples,)` at 16 kHz that no model can make sense of.

    `channels` is what was averaged, where that is known.
    """
    _require_finite(signal)
    require_sound(len(signal), bool(signal.any()), channels)


def require_sound(samples: int, sound: bool, channels: ChannelPower | None = None) -> None:
    """Raise `AudioError` for fewer samples at 16 kHz than a model reads, or for silence.

    Silence may be what is left of `channels` that are opposed to each other.
    """
    if samples < SHORTEST * SAMPLE_RATE:
        raise AudioError("shorter than 25 ms")
    powers = (channels.powers if channels is not None else None) or []
    if not sound and len(powers) > 1 and any(powers):
        detail = f"the {len(powers)} channels are silent when they are mixed; use one channel only"
        raise AudioError(CANCEL, detail)
    if not sound:
        raise AudioError("silent", "all samples are zero")


def _require_finite(signal: np.ndarray) -> None:
    if not np.isfinite(signal).all():
        raise AudioError("contains NaN or infinite samples")


@contextmanager
def _audio_errors() -> Iterator[None]:
    """Raise `AudioError` for whatever decoding raises.

    The decoders raise exceptions of a dozen types for a damaged file, and none may end the work on
    all the other clips.
    """
    try:
        yield
    except AudioError:
        raise
    except Exception as error:
        raise AudioError("damaged", "its decoder stopped with an error") from error


class _Opened(NamedTuple):
    """A file, the recordings in it, and the suffix of its name."""

    file: BinaryIO
    data: Bytes
    parts: list[Part]
    suffix: str

    def recording(self, part: Part) -> Recording:
        """Open a part with libsndfile, or with FFmpeg if it is not one of its own."""
        try:
            return libsndfile.Recording(self.data, self.file, part)
        except soundfile.SoundFileError as error:
            return ffmpeg.Recording(self.file, part, self.suffix, error)


@contextmanager
def _opened(source: Source) -> Iterator[_Opened]:
    file = open_file(source)
    try:
        data, suffix = Bytes(file), ffmpeg.suffix_of(source)
        yield _Opened(file, data, survey(data, suffix), suffix)
    finally:
        if file is not source:
            file.close()


def _at_16_khz_parts(
    source: Source, start: float | None, end: float | None, channels: ChannelPower | None
) -> Iterator[np.ndarray]:
    """Yield what is between two times as it is decoded, mono at 16 kHz; raises `AudioError`."""
    samples = 0
    for rate, recording in groupby(_decoded(source, start, end), itemgetter(0)):
        resampler = None
        if rate != SAMPLE_RATE:
            resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, "float32", "HQ")
        for _, block in recording:
            samples += len(block)
            if channels is not None:
                channels.add(block)
            mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
            part = mono if resampler is None else resampler.resample_chunk(mono)
            _require_finite(part)
            yield part
        if resampler is not None:
            tail = resampler.resample_chunk(np.empty(0, np.float32), last=True)
            _require_finite(tail)
            yield tail
    if not samples:
        raise AudioError(NO_SAMPLES)


def _decoded(
    source: Source, start: float | None = None, end: float | None = None
) -> Iterator[Block]:
    """Yield the samples between two times as they are in the file."""
    first = 0.0 if start is None or np.isnan(start) else max(0.0, start)
    last = None if end is None or np.isnan(end) or end == np.inf else end
    if first == np.inf or (last is not None and last <= first):
        return
    with _opened(source) as opened:
        if first and len(opened.parts) == 1:
            with closing(opened.recording(opened.parts[0])) as recording:
                stop = None if last is None else round(last * recording.rate)
                span = recording.span(round(first * recording.rate), stop)
                if span is not None:
                    yield from span
                    return
        yield from _trimmed(_all(opened), first, last)


def _all(opened: _Opened) -> Iterator[Block]:
    """Yield the samples of one recording after the other."""
    waiting = list(reversed(opened.parts))
    while waiting:
        with closing(opened.recording(waiting.pop())) as recording:
            yield from recording.blocks()
            if recording.next is not None:
                waiting.append(recording.next)


def _trimmed(decoded: Iterator[Block], start: float, end: float | None) -> Iterator[Block]:
    """Yield what is between two times, in seconds, of a stream whose rate may change."""
    elapsed = 0.0  # seconds of the rates before
    for rate, recording in groupby(decoded, itemgetter(0)):
        samples, first = 0, round((start - elapsed) * rate)
        last = None if end is None else round((end - elapsed) * rate)
        for _, block in recording:
            stop = None if last is None else max(0, last - samples)
            part = block[max(0, first - samples) : stop]
            samples += len(block)
            if len(part):
                yield rate, part
            if last is not None and samples >= last:
                return
        elapsed += samples / rate
