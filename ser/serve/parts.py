"""The parts of the page as HTML: the model, the result, its transcript, heads and downloads."""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from ser.predict.formats import csv_rows, to_json
from ser.predict.result import Result, Word, most_probable
from ser.serve.description import LIMITS, percent
from ser.serve.figures import colour

LIVE_WINDOWS = {"window": 5, "hop": 2.5}  # s
PLAYED = 5_000_000  # bytes of a clip that the page can play again
STYLE = """
.column:has(#about) {width: 100%; min-width: 0; max-width: 960px; margin: 0 auto}
.ser-title {font-size: 1.35rem; font-weight: 650; overflow-wrap: anywhere}
.ser-head {font-size: 1.3rem; font-weight: 600; overflow-wrap: anywhere}
.ser-quiet {opacity: .75}
.ser-about {display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0}
.ser-about dt {font-weight: 600; opacity: .75}
.ser-about dd {margin: 0; overflow-wrap: anywhere}
.ser-card pre {white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem}
.ser-card summary {cursor: pointer}
.ser-error {border-left: 4px solid #d55e00; padding: .6rem .9rem}
.ser-note {border-left: 4px solid #e69f00; padding: .4rem .9rem; margin: .4rem 0}
.ser-bars {display: grid; grid-template-columns: max-content 1fr max-content; gap: .3rem .7rem;
  align-items: center; font-variant-numeric: tabular-nums}
.ser-bars i {display: block; height: .9rem; min-width: 2px; border-radius: 3px}
.ser-bars span:nth-child(3n) {text-align: right}
.ser-words {font-size: 1.05rem; line-height: 2}
.ser-words span {border-radius: 4px; padding: .15rem .25rem}
.ser-wide {overflow-x: auto}
.ser-wide table {border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums}
.ser-wide tr {border: 0 !important; border-bottom: 1px solid rgba(128,128,128,.3) !important}
.ser-wide table, .ser-wide thead, .ser-wide th, .ser-wide td {border: 0 !important}
.ser-wide th, .ser-wide td {padding: .25rem .6rem; text-align: right; white-space: nowrap}
.ser-wide th:first-child, .ser-wide td:first-child {text-align: left; padding-left: 0}
.ser-wide td.ser-top {font-weight: 700}
.ser-live button, .ser-down a {margin: .2rem .6rem .2rem 0; padding: .4rem 1rem; cursor: pointer;
  border: 1px solid currentcolor; border-radius: 6px; text-decoration: none; color: inherit}
.ser-live [hidden] {display: none}
.ser-live .ser-wide :is(th, td) {text-align: left; white-space: normal}
.ser-live-windows {max-height: 20rem; overflow: auto}
.dark audio {color-scheme: dark}
.ser-down a {display: inline-block}
#clip .audio-container {height: auto !important}
#clip .upload-container {height: 8.5rem !important}
#example, #theme {flex: none}
#bars {flex: 1 1 280px !important; min-width: min(280px, 100%) !important}
.ser-title {margin-bottom: .4rem}
@media (max-width: 600px) {
  .ser-about {grid-template-columns: 1fr; gap: 0}
  .ser-about dd {margin-bottom: .4rem}
  .ser-wide td:first-child, .ser-wide th:first-child {position: sticky; left: 0; max-width: 8.5rem;
    white-space: normal; background: var(--body-background-fill)}
}
"""


def about_html(
    name: str, description: Mapping[str, str], notes: Sequence[str], card: str | None
) -> str:
    """Return the description of the model; `notes` are those of every answer."""
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in description.items())
    shown = "".join(_note(note) for note in notes)
    folded = ""
    if card is not None:
        folded = f"<details><summary>Model card</summary><pre>{escape(card)}</pre></details>"
    return (
        f'<div class="ser-title">Speech emotion recognition · {escape(name)}</div>'
        f'<dl class="ser-about">{rows}</dl>{shown}<div class="ser-quiet">{escape(LIMITS)}</div>'
        f'<div class="ser-card">{folded}</div>'
    )


def live_html(classes: Sequence[str], streams: int) -> str:
    """Return the button Live and what it fills (`live.js`); the server has `streams` at a time."""
    colours = {name: colour(classes, name) for name in classes}
    settings = json.dumps({"colours": colours, "streams": streams, **LIVE_WINDOWS})
    return (
        f'<section class="ser-live" aria-label="Live" data-live="{escape(settings)}">'
        '<button type="button">Live</button>'
        '<span class="ser-live-status ser-quiet" role="status"></span>'
        '<div class="ser-live-error ser-error" role="alert" hidden></div>'
        '<div class="ser-live-top ser-head" aria-live="polite"></div>'
        '<div class="ser-live-bars ser-bars"></div>'
        '<div class="ser-live-late ser-note" role="note" hidden></div>'
        '<div class="ser-live-windows ser-wide" tabindex="0" role="region" '
        'aria-label="Windows of the live audio" hidden><table><thead><tr><th>window</th>'
        "<th>prediction</th></tr></thead><tbody></tbody></table></div></section>"
    )


