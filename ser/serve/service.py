"""A predictor behind a queue: one thread, a bounded number of clips, a limit on the time.

    event loop                          processes                 thread "models"
    up to `queue` + 1 clips at a time
    Decoders.decode                ->   the file -> a wav
    queue                          ------------------------->   Predictor.stream, one clip at a time
    answer                         <-------------------------   Result | Failure

The models run in one thread at a time, so more threads would only hold more clips in memory.
`predict` can be cancelled, at the time limit or when the client disconnects: then the decoder of
the clip is killed, a waiting clip is dropped, and the file of a clip that the models are reading is
truncated, so that they stop at its next block of audio.
"""

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ser.corpus.audio import SAMPLE_RATE
from ser.corpus.errors import AudioError, UserError, plural
from ser.predict.clips import Piece
from ser.predict.result import Failure, Result
from ser.predict.sources import Source
from ser.serve.decoders import Decoded, Decoders
from ser.serve.limits import Limits, Refused
from ser.serve.metrics import Metrics

if TYPE_CHECKING:
    from ser.predict.audio_predictor import AudioPredictor

RETRY = 2  # s a clip, assumed until the first one is measured


class Service:
    """Predictions for received clips; `loading` is done when the models are loaded."""

    def __init__(self, predictor: "AudioPredictor", limits: Limits) -> None:
        self.predictor, self.limits, self.metrics = predictor, limits, Metrics()
        self._thread = ThreadPoolExecutor(1, "models")
        self._decoders = Decoders()
        self._clips = 0  # being decoded, waiting or being predicted on
        self._jobs: set[Future[Result | Failure]] = set()
        self._seconds_per_clip = float(RETRY)
        self._streams = 0
        self.metrics.queue.set_function(lambda: self._clips)
        self.metrics.streams.set_function(lambda: self._streams)
        self.loading = self._thread.submit(predictor.load)

    @property
    def ready(self) -> bool:
        """Return whether the models are loaded."""
        return self.loading.done() and self.loading.exception() is None

    @property
    def busy(self) -> bool:
        """Return whether the models are running, which nothing can interrupt."""
        return not self.loading.done() or bool(self._jobs)

    def kill(self) -> None:
        """Drop the waiting clips and kill the decoders; any thread may call this."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._decoders.kill()

    async def close(self) -> None:
        """Call `kill`, and wait until the decoders have ended."""
        self.kill()
        await self._decoders.close()

    def require_capacity(self) -> None:
        """Raise `Refused` when the queue is full."""
        if self._clips > self.limits.queue:
            wait = math.ceil(self._seconds_per_clip * self._clips)
            raise Refused(
                503, f"the queue is full ({plural(self._clips, 'clip')}); try again later.", wait
            )

    @contextlib.asynccontextmanager
    async def time_limit(self) -> AsyncIterator[None]:
        """Cancel the block after the longest time of an answer; raises `Refused`."""
        try:
            async with asyncio.timeout(self.limits.timeout):
                yield
        except TimeoutError as error:
            raise Refused(
                504,
                f"no answer within {self.limits.timeout:g} s; send a shorter clip, or try again "
                "later.",
            ) from error

    async def predict(
        self, path: Path, name: str, *, timeline: bool, explain: bool
    ) -> tuple[Result, Decoded]:
        """Return the result for a clip, which gets `name`, and the decoded clip.

        The options are those of `Predictor.stream`. Raises `Refused`.
        """
        started = time.perf_counter()
        limits = self.limits
        with self._place():
            try:
                decoded = await self._decoders.decode(
                    path, path.parent, limits.max_seconds, limits.timeout
                )
            except AudioError as error:
                raise _unusable(name, str(error)) from error
            try:
                result = await self._of_models(decoded.wav, timeline, explain)
            except asyncio.CancelledError:
                with contextlib.suppress(FileNotFoundError):
                    os.truncate(decoded.wav, 0)
                raise
        if isinstance(result, Failure):
            raise _unusable(name, result.error)
        self.metrics.seconds.observe(time.perf_counter() - started)
        self.metrics.audio.inc(result.seconds)
        return replace(result, path=name, notes=(*result.notes, *decoded.notes)), decoded

    async def predict_window(self, window: Piece) -> Result | Failure:
        """Return the result for a window of live audio, or why there is none."""
        started = time.perf_counter()
        try:
            result = await self._of_models((window.wave, SAMPLE_RATE))
        except Refused as refused:
            result = Failure("", str(refused.detail))
        self.metrics.window_seconds.observe(time.perf_counter() - started)
        outcome = "failed" if isinstance(result, Failure) else "predicted"
        self.metrics.windows.labels(outcome).inc()
        return result

    @contextlib.contextmanager
    def stream_place(self) -> Iterator[None]:
        """Count a live stream while it is open; raises `Refused` when too many are."""
        if self._streams >= self.limits.streams:
            count = plural(self.limits.streams, "live stream")
            raise Refused(503, f"the server has {count} at a time; try again later.", 60)
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        self.require_capacity()
        self._clips += 1
        try:
            yield
        finally:
            self._clips -= 1

    async def _of_models(
        self, clip: Source, timeline: bool = False, explain: bool = False
    ) -> Result | Failure:
        job = self._thread.submit(self._answer, clip, timeline, explain)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return await asyncio.wrap_future(job)

    def _answer(self, clip: Source, timeline: bool, explain: bool) -> Result | Failure:
        started = time.perf_counter()
        try:
            result = next(self.predictor.stream([clip], timeline=timeline, explain=explain))
        except UserError as error:  # of a remote feature; its details are not for clients
            logging.getLogger("ser.serve").warning("no prediction: %s", error)
            raise Refused(
                503, "a service that the model depends on is unavailable; try again later.", 60
            ) from error
        self._seconds_per_clip += 0.2 * (time.perf_counter() - started - self._seconds_per_clip)
        return result


def _unusable(name: str, error: str) -> Refused:
    return Refused(422, f"{name}: {error}; send another clip.")
