"""Audio of one utterance as mono float32 at 16 kHz, from any file that can be decoded.

libsndfile reads wav, flac, mp3, ogg and their like; what it cannot open (m4a, mp4, webm, any video)
goes to FFmpeg through PyAV, where the extra `media` is installed. A segment is read by seeking, so
an hour-long podcast costs no more than its seconds in use; `blocks` reads all of it in bounded
memory. Channels are averaged; other rates are resampled with soxr HQ (about 100 dB of alias
rejection, hundreds of times real time). Nothing is kept between calls, so any thread may call
anything here. A clip that cannot be used raises `AudioError`, which callers list; one bad clip
harms no other.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000
SHORTEST = 0.025  # s; one analysis frame of the speech models
CUT_SHORT = 0.1  # s; what a whole mp3 may lack of the length that its header says
MEDIA = (".m4a", ".mp4", ".m4v", ".aac", ".mov", ".mkv", ".webm", ".wma", ".avi", ".3gp", ".amr")
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", *MEDIA)
# FFmpeg's other readers include playlists (HLS, DASH, concat), which open the files they name
CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,"
    "ogg,opus,tta,w64,wav,wv"
)
RATES = (1_000, 768_000)  # Hz; a second is read at a time, so a rate of gigahertz is a bomb
CHANNELS = 32
NOT_OPENED = (soundfile.SoundFileError, TypeError)


class AudioError(Exception):
    """Say why one clip cannot be used: `problem` is the kind, `detail` its particulars."""

    def __init__(self, problem: str, detail: str = "") -> None:
        super().__init__(f"{problem} ({detail})" if detail else problem)
        self.problem = problem
        self.detail = detail


def load(path: str | Path, start: float | None = None, end: float | None = None) -> np.ndarray:
    """Read one utterance: float32 `(samples,)`, mono, 16 kHz, full scale ±1.

    `start` and `end` are seconds within the file; None means the file's own bounds, and an `end`
    behind the file's means the file's. Raises `AudioError` when nothing usable is there.
    """
    path = _existing(path)
    try:
        file = _opened(path)
    except NOT_OPENED as error:
        with closing(_Media(path, error)) as media:
            rate, mono = media.rate, media.read(start, end)
    else:
        with file:
            rate, mono = file.samplerate, _read(file, start, end)
    mono = at_16_khz(mono, rate)
    check_signal(mono)
    return np.ascontiguousarray(mono)


def duration(path: str | Path) -> float:
    """Return the seconds of a file from its header alone; raises `AudioError`."""
    path = _existing(path)
    try:
        file = _opened(path)
    except NOT_OPENED as error:
        with closing(_Media(path, error)) as media:
            return media.duration()
    with file:
        return float(file.frames / file.samplerate)


def blocks(path: str | Path, seconds: float = 30.0) -> Iterator[np.ndarray]:
    """Yield a whole file in blocks of so many seconds, the last one shorter: as `load` gives them.

    Memory holds two blocks, however long the file. Raises `AudioError`, of a damaged file after the
    blocks that could be read.
    """
    path, size = _existing(path), round(seconds * SAMPLE_RATE)
    try:
        source: Any = _opened(path)
    except NOT_OPENED as error:
        source = _Media(path, error)
    with closing(source):
        media = isinstance(source, _Media)
        rate, parts = (
            (source.rate, source.parts()) if media else (source.samplerate, _parts(source))
        )
        held: list[np.ndarray] = []
        for part in parts if rate == SAMPLE_RATE else _resampled(parts, rate):
            if not np.isfinite(part).all():
                raise AudioError("contains NaN or infinite samples")
            held.append(part)
            if sum(map(len, held)) >= size:
                whole = np.concatenate(held)
                full = len(whole) // size * size
                yield from np.split(whole[:full], full // size)
                held = [whole[full:]]
        rest = np.concatenate(held) if held else np.empty(0, np.float32)
        if len(rest):
            yield rest


def at_16_khz(mono: np.ndarray, rate: int) -> np.ndarray:
    """Resample float32 `(samples,)` of a rate in Hz, all at once."""
    if rate == SAMPLE_RATE:
        return mono
    resampled: np.ndarray = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    return resampled


def check_signal(signal: np.ndarray) -> None:
    """Raise `AudioError` for `(samples,)` at 16 kHz that no model can make sense of."""
    if not np.isfinite(signal).all():
        raise AudioError("contains NaN or infinite samples")
    if len(signal) < SHORTEST * SAMPLE_RATE:
        raise AudioError("shorter than 25 ms")
    if not signal.any():
        raise AudioError("silent", "all samples are zero")


def _opened(path: Path) -> soundfile.SoundFile:
    """Open a file with libsndfile; raises one of `NOT_OPENED` for a file that is not its own."""
    file = soundfile.SoundFile(path)
    if RATES[0] <= file.samplerate <= RATES[1] and file.channels <= CHANNELS:
        return file
    file.close()
    raise AudioError("not audio", f"{file.samplerate} Hz and {file.channels} channels")


def _read(file: soundfile.SoundFile, start: float | None, end: float | None) -> np.ndarray:
    rate = file.samplerate
    first = round((start or 0.0) * rate)
    last = file.frames if end is None else min(round(end * rate), file.frames)
    if first >= last:
        raise AudioError("no samples between start and end")
    try:
        file.seek(first)
        signal = file.read(last - first, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise _not_audio(error) from error
    _require_whole(first + len(signal), last, rate)
    return _mono(signal)


def _parts(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Yield a whole file a second at a time, mono at its own rate."""
    read = 0
    try:
        while len(signal := file.read(file.samplerate, dtype="float32", always_2d=True)):
            read += len(signal)
            yield _mono(signal)
    except soundfile.SoundFileError as error:
        raise _not_audio(error) from error
    _require_whole(read, file.frames, file.samplerate)


