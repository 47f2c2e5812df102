"""Write a run's report.

    <run>/report/report.html         one page, self-contained
    <run>/report/report.md           the same tables as GitHub markdown, links to the figures
    <run>/report/tables.tex          the same tables in LaTeX (booktabs)
    <run>/report/figures/<name>.*    the same figures as SVG and PNG, and their checksums.json

1. Make sections of what `ser.score.report.contents` gathered.
2. Draw the figure files in a headless Chrome or Chromium, if there is one.
3. Write the page, the markdown and the tables, each under a temporary name that is then renamed.

Files that would not change are not written, so `ser report` also works on a read-only run that is
up to date.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from ser.cache.checksums import checksum_of, checksums, is_undamaged
from ser.cache.record import Record
from ser.cache.swap import recover_folder, staged_folder
from ser.corpus.atomic import remove, remove_leftovers, write_if_changed
from ser.corpus.errors import DamagedError
from ser.score.report.contents import Contents
from ser.score.report.figures import Figure, templates
from ser.score.report.formats import MARKDOWN
from ser.score.report.page import render_page
from ser.score.report.section import Section
from ser.score.report.sections import sections

Format = Literal["svg", "png"]
FIGURES = "checksums.json"  # in the folder of figures
NO_BROWSER = (
    "no Chrome or Chromium could be started, so the figure files were not written; install one, or "
    "give `--figures none`"
)


class _NoBrowserError(Exception):
    """No browser could be started to draw in."""


class _Figures(Record):
    """figures/checksums.json: the figures that the files show, and their checksums."""

    remedy: ClassVar[str] = "make the report again with `ser report`"

    made_from: str
    checksums: dict[str, str]


def write_report(contents: Contents, formats: Sequence[Format] = ("svg", "png")) -> str | None:
    """Write the report; return why the figure files were not written, None when they were.

    The same run gives the same files, except for the versions and the machine that they name.
    """
    shown, folder = sections(contents), contents.run / "report"
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    problem = _write_figures(folder, [f for section in shown for f in section.figures], formats)
    linked = formats[0] if formats and problem is None else None
    title = f"{contents.run.name}: speech emotion recognition"
    tables = [table.latex() for section in shown for table in section.tables]
    latex = "\n".join(["% \\usepackage{booktabs} in the preamble", *tables])
    write_if_changed(folder / "tables.tex", latex)
    write_if_changed(folder / "report.md", _markdown(title, shown, linked))
    write_if_changed(folder / "report.html", render_page(title, shown))
    return problem


def _write_figures(
    folder: Path, figures: Sequence[Figure], formats: Sequence[Format]
) -> str | None:
    """Replace the folder of figure files, unless they are up to date."""
    place = folder / "figures"
    if not (formats and figures):
        remove(place)  # those of an earlier report are stale
        return None
    plots = [(figure.plot.to_json(), figure.width, figure.height) for figure in figures]
    made_from = checksum_of(json.dumps([plots, formats]))
    if _are_current(place, made_from):
        return None
    try:
        with staged_folder(place) as part:
            _draw(part, figures, formats)
            drawn = checksums(part, [path.name for path in part.iterdir()])
            _Figures(made_from=made_from, checksums=drawn).write(part / FIGURES)
    except _NoBrowserError:
        remove(place)
        return NO_BROWSER
    return None


def _are_current(folder: Path, made_from: str) -> bool:
    recover_folder(folder)
    try:
        record = _Figures.read(folder / FIGURES)
    except DamagedError:
        return False
    return record.made_from == made_from and is_undamaged(folder, record.checksums)


def _draw(folder: Path, figures: Sequence[Figure], formats: Sequence[Format]) -> None:
    import kaleido
    from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError

    light, drawings = templates()["light"], []
    for figure in figures:
        plot = figure.plot.to_plotly_json()
        plot["layout"] = plot["layout"] | {"template": light.to_plotly_json()}
        size = {"width": figure.width, "height": figure.height}
        for form in formats:
            opts = {"format": form, **size} | ({"scale": 2} if form == "png" else {})
            path = str(folder / f"{figure.name}.{form}")
            drawings.append({"fig": plot, "path": path, "opts": opts})
    try:
        # MathJax would be fetched from the network, and no figure has a formula
        kaleido.write_fig_from_object_sync(drawings, kopts={"mathjax": False})
    except (BrowserClosedError, BrowserFailedError, ChromeNotFoundError) as error:
        raise _NoBrowserError from error


def _markdown(title: str, shown: Sequence[Section], linked: Format | None) -> str:
    parts = [f"# {title.translate(MARKDOWN)}\n"]
    for section in shown:
        parts.append(f"## {section.title}\n\n{section.text.translate(MARKDOWN)}\n")
        parts += [f"- {label}: {value.translate(MARKDOWN)}" for label, value in section.details]
        parts += [
            f"- {label}: **{value}** {interval}".rstrip()
            for label, value, interval in section.facts
        ]
        parts += [f"- {note.translate(MARKDOWN)}" for note in section.notes]
        parts += [""] if section.details or section.facts else []
        for figure in section.figures:
            caption = figure.caption.translate(MARKDOWN)
            if linked is not None:
                parts.append(f"![{caption}](figures/{figure.name}.{linked})\n\n*{caption}*\n")
        parts += [table.markdown() for table in section.tables]
    return "\n".join(parts)
