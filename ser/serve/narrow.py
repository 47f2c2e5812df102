"""An allowlist of Gradio's routes: those that the page needs; all others are answered with 404.

Gradio has some eighty routes, and many take a path or a URL of a file (`file=`, `proxy=`, `stream`,
`component_server`, deep links, …). The page needs ten of them. Its uploads are routes of our own
(`ser.serve.page`), and requests that join Gradio's queue are rebuilt from the few values that the
page sends: an uploaded clip (see `ser.serve.uploads`), a checkbox, and the numbers by which Gradio
finds the browser again.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Annotated
from urllib.parse import parse_qsl, urlencode

from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ser.serve.app import error_response
from ser.serve.limits import Refused
from ser.serve.sessions import Sessions
from ser.serve.uploads import Uploads

JOIN = "/gradio_api/queue/join"
DATA = "/gradio_api/queue/data"
SESSION = r"[A-Za-z0-9]{1,64}"
# path -> the allowed parameters of its query
GET = {
    r"/": (),
    r"/config": (),
    r"/theme\.css": (),
    r"/favicon\.ico": (),
    r"/manifest\.json": (),
    r"/(assets|static)/[A-Za-z0-9_./-]+": (),
    r"/gradio_api/startup-events": (),
    r"/gradio_api/app_id": (),
    rf"/gradio_api/heartbeat/{SESSION}": (),
    DATA: ("session_hash",),
}
Number = Annotated[int, Field(ge=0, le=1_000_000)]


class Clip(BaseModel):
    """A file as Gradio's scripts send it; other fields are ignored."""

    path: str = Field(max_length=4096)


class JoinRequest(BaseModel):
    """A request of the page: a clip, and whether to segment it."""

    data: tuple[Clip | None, bool]
    fn_index: Number
    trigger_id: Number | None = None
    session_hash: str = Field(pattern=rf"^{SESSION}$")


class AllowedRoutes:
    """Middleware that passes the page's requests to Gradio and refuses all others.

    `own` are the routes before it, `event` is the number of the only event of the page.
    """

    def __init__(
        self,
        app: ASGIApp,
        own: Sequence[BaseRoute],
        uploads: Uploads,
        sessions: Sessions,
        event: int,
    ) -> None:
        self.app, self.own, self.event = app, own, event
        self.uploads, self.sessions = uploads, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; raises `Refused`."""
        request = Request(scope, receive)
        path, method = scope["path"], scope["method"]
        if path == JOIN and method == "POST":
            body = await self._join(request)
            scope = {**scope, "headers": _json_headers(scope["headers"], body), "query_string": b""}
            await self.app(scope, _with_body(body, receive), _own_errors(request, send))
            return
        names = next((names for route, names in GET.items() if re.fullmatch(route, path)), None)
        if names is None or method not in ("GET", "HEAD") or ".." in path:
            raise self._not_found(scope)
        scope = {**scope, "query_string": _kept(scope, names)}
        with contextlib.ExitStack() as stack:
            if path == DATA:
                session = request.query_params.get("session_hash", "")
                if not self.sessions.knows(session):
                    raise Refused(404, "Not Found")
                stack.enter_context(self.sessions.stream(session))
            await self.app(scope, receive, _own_errors(request, send))

    def _not_found(self, scope: Scope) -> HTTPException:
        """Return 405 for a wrong method of our own routes, which the mount at / hides, else 404."""
        for route in self.own:
            if route.matches(scope)[0] == Match.PARTIAL:
                methods = ", ".join(sorted(getattr(route, "methods", None) or ()))
                return HTTPException(405, headers={"Allow": methods})
        return HTTPException(404)

    async def _join(self, request: Request) -> bytes:
        """Return the body for Gradio, made of validated values only."""
        try:
            join = JoinRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise Refused(422, "the request is not one of the page; reload the page.") from error
        if join.fn_index != self.event:
            raise Refused(422, "the page has no such event; reload the page.")
        clip = join.data[0]
        if clip is not None and self.uploads.find(clip.path) is None:
            raise Refused(422, "this clip was not uploaded, or too long ago; upload it again.")
        file: object = clip and {"path": clip.path, "meta": {"_type": "gradio.FileData"}}
        self.sessions.join(join.session_hash)
        clean = join.model_dump() | {"data": [file, join.data[1]]}
        return json.dumps(clean).encode()


def _own_errors(request: Request, send: Send) -> Send:
    """Return a `send` that gives Gradio's errors the form of all errors."""
    refused = False

    async def sent(message: Message) -> None:
        nonlocal refused
        if message["type"] == "http.response.start" and message["status"] >= 400:
            refused = True
            response = await error_response(request, HTTPException(message["status"]))
            await response(request.scope, request.receive, send)
        elif not refused:
            await send(message)

    return sent


def _json_headers(headers: list[tuple[bytes, bytes]], body: bytes) -> list[tuple[bytes, bytes]]:
    ours = {b"content-type": b"application/json", b"content-length": str(len(body)).encode()}
    drop = {*ours, b"transfer-encoding", b"content-encoding"}
    return [*((k, v) for k, v in headers if k not in drop), *ours.items()]


def _with_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that returns the body once, then the messages after it."""
    messages: Iterator[Message]
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def body_first() -> Message:
        return next(messages, None) or await receive()

    return body_first


def _kept(scope: Scope, names: tuple[str, ...]) -> bytes:
    query = parse_qsl(scope["query_string"].decode("latin-1"))
    return urlencode([(k, v) for k, v in query if k in names]).encode()
