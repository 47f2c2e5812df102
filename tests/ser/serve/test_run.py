"""Who sends slowly or without end is cut off while the others are served; the process itself."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import httpx
import pytest
import typer.testing
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ser.commands.main import cli
from ser.serve import run
from ser.serve.limits import Limits
from tests.ser import warm
from tests.ser.serve.conftest import files, serving

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"


@pytest.fixture(scope="module")
def server(small, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(run, "PATIENCE", 1.0)
    limits = Limits(max_mb=1, patience=1.0)
    with serving(small.p, tmp_path_factory.mktemp("slow"), limits, page=True) as server:
        server.service.loading.result(60)
        yield server
    patch.undo()


def open_to(server, sent):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=120)
    connection.sendall(sent)
    return connection


def answer_of(connection):
    """Return all that comes until the server hangs up."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.slow
def test_a_hundred_slow_uploads_are_cut_off_and_the_others_continue(server, clip):
    length = b"Content-Length: 500000\r\n\r\nRIFF"
    slow = [open_to(server, HEAD + length) for _ in range(50)]
    slow += [open_to(server, HEAD) for _ in range(50)]  # which never end their headers
    begun = time.monotonic()
    answer = httpx.post(server.url + "/predict", content=clip.read_bytes(), timeout=120)
    assert answer.status_code == 200
    assert time.monotonic() - begun < 60  # where each slow one may take 1 s
    for connection in slow[:50]:
        with connection:
            answer = answer_of(connection)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert answer.endswith(
                b'{"error":"the upload was too slow; try again on a faster connection."}'
            )
    for connection in slow[50:]:
        with connection:
            assert answer_of(connection) == b""
    assert files(server.folder) == []


def test_a_byte_now_and_then_does_not_keep_an_upload_alive(server):
    connection = open_to(server, HEAD + b"Content-Length: 500000\r\n\r\n")
    begun = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - begun < 60:
            connection.sendall(b"x")
            time.sleep(0.2)
    assert answer_of(connection).startswith(b"HTTP/1.1 408 ") or time.monotonic() - begun < 60


def test_two_gigabytes_are_refused_by_their_length_or_when_they_pass_the_limit(server):
    with open_to(server, HEAD + b"Content-Length: 2000000000\r\n\r\n") as connection:
        assert answer_of(connection).startswith(b"HTTP/1.1 413 ")
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    with open_to(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n") as unsaid:
        sent = 0
        unsaid.settimeout(0.01)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while not answer and sent < 2e9:
                unsaid.settimeout(120)
                unsaid.sendall(chunk)
                sent += 65536
                unsaid.settimeout(0.001)
                with contextlib.suppress(TimeoutError):
                    answer = unsaid.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 20e6
    assert server.service.limits.max_bytes == 1_000_000
    assert files(server.folder) == []


@pytest.mark.slow
def test_the_uploads_of_the_page_have_the_same_limits(server):
    part = b"--x\r\nContent-Disposition: form-data; name=files; filename=a.wav\r\n\r\n" + bytes(
        2_000
    )
    head = b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\n"
    head += b"Content-Type: multipart/form-data; boundary=x\r\n"
    with open_to(server, head + b"Content-Length: 2000000\r\n\r\n" + part) as large:
        assert answer_of(large).startswith(b"HTTP/1.1 413 ")
    with open_to(server, head + b"Content-Length: 500000\r\n\r\n" + part) as slow:
        assert answer_of(slow).startswith(b"HTTP/1.1 408 ")
    assert files(server.folder) == []


def test_abandoned_uploads_of_the_page_do_not_fill_the_disk(small, tmp_path):
    data = bytes(990_000)
    with serving(small.p, tmp_path, Limits(max_mb=1, queue=2), page=True) as server:
        answers = [
            httpx.post(
                server.url + "/gradio_api/upload",
                files={"files": (f"{i}.wav", data)},
                timeout=60,
            )
            for i in range(5)
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 503, 503]
    assert "too many uploads at once; try again later." in answers[3].text


def test_the_command_serves_until_it_is_stopped(small, clip, tmp_path):
    places = tmp_path / "tmp"
    places.mkdir()
    words = ["serve", "--run", small.run, "--port", "0", "--api-only", "--device", "cpu"]
    with subprocess.Popen(
        [warm.folder() / "ser", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(places)},
    ) as process:
        try:
            line = process.stdout.readline()
            url = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+); .*\n", line)[1]
            data = clip.read_bytes()
            answer = httpx.post(url + "/predict", content=data, timeout=60)  # waits for the models
            assert answer.json()["probabilities"] == pytest.approx(
                small.p(clip).probabilities, abs=1e-6
            )
            assert httpx.get(url + "/", timeout=60).status_code == 404  # no page
            assert len([p for p in places.iterdir() if p.name.startswith("ser-")]) == 1
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
    assert list(places.iterdir()) == []


