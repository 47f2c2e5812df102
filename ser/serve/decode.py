"""Decode clips in a process of their own: `python -m ser.serve.decode`, started by `Decoders`.

The files of clients are opened only here, by a process that can be killed at any moment. The server
reads only its output: the clip as wav, mono float32 at 16 kHz, with the samples that `ser predict`
gets from the same file, and the envelope for the page. It reads one job per line, as JSON, and
answers each with a line.

The limits are on seconds, and on samples of all channels, as high rates and many channels take time
too. They are first compared with the header; then the file is decoded second by second up to the
limit, whatever the header claims.
"""

import json
import os
import resource
import signal
import sys
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from ser.corpus import audio
from ser.corpus.audio import SAMPLE_RATE
from ser.corpus.errors import AudioError
from ser.corpus.signal import CANCEL, SignalMeter

STEP = SAMPLE_RATE // 50  # samples per point of the envelope
DENSEST = 192_000  # most samples a second of all channels, on average over the longest clip
MEMORY = 3 << 30  # bytes of address space, most of which the libraries map
WAV, ENVELOPE = "decoded.wav", "envelope.npy"


@dataclass(frozen=True)
class Job:
    """A file to decode into a folder, its longest duration, and the time limit, in s."""

    path: str
    folder: str
    max_seconds: float
    timeout: float


@dataclass(frozen=True)
class Reply:
    """The seconds of a clip, or the status and the sentence of an error; `log` is for the server.

    422 is for files that are damaged or not audio: `error` is then only the reason. `notes` are
    about the channels, which the mono wav no longer has.
    """

    seconds: float = 0.0
    status: int = 200
    error: str = ""
    log: str = ""
    notes: list[str] = field(default_factory=list)


class TooLongError(Exception):
    """A clip is beyond the limits."""


def decode(job: Job) -> Reply:
    """Do a job; errors are part of the reply."""
    try:
        seconds, notes = _decode(Path(job.path), Path(job.folder), job.max_seconds)
        return Reply(seconds, notes=notes)
    except TooLongError as error:
        return Reply(status=413, error=str(error))
    except MemoryError:
        return Reply(
            status=413, error="decoding the audio takes too much memory; send a shorter clip."
        )
    except AudioError as error:
        return Reply(status=422, error=str(error))
    except Exception:
        return Reply(status=422, error="it cannot be decoded", log=traceback.format_exc())


def _decode(path: Path, folder: Path, max_seconds: float) -> tuple[float, list[str]]:
    claimed = audio.info(path)
    density = claimed.rate * claimed.channels
    most = min(max_seconds, max_seconds * DENSEST / density)
    if (claimed.seconds or 0.0) > most:
        raise _too_long(most, max_seconds, claimed)
    samples, parts = 0, [np.empty((0, 2), np.float32)]
    meter, channels = SignalMeter(), audio.ChannelPower()
    with soundfile.SoundFile(folder / WAV, "w", SAMPLE_RATE, 1, "FLOAT", format="WAV") as wav:
        for block in audio.blocks(path, 1.0, channels=channels):
            samples += len(block)
            if samples > most * SAMPLE_RATE:
                raise _too_long(most, max_seconds, claimed)
            parts.append(envelope(block))
            wav.write(block)
            meter.add(block)
    np.save(folder / ENVELOPE, np.concatenate(parts))
    notes = [p.sentence for p in meter.problems(channels.powers) if p.kind == CANCEL]
    return samples / SAMPLE_RATE, notes


def envelope(block: np.ndarray) -> np.ndarray:
    """Return the lowest and the highest sample of each 20 ms of `(samples,)`: `(points, 2)`."""
    starts = np.arange(0, len(block), STEP)
    return np.stack([np.minimum.reduceat(block, starts), np.maximum.reduceat(block, starts)], 1)


def _too_long(most: float, max_seconds: float, claimed: audio.AudioInfo) -> TooLongError:
    if most == max_seconds:
        return TooLongError(f"the audio is longer than {max_seconds:g} s; send a shorter piece.")
    return TooLongError(
        f"the audio is longer than {most:.2g} s, which is the limit for "
        f"{claimed.channels} channels at {claimed.rate} Hz; send a shorter piece, or one channel "
        "at 16000 Hz."
    )


def main() -> None:
    """Answer jobs until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output of libraries must not mix with the answers
    for line in sys.stdin:
        job = Job(**json.loads(line))
        signal.setitimer(signal.ITIMER_REAL, job.timeout)  # SIGALRM kills it if the server does not
        reply = decode(job)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(asdict(reply)), file=answers, flush=True)


if __name__ == "__main__":
    main()