def error_html(sentence: str) -> str:
    """Return why there is no result."""
    return f'<div class="ser-error" role="alert">{escape(sentence)}</div>'


def result_html(result: Result, classes: Sequence[str], clip: Path) -> str:
    """Return the emotion, the attributes, the notes and a player of the clip."""
    emotion = ""
    if result.emotion is not None:
        mark = f'<span style="color:{colour(classes, result.emotion)}">●</span>'
        share = percent(result.probabilities[result.emotion])
        shown = f"{escape(result.emotion)} ({share})"
        shown = f"unsure: {shown}" if result.unsure else shown
        emotion = f'<div class="ser-head">{mark} {shown}</div>'
    attributes = " · ".join(f"{escape(k)} {v:.2f}" for k, v in result.attributes.items())
    name = f'<div class="ser-quiet">{escape(result.path)} · {result.seconds:.1f} s</div>'
    notes = "".join(_note(note) for note in result.notes)
    return f"{emotion}<div>{attributes}</div>{name}{notes}{_player(clip)}"


def bars_html(result: Result, classes: Sequence[str]) -> str:
    """Return the probabilities as bars in the colours of the waveform, the highest first."""
    ranked = sorted(result.probabilities.items(), key=lambda item: -item[1])
    rows = "".join(
        f'<span>{escape(name)}</span><i style="width:{100 * p:.1f}%;'
        f'background:{colour(classes, name)}"></i><span>{percent(p)}</span>'
        for name, p in ranked
    )
    return f'<div class="ser-bars">{rows}</div>'


def details_html(result: Result, timeline_header: str, timeline: bool) -> str:
    """Return transcript, heads and downloads; `timeline_header` is the csv's first line."""
    downloads = downloads_html(result, timeline_header + csv_rows(result, timeline))
    return transcript_html(result) + heads_html(result) + downloads


def transcript_html(result: Result) -> str:
    """Return the words, shaded by their share of the attention if it is known."""
    if result.transcript is None:
        return ""
    most = max((word.weight for word in result.words), default=0.0) or 1.0
    words = " ".join(_shaded(word, most) for word in result.words) or escape(result.transcript)
    return f'<h3>Transcript</h3><div class="ser-words">{words or "(no words)"}</div>'


def heads_html(result: Result) -> str:
    """Return a table of each head's probabilities."""
    if not result.heads:
        return ""
    classes = list(result.probabilities)
    top = "".join(f"<th>{escape(name)}</th>" for name in ("head", "prediction", *classes))
    rows = ""
    for name, probabilities in result.heads.items():
        best = most_probable(probabilities)
        cells = "".join(
            f"<td{' class=ser-top' if c == best else ''}>{probabilities[c]:.2f}</td>"
            for c in classes
        )
        rows += f"<tr><td>{escape(name)}</td><td>{escape(best or '')}</td>{cells}</tr>"
    agree = f"{len(result.agreeing)} of {len(result.heads)} heads predict"
    table = f'<div class="ser-wide"><table><tr>{top}</tr>{rows}</table></div>'
    return f"<h3>Heads</h3>{table}<p>{agree} {escape(result.emotion or '')}.</p>"


def downloads_html(result: Result, csv: str) -> str:
    """Return links that hold the csv and the json of `ser predict`."""
    stem = escape(Path(result.path).stem, quote=True)
    files = [("csv", "text/csv", csv), ("json", "application/json", to_json(result) + "\n")]
    links = [
        f'<a download="{stem}.{form}" href="data:{kind};base64,'
        f'{base64.b64encode(text.encode()).decode()}">Download {form}</a>'
        for form, kind, text in files
    ]
    return f'<div class="ser-down">{"".join(links)}</div>'


def _note(note: str) -> str:
    return f'<div class="ser-note" role="note">{escape(note)}</div>'


def _player(path: Path) -> str:
    """Return a player that holds the clip itself, so that the file need not stay."""
    if path.stat().st_size > PLAYED:
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    kind = {".mp3": "mpeg", ".oga": "ogg", ".opus": "ogg"}.get(path.suffix, path.suffix[1:])
    return f'<audio controls style="width:100%" src="data:audio/{kind};base64,{data}"></audio>'


def _shaded(word: Word, most: float) -> str:
    alpha = 0.6 * word.weight / most
    return (
        f'<span style="background:rgba(213,94,0,{alpha:.2f})" '
        f'title="{percent(word.weight)} of the attention">{escape(word.word)}</span>'
    )