def problem_of(small, monkeypatch, *words):
    monkeypatch.setenv("SER_TOKEN", "")
    done = typer.testing.CliRunner().invoke(cli, ["serve", "--run", str(small.run), *words])
    return str(done.exception)


def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_head():
    with run._bound_socket("127.0.0.1", 0) as listening:
        with socket.create_connection(listening.getsockname()):
            connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_address_that_is_taken(small, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert problem_of(small, monkeypatch, "--port", str(port)) == (
            f"--host 127.0.0.1 --port {port}: Address already in use; choose another."
        )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])
def test_a_network_is_served_without_a_token_only_on_request(small, monkeypatch, host):
    assert problem_of(small, monkeypatch, "--host", host) == (
        f"--host {host}: anyone who reaches it could use this server; give a `--token` or set "
        "SER_TOKEN, or allow everyone by `--open`."
    )


def test_with_a_token_or_open_a_network_is_served(small, monkeypatch):
    with socket.create_server(("0.0.0.0", 0)) as taken:
        words = ["--host", "0.0.0.0", "--port", str(taken.getsockname()[1])]
        for more in (["--open"], ["--token", "geheim"]):
            assert "Address already in use" in problem_of(small, monkeypatch, *words, *more)


def test_values_that_cannot_be(small, monkeypatch):
    for token in ("zwei worte", "schlüssel", "a\nb"):
        assert "letters, digits and signs of ASCII" in problem_of(
            small, monkeypatch, "--token", token
        )
    assert "--allow-host http://a: give only a name" in problem_of(
        small, monkeypatch, "--allow-host", "http://a"
    )


BUSY = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from ser.corpus.config import CorpusConfig
from ser.serve.limits import Limits
from ser.serve.run import serve

def wait(*_, **__):
    time.sleep(600)

load = wait if sys.argv[1] == "loading" else lambda: None
corpus = CorpusConfig(manifest="no.csv", classes=("sad", "happy"))
predictor = SimpleNamespace(
    load=load, stream=wait, classes=("sad",), attributes=(), features=SimpleNamespace(names=()),
    run=Path("no"), heads=("one",), stack=None, notes=(), evaluation=None,
    pipeline=SimpleNamespace(corpus=corpus),
)
page = "a run" if "page" in sys.argv[1] else None
say = lambda line: print(line, flush=True)
serve(predictor, Limits(), "127.0.0.1", 0, allowed_hosts=(), token="", page=page, say=say)
"""


def children(pid):
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, check=False
    )
    return [int(number) for number in listed.stdout.split()]


@pytest.mark.parametrize(
    ("busy", "number"),
    [
        ("models", signal.SIGTERM),
        pytest.param("models and page", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("loading", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_process_whatever_is_running(clip, tmp_path, busy, number):
    """Models that cannot be interrupted, a stuck decoder, an unfinished upload, a live stream."""
    assert run.GRACE < run.LATEST < 5
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, busy],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:
        port = int(re.search(r":(\d+);", process.stdout.readline())[1])
        server = SimpleNamespace(port=port)
        data = clip.read_bytes()
        head = HEAD + b"Content-Length: %d\r\n\r\n" % len(data)
        live = connect(f"ws://127.0.0.1:{port}/live", proxy=None)
        with live as stream, open_to(server, head + data), open_to(server, head + data[:9]) as _:
            stream.send('{"rate": 16000, "window": 1, "hop": 1}')
            stream.send(bytes(64_000))
            while not (started := children(process.pid)):
                assert process.poll() is None
                time.sleep(0.05)
            while not any(path.endswith("decoded.wav") for path in files(tmp_path)):
                assert process.poll() is None
                time.sleep(0.05)
            os.kill(started[0], signal.SIGSTOP)
            with open_to(server, head + data):
                begun = time.monotonic()
                process.send_signal(number)
                status = process.wait(120)
                seconds = time.monotonic() - begun
            with pytest.raises(ConnectionClosed) as closed:
                stream.recv()
            assert closed.value.rcvd and closed.value.rcvd.code == 1012
        assert (status, process.stderr.read()) == (0, "")
        assert seconds < 60  # where the models take 600 s
        assert list(tmp_path.iterdir()) == []
        for pid in started:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_what_is_not_http_gets_an_error_of_ours(server, sent):
    with open_to(server, sent + b"\r\n\r\n") as connection:
        head, _, body = answer_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head.lower()
    assert body == b'{"error":"this is not a valid HTTP request."}'


def test_a_request_without_a_host_gets_an_error_of_ours(server):
    with open_to(server, b"GET /health HTTP/1.0\r\n\r\n") as connection:
        head, _, body = answer_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert body.startswith(b'{"error":"the request needs exactly one `Host` header')
