"""The server process: models load while it listens already, and it ends when they cannot."""

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from corpus.errors import UserError
from ser.serve.app import create_app
from ser.serve.limits import Limits
from ser.serve.service import Service

if TYPE_CHECKING:
    from ser.predict.predictor import Predictor

PATIENCE = 10.0  # s; for the headers of a request, and for who sends on after the answer


class Protocol(H11Protocol):
    """Speak HTTP, and hang up on who keeps a connection without asking anything.

    uvicorn waits without end for headers, and reads on when a body was refused.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(PATIENCE, self._hang_up)

    def _hang_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def serve(
    predictor: "Predictor",
    limits: Limits,
    host: str,
    port: int,
    *,
    token: str,
    page: str | None,
    say: Callable[[str], object],
) -> None:
    """Serve until the process is told to stop; `say` hears the address.

    `page` is the name over the page, None for no page.

    Raises `UserError` for an address that cannot be had, and for a model that is absent.
    """
    with _listening(host, port) as listening, tempfile.TemporaryDirectory(prefix="ser-") as folder:
        service = Service(predictor, limits)
        app = create_app(service, token, Path(folder))
        if page is not None:
            from ser.serve.page import mount

            mount(app, service, Path(folder), page)
        server = _server(app)

        def loaded(loading: Future[None]) -> None:
            if not loading.cancelled() and loading.exception() is not None:
                server.should_exit = True

        service.loading.add_done_callback(loaded)
        at = f"[{host}]" if ":" in host else host
        for told in sent_away(predictor):
            say(told)
        say(f"listening on http://{at}:{listening.getsockname()[1]}; stop with Ctrl-C.")
        for number in (signal.SIGINT, signal.SIGTERM):
            # uvicorn stops and then repeats the signal, by which the folder would stay behind
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        server.run([listening])
        if service.loading.done() and not service.loading.cancelled():
            service.loading.result()


def sent_away(predictor: "Predictor") -> list[str]:
    """Say of each feature that a server has, where the words of every clip are sent."""
    options = ((name, predictor.features.options[name]) for name in predictor.features.names)
    return [
        f"features.{name}: the words of every clip are sent to {getattr(o, 'server', 'a server')}."
        for name, o in options
        if o.remote
    ]


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a host."""
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    try:
        kind = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=kind, backlog=2048)
    except OSError as error:
        # create_server adds the address; the codes of names that are not found are negative
        known = error.errno is not None and error.errno > 0
        said = os.strerror(error.errno or 0) if known else error.strerror or str(error)
        raise UserError(f"--host {host} --port {port}: {said}; give another.") from error


def _server(app: Any) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=5,
            server_header=False,
        )
    )
