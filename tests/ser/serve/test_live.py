"""Live audio over a websocket: the core's predictions, and a close code for everything else."""

import asyncio
import contextlib
import json
import re
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from ser.predict.live import LiveAudio, LivePrediction
from ser.predict.result import Failure
from ser.serve import live, run
from ser.serve.limits import Limits
from ser.serve.live import serve_live
from ser.serve.metrics import Metrics
from tests.ser.serve.conftest import Held, serving, until

DOCS = Path(__file__).parents[3] / "docs" / "serve.md"
START = '{"rate": 16000, "window": 1, "hop": 1}'
END = '{"end": true}'


@pytest.fixture(scope="module")
def server(small, tmp_path_factory):
    limits = Limits(stream_seconds=60)
    with serving(small.p, tmp_path_factory.mktemp("live"), limits, page=True) as server:
        server.service.loading.result(60)
        yield server


def opened(server, path="/live", **options):
    return connect(f"ws://127.0.0.1:{server.port}{path}", proxy=None, **options)


def pcm(clip):
    """Return the samples of a clip `(samples, channels)` as 16-bit PCM, and its rate."""
    return soundfile.read(clip, dtype="int16", always_2d=True)


def closing(stream):
    """Receive until the server closes; return the code and the sentence."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            stream.recv(timeout=60)
    assert closed.value.rcvd
    return closed.value.rcvd.code, closed.value.rcvd.reason


def counted(server):
    """Return the windows predicted and the seconds received so far."""
    names = 'ser_live_windows_total{outcome="predicted"}', "ser_live_audio_seconds_total"
    lines = server.service.metrics.text().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines)
    return [float(values.get(name, 0)) for name in names]


@pytest.mark.parametrize("channels", [1, 2])
def test_a_stream_gets_the_predictions_of_the_core_for_the_same_samples(
    server, small, clip, channels
):
    wave, rate = pcm(clip)
    wave = np.tile(np.concatenate([wave, wave // 2], axis=1)[:, :channels], (5, 1))
    audio = LiveAudio(rate, 1.0, 1.0)
    audio.push(wave.astype(np.float32).mean(axis=1) / 32768)
    audio.close()
    results = [(piece, small.p((piece.wave, 16_000))) for piece in audio.windows()]
    expected = [json.loads(LivePrediction.of(*result, 0).to_json()) for result in results]
    assert len(expected) > 2
    before = counted(server)
    with opened(server) as stream:
        stream.send(json.dumps({"rate": rate, "channels": channels, "window": 1, "hop": 1}))
        for i in range(0, len(wave), 1_000):
            stream.send(wave[i : i + 1_000].tobytes())
        stream.send(END)
        lines = [json.loads(line) for line in stream]  # until it is closed
    assert (stream.close_code, stream.close_reason) == (1000, "")
    for line, other in zip(lines, expected, strict=True):
        for name in ("probabilities", "attributes"):
            assert line.pop(name) == pytest.approx(other.pop(name), abs=1e-6)
        assert line == other
    until(lambda: b"ser_live_streams 0.0" in server.service.metrics.text())
    windows, seconds = (now - then for now, then in zip(counted(server), before, strict=True))
    assert (windows, seconds) == (len(lines), pytest.approx(len(wave) / rate))


def test_the_client_of_the_docs(server, clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.wav").symlink_to(clip)
    (code,) = re.findall(r"```py\n(.*?)```", DOCS.read_text(), re.S)
    exec(code.replace(":7860", f":{server.port}"), {})
    assert re.fullmatch(r"0\.0 (angry|sad|neutral)\n", capsys.readouterr().out)


def test_silence_costs_a_window_and_not_the_stream(server):
    with opened(server) as stream:
        stream.send(START)
        stream.send(bytes(48_000))
        stream.send(END)
        lines = [json.loads(line) for line in stream]
    assert {line["error"] for line in lines} == {"silent (all samples are zero)"}


@pytest.mark.parametrize(
    ("messages", "code", "sentence"),
    [
        (
            [b"\0\0"],
            1003,
            'the first message is binary; send JSON first, as {"rate": 16000}.',
        ),
        (["nonsense"], 1008, "the first message: invalid JSON: expected ident at line 1 column 2."),
        (["{}"], 1008, "the first message: 'rate' is not valid: the value is missing."),
        (
            ['{"rate": NaN}'],
            1008,
            "the first message: 'rate' is not valid: it must be a valid integer.",
        ),
        (
            ['{"rate": 768001}'],
            1008,
            "the first message: 'rate' is not valid: it must be less than or equal to 768000.",
        ),
        (
            ['{"rate": true}'],
            1008,
            "the first message: 'rate' is not valid: it must be a number, not true or false.",
        ),
        (
            ['{"rate": 16000, "channels": 33}'],
            1008,
            "the first message: 'channels' is not valid: it must be less than or equal to 32.",
        ),
        (
            ['{"rate": 16000, "path": "/etc/passwd"}'],
            1008,
            "the first message: 'path' is not valid: there is no such key.",
        ),
        (
            ['{"rate": 16000, "window": 1e300}'],
            1008,
            "window 1e+300 and hop 5: give a window of 1 to 30 s and a hop of 0.1 s up to the "
            "window.",
        ),
        (
            [START, "audio"],
            1003,
            'text in place of audio; send 16-bit PCM in binary, or {"end": true} at the end.',
        ),
        ([START, b"\0\0\0"], 1003, "3 bytes are not whole 16-bit samples of 1 channel."),
        (
            ['{"rate": 16000, "channels": 2}', bytes(6)],
            1003,
            "6 bytes are not whole 16-bit samples of 2 channels.",
        ),
        ([START, bytes(262_145)], 1009, "frame with 262145 bytes exceeds limit of 262144 bytes"),
        (
            [START, *[bytes(256_000)] * 4],
            1008,
            "the audio is more than 30 s ahead of real time; send files to /predict.",
        ),
        (
            ['{"rate": 1000}', bytes(130_000)],
            1008,
            "the stream is longer than 60 s; open another one.",
        ),
        ([START, [b""] * 1_000], 1008, "a message has more than 1000 fragments."),
    ],
)
def test_what_is_no_stream_gets_a_code_and_a_sentence(server, messages, code, sentence):
    with opened(server) as stream:
        with contextlib.suppress(ConnectionClosed):  # while it still sends
            for message in messages:
                stream.send(message)
        assert closing(stream) == (code, sentence)


def test_many_tiny_messages_are_refused(server, monkeypatch):
    monkeypatch.setattr(live, "MESSAGES", 10)
    with opened(server) as stream:
        stream.send(START)
        with contextlib.suppress(ConnectionClosed):
            for _ in range(3_000):
                stream.send(b"")
        assert closing(stream) == (1008, "more than 10 messages a second; send longer ones.")


def test_text_that_is_not_utf_8(server):
    with opened(server) as stream:
        stream.send(b"\xff", text=True)
        assert closing(stream) == (1007, "a text message is not UTF-8.")


def test_a_stream_may_pause_no_longer_than_its_patience(small, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "PATIENCE", 0.5)  # for HTTP, which does not end a stream
    with serving(small.p, tmp_path, Limits(patience=1.0)) as server:
        with opened(server) as stream:
            assert closing(stream) == (1008, "no first message within 1 s.")
        with opened(server) as stream:
            stream.send(START)
            stream.send(bytes(2))
            assert closing(stream) == (1008, "the audio is more than 1 s behind real time.")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/live", {"origin": "http://evil.example"}, 403),
        ("/live", {"origin": "null"}, 403),
        ("/live", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "websocket"}, 403),
        ("/live", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
        ("/health", {}, 404),
        ("/gradio_api/queue/data", {}, 404),
    ],
)
def test_other_sites_and_other_paths_open_no_stream(server, path, headers, status, caplog):
    with pytest.raises(InvalidStatus) as refused, opened(server, path, additional_headers=headers):
        pass
    assert refused.value.response.status_code == status
    assert list(json.loads(refused.value.response.body)) == ["error"]
    assert httpx.get(f"{server.url}/health").status_code == 200  # the refusal is done
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def test_the_server_s_own_page_may_open_a_stream(server):
    with opened(server, origin=f"http://127.0.0.1:{server.port}") as stream:
        stream.send(START)
        stream.send(END)
        assert closing(stream) == (1000, "")


def test_a_stream_to_another_host_is_refused(server):
    direct = socket.create_connection(("127.0.0.1", server.port))
    other = f"ws://evil.example:{server.port}/live"
    with direct, pytest.raises(InvalidStatus) as refused, connect(other, sock=direct):
        pass
    assert refused.value.response.status_code == 421


def test_a_stream_needs_the_token_or_the_session_of_the_page(small, tmp_path):
    with serving(small.p, tmp_path, token="geheim") as server:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"cookie": "ser_session=geheim"}):
            with (
                pytest.raises(InvalidStatus) as refused,
                opened(server, additional_headers=headers),
            ):
                pass
            assert refused.value.response.status_code == 401
        login = httpx.post(f"{server.url}/login", data={"token": "geheim"})
        cookie = f"ser_session={login.cookies['ser_session']}"
        for headers in ({"authorization": "Bearer geheim"}, {"cookie": cookie}):
            with opened(server, additional_headers=headers) as stream:
                assert stream.response.status_code == 101


def test_streams_are_limited_and_a_client_that_disconnects_frees_its_place(small, clip, tmp_path):
    """Meanwhile the models still predict on clips, and a stream's end waits for its windows."""
    predictor = Held(small.p)
    predictor.may_load.set()
    with serving(predictor, tmp_path, Limits(streams=1)) as server:
        with opened(server) as stream:
            stream.send(START)
            stream.send(bytes(64_000))  # the first window waits for the models
            until(lambda: server.service.busy)
            with pytest.raises(InvalidStatus) as refused, opened(server):
                pass
            assert refused.value.response.status_code == 503
            assert json.loads(refused.value.response.body) == {
                "error": "the server has 1 live stream at a time; try again later."
            }
            stream.socket.shutdown(socket.SHUT_RDWR)
        until(lambda: b"ser_live_streams 0.0" in server.service.metrics.text())
        with opened(server) as stream:
            stream.send(START)
            stream.send(bytes(64_000))
            stream.send(END)
            stream.send(END)
            assert closing(stream) == (1003, "a message after the end; open another stream.")
        predictor.may_answer.set()
        with opened(server) as stream:
            stream.send(START)
            answer = httpx.post(f"{server.url}/predict", content=clip.read_bytes(), timeout=60)
            assert answer.status_code == 200


