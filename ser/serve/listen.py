"""A look at a clip before it may wait for the models: that it is audio, and how long.

It is decoded by blocks of 5 s up to the limit, whatever its header says: a flac of one megabyte can
hold a week of silence. That costs a few milliseconds, as decoding is hundreds of times faster than
real time, and memory never holds more than the blocks. The file is read again for the prediction,
by the code that `ser predict` uses.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from corpus import audio
from corpus.audio import SAMPLE_RATE
from ser.serve.limits import Refused

STEP = SAMPLE_RATE // 50  # samples that one point of the envelope stands for


@dataclass(frozen=True)
class Heard:
    """Hold the seconds of a clip and its envelope `(points, 2)`: lowest, highest of each 20 ms."""

    seconds: float
    envelope: np.ndarray


def listen(path: Path, max_seconds: float) -> Heard:
    """Decode a clip once; raises `AudioError` for what is none, `Refused` for one too long."""
    too_long = Refused(413, f"the audio is longer than {max_seconds:g} s; send a shorter piece.")
    if _header_seconds(path) > max_seconds:
        raise too_long
    samples, parts = 0, [np.empty((0, 2), np.float32)]
    for block in audio.blocks(path, 5.0):
        samples += len(block)
        if samples > max_seconds * SAMPLE_RATE:
            raise too_long
        starts = np.arange(0, len(block), STEP)
        ends = np.minimum.reduceat(block, starts), np.maximum.reduceat(block, starts)
        parts.append(np.stack(ends, axis=1))
    return Heard(samples / SAMPLE_RATE, np.concatenate(parts))


def _header_seconds(path: Path) -> float:
    """Return what libsndfile reads in the header, 0 of a file that is FFmpeg's."""
    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, TypeError):
        return 0.0
    return float(info.frames / info.samplerate)
