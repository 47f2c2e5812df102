"""Speech in a stream of audio, cut at its pauses.

For every 32 ms silero-vad (Silero Team 2024) gives a probability of speech. A part begins where it
reaches 0.5 and ends where it stays below 0.35 for 0.3 s; it keeps 0.1 s on both sides, is dropped
when its speech is under 0.25 s, and cut at the lowest probability when it reaches 15 s.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

import numpy as np

from ser.corpus.audio import SAMPLE_RATE

CHUNK = 512  # samples that silero-vad reads at a time
_LOADING = Lock()
SPEECH, SILENCE = 0.5, 0.35
PAUSE, PAD = 10, 3  # chunks: 0.3 s and 0.1 s
SHORT, LONG = 8, 15 * SAMPLE_RATE // CHUNK  # chunks: 0.25 s and 15 s


def speech_parts(blocks: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray, None]]:
    """Yield first sample and samples of the parts of a stream that hold speech.

    `blocks` are samples at 16 kHz; who speaks is not known.
    """
    detect = _speech_detector()
    buffer, start, speech = np.empty(0, np.float32), 0, np.empty(0)
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        speech = np.concatenate([speech, detect(buffer[len(speech) * CHUNK :])])
        spans, rest = speech_spans(speech)
        yield from ((start + a * CHUNK, buffer[a * CHUNK : b * CHUNK], None) for a, b in spans)
        buffer, speech, start = buffer[rest * CHUNK :], speech[rest:], start + rest * CHUNK
    spans, _ = speech_spans(np.concatenate([speech, np.zeros(PAUSE)]))
    yield from ((start + a * CHUNK, buffer[a * CHUNK : b * CHUNK], None) for a, b in spans)


def speech_spans(speech: np.ndarray) -> tuple[list[tuple[int, int]], int]:
    """Return the spans of speech that have ended, in chunks, and where to go on from.

    `speech` is the probability of speech in each chunk.
    """
    spans: list[tuple[int, int]] = []
    begun, last = -1, -1  # of the speech that has not ended: first chunk, last that held speech
    floor = 0  # no span begins before
    for i, probability in enumerate(speech):
        if begun < 0 and probability >= SPEECH:
            begun, last = i, i
        elif begun >= 0 and probability >= SILENCE:
            last = i
        if begun < 0:
            continue
        if i - last >= PAUSE:
            if last + 1 - begun >= SHORT:
                spans.append((max(floor, begun - PAD), last + 1 + PAD))
            floor, begun = last + 1 + PAD, -1
        elif i + 1 - begun >= LONG:
            middle = begun + LONG // 2
            at = middle + int(np.argmin(speech[middle : i + 1]))
            spans.append((max(floor, begun - PAD), at))
            floor, begun = at, at
    open_from = begun if begun >= 0 else len(speech)
    return spans, max(floor, open_from - PAD, 0)


@cache
def silero() -> Path | None:
    """Return the model's file in its package, None where that is not installed.

    The package is not imported: that would set the threads of torch for the whole process.
    """
    spec = find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / "data" / "silero_vad.jit"
    return path if path.is_file() else None


def _speech_detector() -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that gives the probability of speech of each whole chunk of a wave.

    It keeps its state from call to call.
    """
    import warnings

    import torch

    with _LOADING, warnings.catch_warnings():  # threads in it would restore each other's filters
        warnings.simplefilter("ignore")
        model = torch.jit.load(str(silero()), map_location="cpu").eval()

    def detect(wave: np.ndarray) -> np.ndarray:
        chunks = torch.from_numpy(wave[: len(wave) // CHUNK * CHUNK].copy()).view(-1, CHUNK)
        with torch.inference_mode():
            return np.array([float(model(chunk, SAMPLE_RATE)) for chunk in chunks])

    return detect
