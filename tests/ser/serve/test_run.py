"""Who sends slowly or without end is cut off while the others are served; the process itself."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time

import click.testing
import httpx
import pytest

from ser.cli import cli
from ser.serve import run
from ser.serve.limits import Limits
from ser.serve.run import is_loopback
from tests.ser.factories import BIN
from tests.ser.serve.conftest import files, serving

HEAD = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Type: audio/wav\r\n"


@pytest.fixture(scope="module")
def server(small, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(run, "PATIENCE", 2.0)
    limits = Limits(max_mb=1, patience=2.0)
    with serving(small.p, tmp_path_factory.mktemp("slow"), limits, page=True) as server:
        server.service.loading.result(60)
        yield server
    patch.undo()


def open_to(server, sent):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(sent)
    return connection


def answer_of(connection):
    """Return all that comes until the server hangs up."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_a_hundred_slow_uploads_are_cut_off_and_the_others_go_on(server, clip):
    length = b"Content-Length: 500000\r\n\r\nRIFF"
    slow = [open_to(server, HEAD + length) for _ in range(50)]
    slow += [open_to(server, HEAD) for _ in range(50)]  # which never end their headers
    begun = time.monotonic()
    answer = httpx.post(server.url + "/predict", content=clip.read_bytes(), timeout=60)
    assert answer.status_code == 200
    assert time.monotonic() - begun < 20
    for connection in slow[:50]:
        with connection:
            said = answer_of(connection)
            assert said.startswith(b"HTTP/1.1 408 ")
            assert said.endswith(
                b'{"error":"the upload came too slowly; try again on a better line."}'
            )
    for connection in slow[50:]:
        with connection:
            assert answer_of(connection) == b""
    assert files(server.folder) == []


def test_a_byte_now_and_then_does_not_keep_an_upload_alive(server):
    connection = open_to(server, HEAD + b"Content-Length: 500000\r\n\r\n")
    begun = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - begun < 15:
            connection.sendall(b"x")
            time.sleep(0.2)
    assert answer_of(connection).startswith(b"HTTP/1.1 408 ") or time.monotonic() - begun < 15


def test_two_gigabytes_are_refused_by_their_length_or_when_they_pass_the_limit(server):
    with open_to(server, HEAD + b"Content-Length: 2000000000\r\n\r\n") as said:
        assert answer_of(said).startswith(b"HTTP/1.1 413 ")
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    with open_to(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n") as unsaid:
        sent = 0
        unsaid.settimeout(0.01)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while not answer and sent < 2e9:
                unsaid.settimeout(30)
                unsaid.sendall(chunk)
                sent += 65536
                unsaid.settimeout(0.001)
                with contextlib.suppress(TimeoutError):
                    answer = unsaid.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 20e6
    assert server.service.limits.max_bytes == 1_000_000
    assert files(server.folder) == []


def test_the_uploads_of_the_page_have_the_same_limits(server):
    part = b"--x\r\nContent-Disposition: form-data; name=files; filename=a.wav\r\n\r\n" + bytes(
        2_000
    )
    head = b"POST /gradio_api/upload HTTP/1.1\r\nHost: here\r\n"
    head += b"Content-Type: multipart/form-data; boundary=x\r\n"
    with open_to(server, head + b"Content-Length: 2000000\r\n\r\n" + part) as large:
        assert answer_of(large).startswith(b"HTTP/1.1 413 ")
    with open_to(server, head + b"Content-Length: 500000\r\n\r\n" + part) as slow:
        assert answer_of(slow).startswith(b"HTTP/1.1 408 ")
    from ser.serve.page import clean

    clean(server.folder / "page", 0)  # which the server does when they are a minute old
    assert files(server.folder) == []


def test_uploads_of_the_page_that_no_one_asks_about_do_not_fill_the_disk(small, tmp_path):
    data = bytes(990_000)
    with serving(small.p, tmp_path, Limits(max_mb=1, queue=2), page=True) as server:
        answers = [
            httpx.post(server.url + "/gradio_api/upload", files={"files": (f"{i}.wav", data)})
            for i in range(5)
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 503, 503]
    assert "too many uploads at once; try again later." in answers[3].text


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("example.org", False), ("192.168.0.7", False)),
    ],
)
def test_is_loopback(host, expected):
    assert is_loopback(host) is expected


def test_the_command_serves_until_it_is_told_to_stop(small, clip, tmp_path):
    places = tmp_path / "tmp"
    places.mkdir()
    words = ["serve", "--run", small.run, "--port", "0", "--api-only", "--device", "cpu"]
    with subprocess.Popen(
        [str(BIN / "ser"), *map(str, words)],
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
            assert httpx.get(url + "/").status_code == 404  # no page
            assert len([p for p in places.iterdir() if p.name.startswith("ser-")]) == 1
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
    assert list(places.iterdir()) == []


def test_an_address_that_is_taken_and_one_that_is_open(small, monkeypatch):
    monkeypatch.setenv("SER_TOKEN", "")
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["serve", "--run", str(small.run), "--host", "0.0.0.0", "--port", str(port)]
        done = click.testing.CliRunner().invoke(cli, words)
    assert (
        str(done.exception)
        == f"--host 0.0.0.0 --port {port}: Address already in use; give another."
    )
    assert done.stderr == (
        "ser: anyone who reaches 0.0.0.0 may use this server; give a `--token`, or set SER_TOKEN.\n"
    )
