"""Live audio: overlapping windows of a stream, each predicted as `ser predict` would.

    push (sound card, client)        ring buffer            next_window (models)
    any blocks, any rate      ->     last seconds at   ->   windows [k * hop, k * hop + window)
                                     16 kHz

The windows are those of `ser predict --timeline --cut windows` on a file of the same samples. Audio
cannot wait, so the buffer keeps only the latest: where the models are too slow, whole windows are
left out and counted, and the others remain exact.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
import soxr

from ser.corpus.audio import SAMPLE_RATE
from ser.corpus.decoding.file import RATES
from ser.corpus.errors import UserError
from ser.predict.clips import SHORTEST, Piece, Segmentation
from ser.predict.result import Failure, Result

BACKLOG = 30.0  # s that the models may be behind before windows are left out


class RingBuffer:
    """The last `capacity` samples of a stream; positions count from its beginning.

    >>> ring = RingBuffer(4)
    >>> ring.write(np.arange(6, dtype=np.float32))
    >>> ring.oldest, ring.end, ring.read(3, 5).tolist()
    (2, 6, [3.0, 4.0])
    """

    def __init__(self, capacity: int) -> None:
        self._samples = np.zeros(capacity, np.float32)
        self.end = 0  # samples written

    @property
    def oldest(self) -> int:
        """Return the position of the oldest sample that is still held."""
        return max(0, self.end - len(self._samples))

    def write(self, wave: np.ndarray) -> None:
        """Append float32 `(samples,)`; the oldest samples are overwritten."""
        self.end += len(wave)
        latest = wave[-len(self._samples) :]
        places = np.arange(self.end - len(latest), self.end) % len(self._samples)
        self._samples[places] = latest

    def read(self, start: int, end: int) -> np.ndarray:
        """Return a copy of the samples from `start` to `end`, which must be held."""
        assert self.oldest <= start <= end <= self.end
        return self._samples[np.arange(start, end) % len(self._samples)]


class LiveAudio:
    """The windows of a stream of audio, which one thread pushes and another one reads.

    Args:
        rate: of the samples that are pushed, in Hz.
        window: the length of a window in seconds, 1 to 30.
        hop: from the start of one window to the next, in seconds.

    Raises `UserError` for values out of bounds.

    >>> live = LiveAudio(16_000, window=2.0, hop=1.0)
    >>> live.push(np.zeros(40_000, np.float32))
    >>> live.close()
    >>> [(piece.start, piece.end) for piece in live.windows()]
    [(0.0, 2.0), (1.0, 2.5)]
    """

    def __init__(self, rate: int, window: float = 10.0, hop: float = 5.0) -> None:
        Segmentation(True, "windows", window, hop)  # checks both
        if not RATES[0] <= rate <= RATES[1]:
            raise UserError(f"rate {rate}: give a rate of {RATES[0]} to {RATES[1]} Hz.")
        self._window, self._hop = round(window * SAMPLE_RATE), round(hop * SAMPLE_RATE)
        self._ring = RingBuffer(self._window + round(BACKLOG * SAMPLE_RATE))
        same = rate == SAMPLE_RATE
        self._resampler = None if same else soxr.ResampleStream(rate, SAMPLE_RATE, 1, "float32")
        self._start = self._covered = 0  # of the next window; the end of the last one
        self._closed = False
        self._changed = threading.Condition()
        self.left_out = 0  # windows for which the models were too slow

    def push(self, wave: np.ndarray) -> None:
        """Add float32 `(samples,)` at the stream's rate, full scale ±1; never waits for a model.

        Values that are not finite become silence, as resampling would spread them.
        """
        wave = np.nan_to_num(wave, nan=0.0, posinf=0.0, neginf=0.0)
        with self._changed:
            self._write(wave, last=False)

    def close(self) -> None:
        """End the stream: the rest of it becomes the last window."""
        with self._changed:
            if not self._closed:
                self._write(np.empty(0, np.float32), last=True)
                self._closed = True

    def next_window(self) -> Piece | None:
        """Return the next window that is complete, None where there is none yet, or none left."""
        with self._changed:
            return self._next()

    def windows(self) -> Iterator[Piece]:
        """Yield the windows as they are completed, until the stream is closed."""
        while True:
            with self._changed:
                while (piece := self._next()) is None and not self._closed:
                    self._changed.wait(0.5)  # not without limit, so that Ctrl-C gets through
            if piece is None:
                return
            yield piece

    def _write(self, wave: np.ndarray, last: bool) -> None:
        if self._resampler is not None:
            wave = self._resampler.resample_chunk(wave, last=last)
        self._ring.write(wave)
        self._changed.notify_all()

    def _next(self) -> Piece | None:
        late = -(-(self._ring.oldest - self._start) // self._hop)
        if late > 0:
            self.left_out += late
            self._start += late * self._hop
        end = self._start + self._window
        if end > self._ring.end:
            end = self._ring.end
            rest = end - self._start
            if not self._closed or end <= self._covered or rest < SHORTEST:
                return None
        piece = Piece.at(self._start, self._ring.read(self._start, end))
        self._start, self._covered = self._start + self._hop, end
        return piece


@dataclass(frozen=True)
class LivePrediction:
    """The prediction for the window from `start` to `end`, in seconds of the stream.

    The other fields are those of `ser.predict.Result`; `error` says why there is none, as in
    silence. `left_out` is the number of windows so far for which the models were too slow.
    """

    start: float
    end: float
    emotion: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    attributes: dict[str, float] = field(default_factory=dict)
    transcript: str | None = None
    unsure: bool | None = None
    notes: tuple[str, ...] = ()
    left_out: int = 0
    error: str | None = None

    @classmethod
    def of(cls, piece: Piece, result: Result | Failure, left_out: int) -> "LivePrediction":
        """Return the prediction of a window from what the predictor returned for its samples."""
        if isinstance(result, Failure):
            return cls(piece.start, piece.end, left_out=left_out, error=result.error)
        return cls(
            piece.start,
            piece.end,
            result.emotion,
            dict(result.probabilities),
            dict(result.attributes),
            result.transcript,
            result.unsure,
            result.notes,
            left_out,
        )

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)