def _require_whole(read: int, said: int, rate: int) -> None:
    if read < said - CUT_SHORT * rate:
        raise AudioError("cut short", f"{read / rate:.1f} s of the {said / rate:.1f} s it says")


def _mono(signal: np.ndarray) -> np.ndarray:
    """Average `(samples, channels)`."""
    mono: np.ndarray = signal[:, 0] if signal.shape[1] == 1 else signal.mean(axis=1)
    return mono


def _resampled(parts: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for part in parts:
        yield stream.resample_chunk(part)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


class _Media:
    """Read the first audio stream of a file by FFmpeg; `error` is why libsndfile could not.

    Raises `AudioError` for what FFmpeg cannot read either, and where PyAV is not installed.
    """

    def __init__(self, path: Path, error: Exception) -> None:
        try:
            import av
        except ModuleNotFoundError:
            if path.suffix.lower() not in MEDIA:
                raise _not_audio(error) from error
            raise AudioError(f"{path.suffix} files need `pip install 'ser[media]'`") from error
        self._av = av
        try:
            self._file = av.open(path, options={"format_whitelist": CONTAINERS})
        except (av.FFmpegError, OSError, ValueError) as refused:
            raise _not_audio(error) from refused
        if not self._file.streams.audio:
            self._file.close()
            if path.suffix.lower() not in MEDIA:  # FFmpeg takes a text for a picture
                raise _not_audio(error)
            raise AudioError("not audio", "there is no audio stream in it")
        self._stream = self._file.streams.audio[0]
        self.rate = int(self._stream.rate)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def duration(self) -> float:
        """Return the seconds that the header says, or when it says none, those there are."""
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        if self._file.duration:
            return float(self._file.duration / self._av.time_base)
        return sum(map(len, self.parts())) / self.rate

    def parts(self) -> Iterator[np.ndarray]:
        """Yield the stream as it is decoded, mono float32 at its own rate."""
        planar = self._av.AudioResampler(format="fltp")
        try:
            for frame in self._file.decode(self._stream):
                for part in planar.resample(frame):
                    yield _mono(part.to_ndarray().T)
        except (self._av.FFmpegError, OSError) as error:
            raise AudioError("damaged", str(error)) from error

    def read(self, start: float | None, end: float | None) -> np.ndarray:
        """Return what is between start and end, which is decoded from the beginning."""
        first = round((start or 0.0) * self.rate)
        last = None if end is None else round(end * self.rate)
        found, samples = [np.empty(0, np.float32)], 0
        for part in self.parts():
            found.append(part[max(0, first - samples) :])
            samples += len(part)
            if last is not None and samples >= last:
                break
        kept = np.concatenate(found)[: None if last is None else max(0, last - first)]
        if not len(kept):
            raise AudioError("no samples between start and end")
        return kept


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise AudioError("no such file")
    if path.stat().st_size == 0:
        raise AudioError("empty file", "0 bytes")
    return path


def _not_audio(error: Exception) -> AudioError:
    # soundfile asks for rate and channels of headerless files (.raw) with a TypeError.
    if isinstance(error, TypeError):
        return AudioError("not audio", "no header")
    reason = getattr(error, "error_string", None) or str(error)
    return AudioError("not audio", reason.strip().rstrip("."))
