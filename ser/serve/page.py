"""The page: record, drop or try a clip, or speak, and see what is predicted.

    gr.Audio -> POST upload -> `Uploads` -> Service.predict -> HTML and figures -> deleted
    live.js  -> /live (`ser.serve.live`) -> bars and windows

Gradio draws the page and carries its events; files do not pass through it. Uploading a clip and
playing it before it is answered are routes of our own, and of Gradio's routes only those of
`ser.serve.narrow` can be reached. The example is a file of the package, which the browser fetches
and uploads like any other clip. Downloads are in the page itself, so that nothing of a clip stays
here. Nothing is fetched from anywhere else: system fonts, Gradio's own scripts, no analytics.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from ser.predict.formats import header, to_csv
from ser.predict.result import Result
from ser.serve import parts
from ser.serve.app import receive
from ser.serve.decoders import Decoded
from ser.serve.description import describe, read_card
from ser.serve.figures import attribute_plane, waveform
from ser.serve.limits import Refused
from ser.serve.narrow import AllowedRoutes
from ser.serve.service import Service
from ser.serve.sessions import Sessions
from ser.serve.uploads import AGE, Uploads

if TYPE_CHECKING:
    import gradio as gr

EXAMPLE = Path(__file__).with_name("example.ogg")  # synthetic: `make example`
RECORDER = Path(__file__).with_name("recorder.js")  # for the thread of audio of the browser
LIVE = Path(__file__).with_name("live.js")
THEME = "() => { document.body.classList.toggle('dark') }"
GIVE_EXAMPLE = """async () => {
  const input = () => document.querySelector("#clip input[type=file]");
  if (!input()) document.querySelector("#clip button[aria-label='Upload file']")?.click();
  const answer = await fetch("example.ogg");
  const files = new DataTransfer();
  files.items.add(new File([await answer.blob()], "example.ogg", {type: "audio/ogg"}));
  for (let tries = 0; !input() && tries < 20; tries++) await new Promise(r => setTimeout(r, 100));
  input().files = files.files;
  input().dispatchEvent(new Event("change", {bubbles: true}));
}"""


def mount(app: FastAPI, service: Service, folder: Path, name: str) -> None:
    """Put the page at / of an app; uploads are kept in `folder`/page, `name` is the run's."""
    (folder / "page").mkdir()
    uploads = Uploads(folder / "page")
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "page")  # otherwise Gradio copies the clips
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr
    from gradio.themes import Base

    theme = Base(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    app.router.lifespan_context = _swept(app.router.lifespan_context, uploads)
    _add_uploads(app, service, uploads)
    sessions = Sessions()
    page, event = build(service, uploads, sessions, name)
    gr.mount_gradio_app(
        app,
        page,
        "/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=service.limits.max_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        theme=theme,
        css=parts.STYLE,
    )
    mounted: Any = app.router.routes[-1]
    mounted.app = AllowedRoutes(mounted.app, app.router.routes[:-1], uploads, sessions, event)


def _add_uploads(app: FastAPI, service: Service, uploads: Uploads) -> None:
    """Add the routes by which Gradio's scripts send a clip and play it."""

    @app.post("/gradio_api/upload", include_in_schema=False)
    async def upload(request: Request) -> Response:
        folder = uploads.new_folder()
        try:
            async with service.time_limit():
                path, name = await receive(request, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        uploads.add(path, name)
        return JSONResponse([str(path)])

    @app.get("/gradio_api/upload_progress", include_in_schema=False)
    async def progress() -> Response:
        """Answer at once that the upload is done: the page shows no progress bar."""
        return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    @app.get("/gradio_api/file={path:path}", include_in_schema=False)
    async def play(path: str) -> Response:
        waiting = uploads.find(path)
        if waiting is None:
            raise Refused(404, "Not Found")
        return FileResponse(waiting.path, headers={"X-Content-Type-Options": "nosniff"})

    @app.get("/example.ogg", include_in_schema=False)
    async def example() -> Response:
        return FileResponse(EXAMPLE, media_type="audio/ogg")

    @app.get("/recorder.js", include_in_schema=False)
    async def recorder() -> Response:
        return FileResponse(RECORDER, media_type="text/javascript")


def build(
    service: Service, uploads: Uploads, sessions: Sessions, name: str
) -> "tuple[gr.Blocks, int]":
    """Return the page of a service, and the number of the event by which a clip is given."""
    import gradio as gr

    limits, predictor = service.limits, service.predictor
    about = parts.about_html(name, describe(predictor), predictor.notes, read_card(predictor))
    page: gr.Blocks
    with gr.Blocks(title=f"ser · {name}", analytics_enabled=False) as page:
        gr.HTML(about, elem_id="about")
        clip = gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label=f"Record or drop a clip, up to {limits.max_seconds:g} s and {limits.max_mb:g} MB",
            elem_id="clip",
        )
        with gr.Row():
            example = gr.Button("Try an example (synthetic speech)", size="sm", elem_id="example")
            dark = gr.Button("Light / dark", size="sm", elem_id="theme")
        timeline = gr.Checkbox(label="Segment the next clip, even if it is short")
        script = LIVE.read_text(encoding="utf-8")
        live = parts.live_html(predictor.classes, limits.streams)
        gr.HTML(live, elem_id="live", js_on_load=script)
        result = gr.HTML(elem_id="result")
        picture = gr.Plot(visible=False, show_label=False, elem_id="waveform")
        with gr.Row():
            bars = gr.HTML(visible=False, elem_id="bars")
            plane = gr.Plot(visible=False, show_label=False, min_width=280, elem_id="plane")
        details = gr.HTML(elem_id="details")
        outputs = [clip, result, picture, bars, plane, details]

        async def predict(path: str | None, segments: bool, request: gr.Request) -> list[object]:
            work = answer(service, uploads, path, segments)
            return await sessions.run(request.session_hash or "", work)

        dark.click(None, js=THEME, api_visibility="private")
        example.click(None, js=GIVE_EXAMPLE, api_visibility="private")
        event = gr.on(
            [clip.upload, clip.stop_recording],
            predict,
            [clip, timeline],
            outputs,
            concurrency_limit=None,  # the service has the queue
            api_visibility="private",
        )
    return page, event["id"]


async def answer(
    service: Service, uploads: Uploads, path: str | None, timeline: bool
) -> list[object]:
    """Return the new value of each output of the page for a clip; the clip is deleted."""
    import gradio as gr

    if path is None:
        return [gr.skip()] * 6
    upload = uploads.take(path)
    try:
        if upload is None:
            raise Refused(422, "this clip was not uploaded, or too long ago; upload it again.")
        async with service.time_limit():
            result, decoded = await service.predict(
                upload.path, upload.name, timeline=timeline, explain=True
            )
        headline = parts.result_html(result, service.predictor.classes, upload.path)
    except Refused as refused:
        service.metrics.requests.labels("page", refused.status_code).inc()
        return [None, parts.error_html(str(refused.detail)), *[gr.update(visible=False)] * 3, ""]
    finally:
        if upload is not None:
            upload.delete()
    service.metrics.requests.labels("page", 200).inc()
    return [None, headline, *_outputs(service, result, decoded, timeline)]


def _outputs(service: Service, result: Result, decoded: Decoded, timeline: bool) -> list[object]:
    """Return waveform, bars, plane and details."""
    import gradio as gr

    classes, attributes = service.predictor.classes, service.predictor.attributes
    unsure = service.predictor.min_confidence is not None
    columns = header(classes, attributes, timeline, unsure)
    bars = plane = gr.update(visible=False)
    if result.emotion is not None:
        bars = gr.update(value=parts.bars_html(result, classes), visible=True)
    if {"valence", "arousal"} <= set(result.attributes):
        plane = gr.update(value=attribute_plane(result), visible=True)
    return [
        gr.update(value=waveform(result, decoded.envelope, classes), visible=True),
        bars,
        plane,
        parts.details_html(result, to_csv([columns]), timeline),
    ]


def _swept(lifespan: Any, uploads: Uploads) -> Any:
    """Return a lifespan in which uploads that are never used are deleted."""

    async def sweep() -> None:
        while True:
            uploads.sweep()
            await asyncio.sleep(AGE / 4)

    @contextlib.asynccontextmanager
    async def swept(app: FastAPI) -> AsyncIterator[object]:
        async with lifespan(app) as state:
            task = asyncio.create_task(sweep())
            try:
                yield state
            finally:
                task.cancel()

    return swept
