"""Results and predictors as a notebook shows them: small tables without external resources."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ser.extract.extractor import FeatureOptions
    from ser.predict.predictor import Predictor
    from ser.predict.published import PublishedPredictor
    from ser.predict.result import Result

MOST_SEGMENTS = 20
BAR = "display:inline-block;height:0.7em;background:#0f766e;width:{:.0%}"


def result_html(result: "Result") -> str:
    """Return the probabilities, attributes, segments and notes of a result."""
    title = f"<b>{escape(result.path or 'clip')}</b>, {result.seconds:.1f} s"
    if result.emotion is not None:
        title += f": <b>{escape(result.label or '')}</b>"
    parts = [f"<p>{title}</p>"]
    if result.probabilities:
        ranked = sorted(result.probabilities.items(), key=lambda item: -item[1])
        bars = (
            (escape(name), f"{value:.2f}", f'<span style="{BAR.format(value)}"></span>')
            for name, value in ranked
        )
        parts.append(_table(("emotion", "probability", ""), bars, wide=True))
    if result.attributes:
        rows = ((escape(name), f"{value:.2f}") for name, value in result.attributes.items())
        parts.append(_table(("attribute", "1 to 7"), rows))
    if result.transcript:
        parts.append(f"<p>“{escape(result.transcript)}”</p>")
    if len(result.segments) > 1:
        parts.append(_segments(result))
    parts += [f"<p>Note: {escape(note)}</p>" for note in result.notes]
    return _block(parts)


def predictor_html(predictor: "Predictor") -> str:
    """Return what a predictor is: its run, heads, classes, features and notes."""
    stack = predictor.stack
    facts: Mapping[str, str] = {
        "run": str(predictor.source),
        "predicts by": f"the stack {stack.config.model}" if stack is not None else "one head",
        "heads": ", ".join(predictor.heads),
        "classes": ", ".join(predictor.classes),
        "attributes": ", ".join(predictor.attributes),
        "features": ", ".join(
            _feature(name, predictor.features.options[name]) for name in predictor.features.names
        ),
        "device": predictor.device,
    }
    return _facts("Predictor", facts, predictor.notes)


def published_html(predictor: "PublishedPredictor") -> str:
    """Return what a predictor without a run is: its model, its licence, what it predicts."""
    facts = {
        "model": str(predictor.source),
        "licence": predictor.licence or "",
        "classes": ", ".join(predictor.classes),
        "attributes": ", ".join(predictor.attributes),
        "device": predictor.device,
    }
    return _facts("Published classifier", facts, predictor.notes)


def _facts(title: str, facts: Mapping[str, str], notes: Iterable[str]) -> str:
    rows = ((name, escape(value)) for name, value in facts.items() if value)
    shown = [f"<p>Note: {escape(note)}</p>" for note in notes]
    return _block([f"<p><b>{title}</b></p>", _table((), rows), *shown])


def _feature(name: str, options: "FeatureOptions") -> str:
    return f"{name} ({options.pretrained})" if options.pretrained else name


def _segments(result: "Result") -> str:
    speakers = any(segment.speaker is not None for segment in result.segments)
    rows: list[Sequence[str]] = [
        (
            f"{segment.start:.1f} to {segment.end:.1f} s",
            *([escape(segment.speaker or "")] if speakers else []),
            escape(segment.label or ""),
            escape(segment.transcript or ""),
        )
        for segment in result.segments[:MOST_SEGMENTS]
    ]
    more = len(result.segments) - len(rows)
    head = ("segment", *(["speaker"] if speakers else []), "emotion", "transcript")
    rows += [(f"and {more} more", *[""] * (len(head) - 1))] if more else []
    return _table(head, rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], wide: bool = False) -> str:
    """Return a table of cells that are HTML already; `wide` gives the last column the rest."""
    names = "".join(f"<th>{name}</th>" for name in head)
    last = ' style="width:100%;text-align:left"' if wide else ""
    lines = [f"<tr>{names}</tr>"] if head else []
    for *cells, end in rows:
        lines.append(f"<tr>{''.join(f'<td>{c}</td>' for c in cells)}<td{last}>{end}</td></tr>")
    style = ' style="width:24em"' if wide else ""
    return f"<table{style}>{''.join(lines)}</table>"


def _block(parts: Iterable[str]) -> str:
    return f'<div style="max-width:48em">{"".join(parts)}</div>'
