"""The server process: it listens while the models load, and ends if they cannot be loaded.

SIGTERM and Ctrl-C end it within `LATEST` seconds. Requests have `GRACE` seconds to finish; running
models cannot be interrupted, so after that the process exits without waiting for them. Its folder
is always deleted first.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ser.corpus.errors import UserError
from ser.serve.app import create_app
from ser.serve.hosts import Hosts
from ser.serve.limits import Limits
from ser.serve.service import Service
from ser.serve.websocket import MESSAGE, LiveProtocol

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ser.predict.audio_predictor import AudioPredictor

GRACE, LATEST = 2, 3.5  # s
PATIENCE = 10.0  # s for the headers of a request, and for clients that send on after the answer


class Protocol(H11Protocol):
    """HTTP that disconnects clients that keep a connection open without a request.

    uvicorn waits without limit for headers, and reads on when a body was refused. It answers
    invalid HTTP with plain text, this protocol with JSON like all errors.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over to the websocket, which has limits of its own."""
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP, and disconnect."""
        body = b'{"error":"this is not a valid HTTP request."}'
        headers = [("content-type", "application/json"), ("connection", "close")]
        headers.append(("content-length", str(len(body))))
        response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _should_upgrade(self) -> bool:
        return self.scope["method"] == "GET" and super()._should_upgrade()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(PATIENCE, self._disconnect)

    def _disconnect(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def serve(
    predictor: "AudioPredictor",
    limits: Limits,
    host: str,
    port: int,
    *,
    allowed_hosts: Sequence[str],
    token: str,
    page: str | None,
    say: Callable[[str], object],
) -> None:
    """Serve until the process is stopped; `say` prints the address.

    `allowed_hosts` are accepted besides `host` and loopback; `page` is the title of the page, None
    for no page.

    Raises `UserError` for an address that cannot be used, and for a missing model.
    """
    with (
        _bound_socket(host, port) as listening,
        tempfile.TemporaryDirectory(prefix="ser-") as folder,
    ):
        service = Service(predictor, limits)
        shutdown = Shutdown(service, Path(folder))
        app = create_app(service, token, Path(folder), Hosts([host, *allowed_hosts]))
        if page is not None:
            from ser.serve.page import mount

            mount(app, service, Path(folder), page)
        shutdown.server = server = _server(app)

        def loaded(loading: Future[None]) -> None:
            if not loading.cancelled() and loading.exception() is not None:
                server.should_exit = True

        service.loading.add_done_callback(loaded)
        at = f"[{host}]" if ":" in host else host
        for note in remote_notes(predictor):
            say(note)
        say(f"listening on http://{at}:{listening.getsockname()[1]}; stop with Ctrl-C.")
        if not shutdown.requested:
            server.run([listening])
        if service.loading.done() and not service.loading.cancelled():
            service.loading.result()
    if shutdown.requested or service.busy:
        _exit()  # Python would wait for the thread, and its own exit is slow


class Shutdown:
    """The handler of SIGTERM and Ctrl-C: stop the server, and exit if that takes too long."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.server: uvicorn.Server | None = None
        self.requested = False
        self._service, self._folder = service, folder
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._begin)

    def _begin(self, *_: object) -> None:
        if not self.requested:
            self.requested = True
            # about cancelled requests
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            timer = threading.Timer(LATEST, self._end)
            timer.daemon = True
            timer.start()
        if self.server is not None:
            self.server.should_exit = True

    def _end(self) -> None:
        self._service.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        _exit()


def _exit() -> None:
    """Exit at once, whatever the threads do."""
    sys.stdout.flush()
    os._exit(0)


def remote_notes(predictor: "AudioPredictor") -> list[str]:
    """Return a sentence about each feature that sends transcripts or audio to a server."""
    options = ((name, predictor.features.options[name]) for name in predictor.features.names)
    return [
        f"features.{name}: the {'transcript' if o.words_of else 'audio'} of every clip is sent to "
        f"{getattr(o, 'server', 'a server')}."
        for name, o in options
        if o.remote
    ]


def _bound_socket(host: str, port: int) -> socket.socket:
    try:
        kind = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=kind, backlog=2048)
    except OSError as error:
        # create_server adds the address; the codes of unknown names are negative
        positive = error.errno is not None and error.errno > 0
        problem = os.strerror(error.errno or 0) if positive else error.strerror or str(error)
        raise UserError(f"--host {host} --port {port}: {problem}; choose another.") from error
    # connections inherit it; asyncio sets it only where the socket names its protocol, and without
    # it an answer waits 40 ms for the client's acknowledgement of its head
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class Server(uvicorn.Server):
    """uvicorn without signal handlers: `Shutdown` has them, and deletes the folder."""

    def capture_signals(self) -> contextlib.nullcontext[None]:  # type: ignore[override]
        """Install no handlers."""
        return contextlib.nullcontext()


def _server(app: "FastAPI") -> uvicorn.Server:
    return Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws=LiveProtocol,
            ws_max_size=MESSAGE,
            ws_per_message_deflate=False,
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=GRACE,
            server_header=False,
        )
    )
