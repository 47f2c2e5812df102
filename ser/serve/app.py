"""The API: POST /predict, the websocket /live, GET /health and /metrics, described at /docs.

    client -> Gate (token, limits of the body) -> a folder of the request -> Service -> JSON

The folder of a request is always deleted at its end. The description is served with its scripts
(fastapi-offline), so that browsers contact no other server.
"""

import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, NoReturn

from fastapi import Depends, FastAPI, Form, Query, Request, WebSocket
from fastapi import params as parameters
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ser.corpus.config import problem_of
from ser.corpus.decoding.suffixes import SUFFIXES
from ser.predict.formats import to_json
from ser.serve.cancelling import unless
from ser.serve.gate import COOKIE, LIVE, Access, Gate
from ser.serve.hosts import Hosts
from ser.serve.limits import Refused
from ser.serve.live import serve_live
from ser.serve.schema import Answer, Error, Health
from ser.serve.service import Service

DESCRIPTION = """\
Speech emotion recognition by a trained run.

The websocket `/live` predicts on live audio, window by window; docs/serve.md describes it.
"""
HOST = {
    400: "The request has no host, or cannot be read.",
    403: "The request comes from another site.",
    421: "This server does not answer to this host.",
}
ACCESS = HOST | {401: "The token is missing or wrong."}
PREDICT = ACCESS | {
    408: "The upload was too slow.",
    413: "The upload is too large, or the audio too long.",
    422: "The file is not audio, is damaged or has no speech, or the query is invalid.",
    503: "The queue is full; see `Retry-After`.",
    504: "The prediction took too long.",
}
ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
BINARY = {"schema": {"type": "string", "format": "binary"}}
FORM = {"type": "object", "properties": {"file": BINARY["schema"]}, "required": ["file"]}
UPLOAD = {
    "requestBody": {
        "required": True,
        "description": "A form with one file, or the bytes of the audio.",
        "content": {
            "multipart/form-data": {
                "schema": FORM,
                "encoding": {"file": {"contentType": "audio/*"}},
            },
            "application/octet-stream": BINARY,
            "audio/*": BINARY,
        },
    }
}
Responses = dict[int | str, Any]  # as FastAPI takes them
HEALTH: Responses = {200: {"model": Health}, 503: {"model": Health}}


class Options(BaseModel):
    """The query of a prediction; another key is an error."""

    model_config = ConfigDict(extra="forbid")
    timeline: bool = False
    explain: bool = False


def create_app(service: Service, token: str, folder: Path, hosts: Hosts | None = None) -> FastAPI:
    """Return the API of a service; `folder` holds uploads while they are processed.

    Everything but /health requires the token, unless it is empty. Without `hosts`, only requests to
    the loopback interface are accepted.
    """
    access = Access(token)
    bearer = [Depends(HTTPBearer(auto_error=False))] if token else []  # only described; see Gate
    app = _without_routes(service, access, hosts or Hosts())
    _add_predict(app, service, folder, bearer)
    _add_login(app, access)

    @app.get("/health", responses=HEALTH | _described(HOST))
    async def health() -> Response:
        """Return whether the models are loaded."""
        status = "ready" if service.ready else "loading"
        return JSONResponse({"status": status}, 200 if service.ready else 503)

    @app.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses=_described(ACCESS),
        dependencies=bearer,
    )
    async def metrics() -> Response:
        """Return the counters in Prometheus's text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.websocket(LIVE)
    async def live(socket: WebSocket) -> None:
        await serve_live(socket, service)

    return app


def _add_predict(
    app: FastAPI, service: Service, folder: Path, dependencies: Sequence[parameters.Depends]
) -> None:
    """Add POST /predict."""

    @app.post(
        "/predict",
        response_model=Answer,
        responses=_described(PREDICT) | {422: {"model": Error, "description": PREDICT[422]}},
        dependencies=dependencies,
        openapi_extra=UPLOAD,
    )
    async def predict(request: Request, options: Annotated[Options, Query()]) -> Response:
        """Predict on a clip; `timeline` segments short ones too, `explain` adds attention."""
        service.require_capacity()
        with tempfile.TemporaryDirectory(dir=folder) as place:
            async with service.time_limit():
                path, name = await receive(request, Path(place))
                work = service.predict(path, name, **options.model_dump())
                result, _ = await unless(_disconnected(request), work)
        return Response(to_json(result) + "\n", media_type="application/json")


def _add_login(app: FastAPI, access: Access) -> None:
    """Add the form by which a browser gets the session's cookie."""

    @app.post("/login", include_in_schema=False)
    async def login(request: Request, token: Annotated[str, Form()] = "") -> Response:
        """Set the session's cookie if the token is right; otherwise the form is shown again."""
        response = RedirectResponse(".", 303)
        if access.knows(token):
            secure = request.url.scheme == "https"
            response.set_cookie(
                COOKIE, access.session, secure=secure, httponly=True, samesite="strict"
            )
        return response


