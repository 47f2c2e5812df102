"""Audio of one utterance: any file libsndfile reads, as mono float32 at 16 kHz.

A segment is read by seeking, so an hour-long podcast costs no more than its seconds in use.
Channels are averaged; other rates are resampled with soxr HQ (about 100 dB of alias rejection,
hundreds of times real time). Nothing is kept between calls, so any thread may call anything here.
A clip that cannot be used raises `AudioError`, which callers list; one bad clip harms no other.
"""

from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000
SHORTEST = 0.025  # s; one analysis frame of the speech models


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
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            first = round((start or 0.0) * rate)
            last = file.frames if end is None else min(round(end * rate), file.frames)
            if first >= last:
                raise AudioError("no samples between start and end")
            file.seek(first)
            signal = file.read(last - first, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, TypeError) as error:
        raise _not_audio(error) from error
    mono = signal[:, 0] if signal.shape[1] == 1 else signal.mean(axis=1)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    check_signal(mono)
    return np.ascontiguousarray(mono)


def duration(path: str | Path) -> float:
    """Return the seconds of a file from its header alone; raises `AudioError`."""
    path = _existing(path)
    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, TypeError) as error:
        raise _not_audio(error) from error
    return float(info.frames / info.samplerate)


def check_signal(signal: np.ndarray) -> None:
    """Raise `AudioError` for `(samples,)` at 16 kHz that no model can make sense of."""
    if not np.isfinite(signal).all():
        raise AudioError("contains NaN or infinite samples")
    if len(signal) < SHORTEST * SAMPLE_RATE:
        raise AudioError("shorter than 25 ms")
    if not signal.any():
        raise AudioError("silent", "all samples are zero")


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
