"""The HTTP API: POST /predict, GET /health, GET /metrics, and its description at /docs.

    client -> Gate (token, limits of the body) -> a folder of the request -> Service -> JSON

Whatever happens, the folder of a request is deleted at its end. The description is served with its
scripts (fastapi-offline), so that no browser asks anyone else.
"""

import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Form, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from corpus.audio import SUFFIXES
from ser.predict.formats import to_json
from ser.serve.gate import COOKIE, Access, Gate
from ser.serve.limits import Refused
from ser.serve.schema import Answer, Error, Health
from ser.serve.service import Service

ERRORS = {
    400: "The form cannot be read.",
    401: "The token is missing or wrong.",
    408: "The upload came too slowly.",
    413: "The upload has too many bytes, or the audio too many seconds.",
    422: "It is no audio, it is damaged or holds no speech, or the query is wrong.",
    503: "The queue is full; `Retry-After` says when to try again.",
    504: "The answer took too long.",
}
BINARY = {"schema": {"type": "string", "format": "binary"}}
FORM = {"type": "object", "properties": {"file": BINARY["schema"]}, "required": ["file"]}
UPLOAD = {
    "requestBody": {
        "required": True,
        "description": "A file of a form, or the bytes of the audio themselves.",
        "content": {
            "multipart/form-data": {"schema": FORM},
            "application/octet-stream": BINARY,
            "audio/*": BINARY,
        },
    }
}
Flag = Annotated[bool, Query()]


def create_app(service: Service, token: str, folder: Path) -> FastAPI:
    """Return the API of a service; uploads lie in `folder` while they are looked at.

    Everything but /health wants the token, where it is not empty.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPIOffline(
        title="ser",
        description="Emotions in speech, by a run that was trained.",
        docs_url="/docs",
        redoc_url=None,
        lifespan=lifespan,
    )
    access = Access(token)
    app.add_middleware(
        Gate,
        access=access,
        limits=service.limits,
        count=lambda status: service.metrics.requests.labels("api", status).inc(),
    )
    app.exception_handler(HTTPException)(_sentence)
    app.exception_handler(RequestValidationError)(_field)
    app.exception_handler(Exception)(_bug)

    @app.post(
        "/predict",
        response_model=Answer,
        responses={status: {"model": Error, "description": why} for status, why in ERRORS.items()},
        openapi_extra=UPLOAD,
    )
    async def predict(request: Request, timeline: Flag = False, explain: Flag = False) -> Response:
        """Say what is heard in a clip; `timeline` cuts short ones too, `explain` says why."""
        service.require_room()
        with tempfile.TemporaryDirectory(dir=folder) as place:
            path, name = await receive(request, Path(place))
            result, _ = await service.hear(path, name, timeline=timeline, explain=explain)
        return Response(to_json(result) + "\n", media_type="application/json")

    @app.get("/health", responses={200: {"model": Health}, 503: {"model": Health}})
    async def health() -> Response:
        """Tell whether the models are loaded."""
        said = "ready" if service.ready else "loading"
        return JSONResponse({"status": said}, 200 if service.ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return the counts in Prometheus's text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.post("/login", include_in_schema=False)
    async def login(token: Annotated[str, Form()] = "") -> Response:
        """Set the session's cookie for one who knows the token."""
        if not access.knows(token):
            return RedirectResponse(".", 303)  # where the form is again
        answer = RedirectResponse(".", 303)
        answer.set_cookie(COOKIE, access.session, httponly=True, samesite="strict")
        return answer

    return app


async def receive(request: Request, place: Path) -> tuple[Path, str]:
    """Write the audio of a request into a folder; return the file and the client's name of it.

    Raises `Refused` for a form without a file and for an empty body.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        path = place / "clip"
        with path.open("wb") as file:
            async for part in request.stream():
                file.write(part)
        return _not_empty(path), "audio"
    async with request.form(max_files=1, max_fields=8) as form:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise Refused(422, "there is no file in the form; send one as the field `file`.")
        name = Path((files[0].filename or "audio").replace("\\", "/")).name
        suffix = Path(name).suffix.lower()
        path = place / f"clip{suffix if suffix in SUFFIXES else ''}"
        with path.open("wb") as file:
            while part := await files[0].read(1 << 20):
                file.write(part)
    return _not_empty(path), name


def _not_empty(path: Path) -> Path:
    if not path.stat().st_size:
        raise Refused(422, "there is no audio in the request; send a file, or its bytes.")
    return path


async def _sentence(request: Request, error: Any) -> Response:
    said = str(error.detail)
    if said == HTTPStatus(error.status_code).phrase:  # a route that is not there, or not so
        said = f"{request.method} {request.url.path}: {said.lower()}; /docs lists what there is."
    return JSONResponse({"error": said}, error.status_code, error.headers)


async def _field(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    said = f"{first['loc'][-1]}: {first['msg'][0].lower()}{first['msg'][1:]}."
    return JSONResponse({"error": said}, 422)


async def _bug(request: Request, error: Any) -> Response:
    logging.getLogger("ser.serve").error("a request failed", exc_info=error)
    return JSONResponse({"error": "this is a bug of the server; its log says more."}, 500)