def raw(server, *lines):
    """Return a connection that has sent the headers of a websocket, with more lines."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", server.port))
    head = ["GET /live HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket"]
    head += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13", *lines]
    connection.sendall("\r\n".join([*head, "", ""]).encode())
    return connection


def test_a_client_that_pings_and_reads_nothing_is_disconnected(server):
    pings = (b"\x89\xfd" + bytes(4) + bytes(125)) * 1_000
    with raw(server) as connection:
        assert connection.recv(12) == b"HTTP/1.1 101"
        with pytest.raises(ConnectionError):
            for _ in range(1_000):  # 131 MB of pongs, which would be kept for it
                connection.sendall(pings)


@pytest.mark.parametrize(
    ("line", "start"),
    [
        *[("\r\n".join(f"X-{i}: 1" for i in range(200)), b"HTTP/1.1 431 ")],
        *[("Sec-WebSocket-Version: 12", b"HTTP/1.1 400 "), ("Content-Length: 3", b"")],
    ],
)
def test_a_handshake_that_is_none_ends_the_connection(server, line, start):
    with raw(server, line) as connection:
        answer = b""
        while part := connection.recv(4_096):
            answer += part
    assert answer.startswith(start)


def test_an_upgrade_of_another_method_is_an_ordinary_request(server, clip):
    headers = {"connection": "upgrade", "upgrade": "websocket"}
    data = clip.read_bytes()
    answer = httpx.post(f"{server.url}/predict", content=data, headers=headers, timeout=60)
    assert answer.status_code == 200


class Unread:
    """A websocket whose client sends audio and reads nothing."""

    def __init__(self):
        self.messages = [{"text": START}, {"bytes": np.ones(16_000, "<i2").tobytes()}]
        self.closed = None

    async def accept(self):
        pass

    async def receive(self):
        if not self.messages:
            await asyncio.Event().wait()
        return {"type": "websocket.receive", **self.messages.pop(0)}

    async def send_text(self, text):
        await asyncio.Event().wait()

    async def close(self, code, reason):
        self.closed = code, reason


async def predicted(piece):
    return Failure("", "silent")


async def failing(piece):
    raise ValueError("a bug")


@pytest.mark.parametrize(
    ("predict", "closed"),
    [
        (predicted, (1008, "the predictions are not being read.")),
        (failing, (1011, "internal error of the server; see its log.")),
    ],
)
def test_predictions_that_are_not_read_and_bugs_end_the_stream(predict, closed):
    service: Any = SimpleNamespace(
        limits=Limits(patience=0.2),
        stream_place=contextlib.nullcontext,
        predict_window=predict,
        metrics=Metrics(),
    )
    client: Any = Unread()
    asyncio.run(serve_live(client, service))
    assert client.closed == closed
