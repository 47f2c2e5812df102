"""Live audio over a websocket, by the core of `ser predict --mic`.

    client                                      server
    {"rate": 16000, "channels": 1, …}     ->    LiveAudio, with its ring buffer
    16-bit PCM in binary messages         ->    one window at a time to the models
                                          <-    a LivePrediction in JSON for each window
    {"end": true}                         ->    the last windows, then close code 1000

A stream is held to real time: audio may come up to `BACKLOG` s ahead of it, which the buffer holds,
and `Limits.patience` s behind it. Only the buffer and one message are in memory, and at most one
window of each stream waits for the models, so that clips sent to /predict take their turn. Whatever
else ends a stream is a close code with one sentence.
"""

import asyncio
import contextlib
import logging
import time
from typing import Literal, NoReturn

import numpy as np
from pydantic import Field, ValidationError
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from ser.corpus.config import Section, describe
from ser.corpus.decoding.file import CHANNELS, RATES
from ser.corpus.errors import UserError, plural
from ser.predict.clips import Piece
from ser.predict.live import BACKLOG, LiveAudio, LivePrediction
from ser.serve.cancelling import unless
from ser.serve.service import Service

DONE, UNSUPPORTED, POLICY, INTERNAL, LATER = 1000, 1003, 1008, 1011, 1013  # close codes
REASON = 123  # bytes that fit into a close frame
MESSAGES = 1_000  # a second


class StreamConfig(Section):
    """The first message of a client: its PCM, and the windows in seconds."""

    rate: int = Field(ge=RATES[0], le=RATES[1])
    channels: int = Field(1, ge=1, le=CHANNELS)
    window: float = 10.0
    hop: float = 5.0


class End(Section):
    """The last message of a client."""

    end: Literal[True]


class StreamError(Exception):
    """Why the server ends a stream: a close code and one sentence."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


async def serve_live(socket: WebSocket, service: Service) -> None:
    """Predict on the audio of a connection until it ends; raises `Refused` if too many are open."""
    with service.stream_place():
        await socket.accept()
        code, sentence = DONE, ""
        try:
            stream = await Stream.open(socket, service)
            await unless(stream.receive(), stream.answer())
        except WebSocketDisconnect:
            return
        except StreamError as error:
            code, sentence = error.code, error.sentence
        except Exception as error:
            logging.getLogger("ser.serve").error("a stream failed", exc_info=error)
            code, sentence = INTERNAL, "internal error of the server; see its log."
        reason = sentence.encode()[:REASON].decode(errors="ignore")
        with contextlib.suppress(WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(service.limits.patience):
                await socket.close(code, reason)


class Stream:
    """The audio of a connection, received and predicted at the same time."""

    def __init__(self, socket: WebSocket, service: Service, config: StreamConfig) -> None:
        self._socket, self._service, self._limits = socket, service, service.limits
        self._rate, self._channels = config.rate, config.channels
        self._audio = LiveAudio(config.rate, config.window, config.hop)
        self._started, self._seconds = time.monotonic(), 0.0  # of audio
        self._messages = 0
        self._changed, self._ended = asyncio.Event(), False

    @classmethod
    async def open(cls, socket: WebSocket, service: Service) -> "Stream":
        """Return the stream that the first message of a client describes."""
        patience = service.limits.patience
        late = StreamError(POLICY, f"no first message within {patience:g} s.")
        message = await _receive(socket, patience, late)
        text = message.get("text")
        if text is None:
            raise StreamError(
                UNSUPPORTED, 'the first message is binary; send JSON first, as {"rate": 16000}.'
            )
        try:
            return cls(socket, service, StreamConfig.model_validate_json(text, strict=True))
        except ValidationError as error:
            raise StreamError(POLICY, f"the first message: {describe(error)}.") from error
        except UserError as error:
            raise StreamError(POLICY, str(error)) from error

    async def receive(self) -> NoReturn:
        """Receive audio and, after its end, nothing more."""
        while not self._ended:
            await self._receive_audio()
            self._changed.set()
            await asyncio.sleep(0)  # others take their turn, however many messages are there
        timeout = self._limits.timeout
        late = StreamError(LATER, f"no prediction within {timeout:g} s; try again later.")
        await _receive(self._socket, timeout, late)
        raise StreamError(UNSUPPORTED, "a message after the end; open another stream.")

    async def answer(self) -> None:
        """Send the prediction for each window, until the last one."""
        left_out = self._service.metrics.windows.labels("left_out")
        counted = 0
        while (piece := await self._next_window()) is not None:
            left_out.inc(self._audio.left_out - counted)
            counted = self._audio.left_out
            result = await self._service.predict_window(piece)
            prediction = LivePrediction.of(piece, result, self._audio.left_out)
            try:
                async with asyncio.timeout(self._limits.patience):
                    await self._socket.send_text(prediction.to_json())
            except TimeoutError as error:
                raise StreamError(POLICY, "the predictions are not being read.") from error

    async def _receive_audio(self) -> None:
        """Push the audio of one message, or end the stream's."""
        elapsed = time.monotonic() - self._started
        wait = self._seconds + self._limits.patience - elapsed
        late = StreamError(
            POLICY, f"the audio is more than {self._limits.patience:g} s behind real time."
        )
        message = await _receive(self._socket, wait, late)
        self._messages += 1
        if self._messages > MESSAGES * (elapsed + BACKLOG):
            raise StreamError(POLICY, f"more than {MESSAGES} messages a second; send longer ones.")
        data = message.get("bytes")
        if data is None:
            self._end(message["text"])
            return
        wave = samples(data, self._channels)
        self._seconds += len(wave) / self._rate
        if self._seconds > self._limits.stream_seconds:
            raise StreamError(
                POLICY,
                f"the stream is longer than {self._limits.stream_seconds:g} s; open another one.",
            )
        if self._seconds > time.monotonic() - self._started + BACKLOG:
            raise StreamError(
                POLICY,
                f"the audio is more than {BACKLOG:g} s ahead of real time; send files to /predict.",
            )
        self._service.metrics.live_audio.inc(len(wave) / self._rate)
        self._audio.push(wave)

    def _end(self, text: str) -> None:
        try:
            End.model_validate_json(text)
        except ValidationError as error:
            raise StreamError(
                UNSUPPORTED,
                'text in place of audio; send 16-bit PCM in binary, or {"end": true} at the end.',
            ) from error
        self._audio.close()
        self._ended = True

    async def _next_window(self) -> Piece | None:
        """Return the next window when it is complete, None after the last one."""
        while (piece := self._audio.next_window()) is None and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        return piece


def samples(data: bytes, channels: int) -> np.ndarray:
    """Return float32 `(samples,)` of 16-bit little-endian PCM, the mean of its channels.

    >>> samples(np.array([16384, 0, -32768, -32768], "<i2").tobytes(), 2).tolist()
    [0.25, -1.0]
    """
    if len(data) % (2 * channels):
        raise StreamError(
            UNSUPPORTED,
            f"{len(data)} bytes are not whole 16-bit samples of {plural(channels, 'channel')}.",
        )
    wave = np.frombuffer(data, "<i2").reshape(-1, channels).astype(np.float32) / 32768
    return wave[:, 0] if channels == 1 else wave.mean(axis=1)


async def _receive(socket: WebSocket, seconds: float, late: StreamError) -> Message:
    """Return the next message; raises `late` without one, `WebSocketDisconnect` at the end."""
    if seconds <= 0:  # a timeout does not end what never waits
        raise late
    try:
        async with asyncio.timeout(seconds):
            message = await socket.receive()
    except TimeoutError:
        raise late from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"])
    return message
