"""The page: record or drop a clip, and see what is heard in it.

    gr.Audio -> a copy in a folder of the event -> Service.hear -> HTML and figures -> both deleted

Gradio writes uploads into a cache of its own, which here is a folder of the server's; what an
upload leaves there that was never asked about (it was cut off, the tab was closed) is swept away
when it is a minute old. Downloads are in the page itself, so that nothing of a clip stays here.
Nothing is fetched from anywhere else: system fonts, Gradio's own scripts, no analytics.
"""

import asyncio
import base64
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from ser.predict.formats import csv_rows, header, to_csv, to_json
from ser.predict.result import Result, Word, likeliest
from ser.serve.figures import attribute_plane, colour, waveform
from ser.serve.gate import LEFT
from ser.serve.limits import Refused
from ser.serve.listen import Heard
from ser.serve.service import Service

if TYPE_CHECKING:
    import gradio as gr

PLAYED = 5_000_000  # bytes of a clip that the page can play again
THEME = "() => { document.body.classList.toggle('dark') }"
STYLE = """
.ser-head {font-size: 1.3rem; font-weight: 600}
.ser-error {border-left: 4px solid #d55e00; padding: .6rem .9rem}
.ser-words {font-size: 1.05rem; line-height: 2}
.ser-words span {border-radius: 4px; padding: .15rem .25rem}
.ser-wide {overflow-x: auto}
.ser-wide table {border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums}
.ser-wide tr {border: 0 !important; border-bottom: 1px solid rgba(128,128,128,.3) !important}
.ser-wide table, .ser-wide thead, .ser-wide th, .ser-wide td {border: 0 !important}
.ser-wide th, .ser-wide td {padding: .25rem .6rem; text-align: right; white-space: nowrap}
.ser-wide th:first-child, .ser-wide td:first-child {text-align: left}
.dark audio {color-scheme: dark}
.ser-down a {display: inline-block; margin: .2rem .6rem .2rem 0; padding: .4rem 1rem;
  border: 1px solid currentcolor; border-radius: 6px; text-decoration: none; color: inherit}
"""


def mount(app: FastAPI, service: Service, folder: Path, name: str) -> None:
    """Put the page at / of an app; its uploads lie in `folder`/page, `name` is its run's."""
    import gradio as gr

    uploads = folder / "page"
    uploads.mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)  # the only way that Gradio has
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    theme = gr.themes.Base(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    app.router.lifespan_context = _swept(app.router.lifespan_context, uploads)
    gr.mount_gradio_app(
        app,
        build(service, folder, name),
        "/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=service.limits.max_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        theme=theme,
        css=STYLE,
    )


def build(service: Service, folder: Path, name: str) -> "gr.Blocks":
    """Return the page of a service; copies of clips lie in `folder` while they are heard."""
    import gradio as gr

    limits = service.limits
    page: gr.Blocks
    with gr.Blocks(title=f"ser · {name}", analytics_enabled=False) as page:
        with gr.Row():
            gr.HTML(f'<div class="ser-head">Emotions in speech · {escape(name)}</div>')
            dark = gr.Button("Light / dark", size="sm", scale=0, min_width=120, elem_id="theme")
        clip = gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label=f"Record or drop a clip, up to {limits.max_seconds:g} s and {limits.max_mb:g} MB",
            elem_id="clip",
        )
        timeline = gr.Checkbox(label="Next clip: cut it into segments, even if it is short")
        said = gr.HTML(elem_id="said")
        picture = gr.Plot(visible=False, show_label=False, elem_id="waveform")
        with gr.Row():
            bars = gr.Label(
                visible=False,
                show_label=False,
                show_heading=False,
                min_width=280,
                elem_id="bars",
            )
            plane = gr.Plot(visible=False, show_label=False, min_width=280, elem_id="plane")
        details = gr.HTML(elem_id="details")
        shown = [clip, said, picture, bars, plane, details]

        async def hear(path: str | None, segments: bool) -> list[Any]:
            return await answer(service, folder, path, segments)

        dark.click(None, js=THEME, api_visibility="private")
        gr.on(
            [clip.upload, clip.stop_recording],
            hear,
            [clip, timeline],
            shown,
            concurrency_limit=None,  # the service has the queue
            api_visibility="private",
        )
    return page


async def answer(service: Service, folder: Path, path: str | None, timeline: bool) -> list[Any]:
    """Return what each part of the page becomes when a clip was given; the clip is deleted."""
    import gradio as gr

    if path is None:
        return [gr.skip()] * 6
    given = Path(path)
    try:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            # the same clip given by two people is one file in Gradio's cache
            own = Path(place) / f"clip{given.suffix.lower()}"
            with contextlib.suppress(FileNotFoundError):
                os.link(given, own)
            result, heard = await service.hear(own, given.name, timeline=timeline, explain=True)
            player = _player(own)
    except Refused as refused:
        service.metrics.requests.labels("page", refused.status_code).inc()
        return [None, _error(str(refused.detail)), *[gr.update(visible=False)] * 3, ""]
    finally:
        shutil.rmtree(given.parent, ignore_errors=True)
    service.metrics.requests.labels("page", 200).inc()
    return [None, *_parts(service, result, heard, player, timeline)]