def _without_routes(service: Service, access: Access, hosts: Hosts) -> FastAPI:
    """Return the application with its gate and its answers to errors."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPIOffline(
        title="ser",
        description=DESCRIPTION,
        docs_url="/docs",
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(
        Gate,
        hosts=hosts,
        access=access,
        limits=service.limits,
        count=lambda status: service.metrics.requests.labels("api", status).inc(),
    )
    app.exception_handler(HTTPException)(error_response)
    app.exception_handler(RequestValidationError)(_field)
    app.exception_handler(ClientDisconnect)(_gone)
    app.exception_handler(Exception)(_bug)
    return app


def _described(statuses: dict[int, str]) -> Responses:
    """Return the error responses of an OpenAPI description."""
    return {status: {"description": why, "content": ERROR} for status, why in statuses.items()}


async def _disconnected(request: Request) -> NoReturn:
    """Wait until the client disconnects."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise Refused(499, "the client has disconnected.")  # nobody reads it


async def receive(request: Request, place: Path) -> tuple[Path, str]:
    """Write the audio of a request into a folder; return the file and the name the client gave it.

    Raises `Refused` for a form without a file and for an empty body.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        path = place / "clip"
        with path.open("wb") as file:
            async for part in request.stream():
                file.write(part)
        return _not_empty(path), "audio"
    async with _form(request) as form:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise Refused(422, "the form has no file; send one in the field `file`.")
        name = Path((files[0].filename or "audio").replace("\\", "/")).name
        suffix = Path(name).suffix.lower()
        path = place / f"clip{suffix if suffix in SUFFIXES else ''}"
        with path.open("wb") as file:
            while part := await files[0].read(1 << 20):
                file.write(part)
    return _not_empty(path), name


@contextlib.asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    try:
        async with request.form(max_files=1, max_fields=8) as form:
            yield form
    except HTTPException as error:
        if isinstance(error, Refused):
            raise
        problem = str(error.detail).rstrip(".").lower()
        raise Refused(
            400, f"the form cannot be read ({problem}); send one file in the field `file`."
        ) from error


def _not_empty(path: Path) -> Path:
    if not path.stat().st_size:
        raise Refused(422, "the request has no audio; send a file, or its bytes.")
    return path


async def error_response(request: Request, error: HTTPException) -> Response:
    """Return `{"error": "one sentence"}` with the status and the headers of an exception."""
    sentence = str(error.detail)
    if sentence == HTTPStatus(error.status_code).phrase:  # the framework's: no such route or method
        sentence = f"{request.method} {request.url.path}: {sentence.lower()}; /docs lists the API."
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


async def _field(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    problem, _ = problem_of(first)
    return JSONResponse({"error": f"{first['loc'][-1]}: {problem}."}, 422)


async def _gone(request: Request, error: object) -> Response:
    """Answer a client that disconnected or did not send HTTP, which is not a bug of the server."""
    return JSONResponse({"error": "the client has disconnected."}, 499)


async def _bug(request: Request, error: Exception) -> Response:
    logging.getLogger("ser.serve").error("a request failed", exc_info=error)
    return JSONResponse({"error": "internal error of the server; see its log."}, 500)
