"""Checks that every request passes first: its host, the token, the limits of its body.

A body is counted while it is received, so that none exceeds the limit in memory or on disk; one
that is too slow is cut off. This is plain ASGI, so that it covers the page's uploads as well.

The token is sent as `Authorization: Bearer TOKEN`, or in a browser as a cookie that the login form
sets; the cookie holds a secret of this process, not the token, so it is invalid after a restart.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ser.serve.hosts import Hosts
from ser.serve.limits import MEGABYTE, Limits, Refused
from ser.serve.uploads import AGE

UPLOADS = ("/predict", "/gradio_api/upload")
OPEN = ("/health", "/login")  # without the token
LIVE = "/live"  # the only websocket
COOKIE = "ser_session"
LOGIN = """\
<!doctype html><html lang="en"><meta charset="utf-8"><title>ser</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root{color-scheme:light dark}body{font:16px system-ui;margin:20vh auto;max-width:20rem;
padding:1rem}input,button{font:inherit;width:100%;box-sizing:border-box;padding:.5rem;
margin:.3rem 0}
</style><form method="post" action="login"><label>Token of this server
<input type="password" name="token" autofocus autocomplete="current-password" required></label>
<button>Open</button></form></html>
"""


@dataclass
class Access:
    """Access by token; open to everyone if `token` is empty."""

    token: str
    session: str = field(default_factory=secrets.token_urlsafe)

    def allows(self, request: HTTPConnection) -> bool:
        """Return whether a request has the token or the session's cookie."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        return (
            not self.token
            or (scheme.lower() == "bearer" and self.knows(bearer.strip()))
            or _same(request.cookies.get(COOKIE, ""), self.session)
        )

    def knows(self, token: str) -> bool:
        """Compare with the token in constant time."""
        return _same(token, self.token)


class Gate:
    """Middleware that enforces the limits; `count` gets the status of each POST /predict."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: Hosts,
        access: Access,
        limits: Limits,
        count: Callable[[int], object],
    ) -> None:
        self.app, self.hosts, self.access = app, hosts, access
        self.limits, self.count = limits, count
        self.held = 0  # bytes of all bodies that may be on disk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one websocket."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        counts = scope["path"] == "/predict" and scope.get("method") == "POST"

        async def counted(message: Message) -> None:
            if counts and message["type"] == "http.response.start":
                self.count(message["status"])
            await send(message)

        body = Body(self, receive, self._most(scope))
        if (refusal := self._refusal(scope)) is not None:
            await refusal(scope, receive, counted)
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, body.receive, counted)
        finally:
            # the page's upload is used by a later request, or deleted after AGE
            kept = scope["path"] == UPLOADS[1]
            asyncio.get_running_loop().call_later(AGE if kept else 0, self._let_go, body.received)

    def _let_go(self, size: int) -> None:
        self.held -= size

    def _most(self, scope: Scope) -> int:
        return self.limits.max_bytes if scope["path"] in UPLOADS else MEGABYTE

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the response to a refused request, None for one whose body may be read."""
        request, headers = HTTPConnection(scope), Headers(scope=scope)
        try:
            self.hosts.check(request)
        except Refused as refused:
            return JSONResponse({"error": refused.detail}, refused.status_code)
        if scope["path"] not in OPEN and not self.access.allows(request):
            if "text/html" in headers.get("accept", ""):
                return HTMLResponse(LOGIN, 401)
            sentence = "the token is missing or wrong; send `Authorization: Bearer TOKEN`."
            return JSONResponse({"error": sentence}, 401, {"WWW-Authenticate": "Bearer"})
        if scope["type"] == "websocket" and scope["path"] != LIVE:
            return JSONResponse({"error": f"the only websocket is {LIVE}."}, 404)
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._most(scope):
            return JSONResponse({"error": too_large(self._most(scope)).detail}, 413)
        return None


class Body:
    """A body that is counted while it is received; `receive` raises `Refused` beyond a limit."""

    def __init__(self, gate: Gate, receive: Receive, most: int) -> None:
        self.received = 0
        self._gate, self._receive, self._most = gate, receive, most
        self._waited, self._whole = 0.0, False

    async def receive(self) -> Message:
        """Return the next part of the body; only time spent waiting for it counts."""
        if self._whole:
            return await self._receive()
        limits = self._gate.limits
        left = limits.patience + self.received / limits.slowest - self._waited
        started = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, left))
        except TimeoutError as error:
            raise Refused(
                408, "the upload was too slow; try again on a faster connection."
            ) from error
        self._waited += time.monotonic() - started
        size = len(message.get("body", b""))
        self.received += size
        self._gate.held += size
        if self.received > self._most:
            raise too_large(self._most)
        if self._gate.held > limits.room:
            raise Refused(503, "too many uploads at once; try again later.", 10)
        self._whole = not message.get("more_body", False)
        return message


def too_large(most: int) -> Refused:
    """Return the error for a body that is too large."""
    return Refused(413, f"the upload is larger than {most / MEGABYTE:g} MB; send a smaller file.")


def _same(a: str, b: str) -> bool:
    return secrets.compare_digest(a.encode(), b.encode())