def _parts(
    service: Service, result: Result, heard: Heard, player: str, timeline: bool
) -> list[Any]:
    import gradio as gr

    classes = service.predictor.classes
    bars = gr.update(visible=False)
    if result.emotion is not None:
        bars = gr.update(value=dict(result.probabilities), visible=True)
    plane = gr.update(visible=False)
    if {"valence", "arousal"} <= set(result.attributes):
        plane = gr.update(value=attribute_plane(result), visible=True)
    return [
        _headline(result, classes) + player,
        gr.update(value=waveform(result, heard.envelope, classes), visible=True),
        bars,
        plane,
        _transcript(result) + _heads(result) + _downloads(service, result, timeline),
    ]


def _error(sentence: str) -> str:
    return f'<div class="ser-error" role="alert">{escape(sentence)}</div>'


def _headline(result: Result, classes: Any) -> str:
    said = ""
    if result.emotion is not None:
        mark = f'<span style="color:{colour(classes, result.emotion)}">●</span>'
        said = f"{mark} {escape(result.emotion)} ({result.probabilities[result.emotion]:.0%}) · "
    rated = " · ".join(f"{escape(k)} {v:.2f}" for k, v in result.attributes.items())
    head = f'<div class="ser-head">{said}{escape(result.path)} · {result.seconds:.1f} s</div>'
    return head + (f"<div>{rated}</div>" if rated else "")


def _player(path: Path) -> str:
    """Return a player that holds the clip itself, so that the file need not stay."""
    if path.stat().st_size > PLAYED:
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    kind = {".mp3": "mpeg", ".oga": "ogg", ".opus": "ogg"}.get(path.suffix, path.suffix[1:])
    return f'<audio controls style="width:100%" src="data:audio/{kind};base64,{data}"></audio>'


def _transcript(result: Result) -> str:
    """Return the words, shaded by their share of the attention where it is known."""
    if result.transcript is None:
        return ""
    most = max((word.weight for word in result.words), default=0.0) or 1.0
    words = " ".join(_shaded(word, most) for word in result.words) or escape(result.transcript)
    return f'<h3>Transcript</h3><div class="ser-words">{words or "(no words)"}</div>'


def _shaded(word: Word, most: float) -> str:
    alpha = 0.6 * word.weight / most
    return (
        f'<span style="background:rgba(213,94,0,{alpha:.2f})" '
        f'title="{word.weight:.0%} of the attention">{escape(word.word)}</span>'
    )


def _heads(result: Result) -> str:
    if not result.heads:
        return ""
    classes = list(result.probabilities)
    top = "".join(f"<th>{escape(name)}</th>" for name in ("head", "says", *classes))
    rows = ""
    for name, said in result.heads.items():
        cells = "".join(f"<td>{said[c]:.2f}</td>" for c in classes)
        rows += f"<tr><td>{escape(name)}</td><td>{escape(likeliest(said) or '')}</td>{cells}</tr>"
    agree = (
        f"{len(result.agreeing)} of {len(result.heads)} heads say {escape(result.emotion or '')}"
    )
    table = f'<div class="ser-wide"><table><tr>{top}</tr>{rows}</table></div>'
    return f"<h3>Heads</h3>{table}<p>{agree}.</p>"


def _downloads(service: Service, result: Result, timeline: bool) -> str:
    p, stem = service.predictor, escape(Path(result.path).stem, quote=True)
    csv = to_csv([header(p.classes, p.attributes, timeline)]) + csv_rows(result, timeline)
    links = [("csv", "text/csv", csv), ("json", "application/json", to_json(result) + "\n")]
    made = [
        f'<a download="{stem}.{form}" href="data:{kind};base64,'
        f'{base64.b64encode(text.encode()).decode()}">Download {form}</a>'
        for form, kind, text in links
    ]
    return f'<div class="ser-down">{"".join(made)}</div>'


def _swept(lifespan: Any, folder: Path) -> Any:
    """Return a lifespan in which what lies in a folder for too long is deleted."""

    async def sweep() -> None:
        while True:
            clean(folder, LEFT)
            await asyncio.sleep(LEFT / 4)

    @contextlib.asynccontextmanager
    async def swept(app: FastAPI) -> AsyncIterator[Any]:
        async with lifespan(app) as state:
            task = asyncio.create_task(sweep())
            try:
                yield state
            finally:
                task.cancel()

    return swept


def clean(folder: Path, age: float) -> None:
    """Delete the files below a folder that were not written to for `age` s, and empty folders."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder comes before it
        with contextlib.suppress(OSError):  # someone else deletes too, and a folder is not empty
            if time.time() - path.stat().st_mtime > age:
                path.rmdir() if path.is_dir() else path.unlink()
