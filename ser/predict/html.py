"""The HTML by which a notebook shows results and predictors: tables without external resources."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape


def facts(title: str, values: Mapping[str, str], notes: Iterable[str]) -> str:
    """Return a title, a row for each value that is not empty, and the notes."""
    rows = ((name, escape(value)) for name, value in values.items() if value)
    return block([f"<p><b>{title}</b></p>", table((), rows), *map(note, notes)])


def table(head: Sequence[str], rows: Iterable[Sequence[str]], wide: bool = False) -> str:
    """Return a table of cells that are HTML already; `wide` gives the last column the rest."""
    names = "".join(f"<th>{name}</th>" for name in head)
    last = ' style="width:100%;text-align:left"' if wide else ""
    lines = [f"<tr>{names}</tr>"] if head else []
    for *cells, end in rows:
        lines.append(f"<tr>{''.join(f'<td>{c}</td>' for c in cells)}<td{last}>{end}</td></tr>")
    style = ' style="width:24em"' if wide else ""
    return f"<table{style}>{''.join(lines)}</table>"


def note(text: str) -> str:
    """Return a note as a paragraph."""
    return f"<p>Note: {escape(text)}</p>"


def block(parts: Iterable[str]) -> str:
    """Return the parts one below another."""
    return f'<div style="max-width:48em">{"".join(parts)}</div>'
