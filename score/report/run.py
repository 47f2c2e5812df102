"""Write a run's report.

    <run>/report/report.html         one page, self-contained
    <run>/report/report.md           the same tables as GitHub markdown, links to the figures
    <run>/report/tables.tex          the same tables in LaTeX (booktabs)
    <run>/report/figures/<name>.*    the same figures as SVG and PNG

1. Gather what the run has (`score.report.contents`), and make sections of it.
2. Draw the figure files in a headless Chrome or Chromium, if there is one.
3. Write the page, the markdown and the tables, each under a temporary name that is then renamed.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from score.report.contents import Contents
from score.report.figures import Figure, templates
from score.report.formats import MARKDOWN
from score.report.page import render_page
from score.report.sections import Section, sections

Format = Literal["svg", "png"]
WIDTH = 760  # of a figure file, px
NO_BROWSER = (
    "no Chrome or Chromium could be started, so the figure files were not written; install one, or "
    "give `--figures none`"
)


def write_report(contents: Contents, formats: Sequence[Format] = ("svg", "png")) -> str | None:
    """Write the report; return why the figure files were not written, None when they were.

    What `contents.gather` returned for the same run twice gives the same files twice, but for the
    versions and the machine that they name.
    """
    made, folder = sections(contents), contents.run / "report"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [figure for section in made for figure in section.figures]
    problem = _write_figures(folder, drawn, formats)
    linked = formats[0] if formats and problem is None else None
    title = f"{contents.run.name}: speech emotion recognition"
    _write(folder / "tables.tex", _latex(made))
    _write(folder / "report.md", _markdown(title, made, linked))
    _write(folder / "report.html", render_page(title, made))
    return problem


def _write_figures(
    folder: Path, figures: Sequence[Figure], formats: Sequence[Format]
) -> str | None:
    """Replace the folder of figure files."""
    part = folder / ".figures.part"
    shutil.rmtree(part, ignore_errors=True)
    problem = None
    if formats and figures:
        part.mkdir()
        problem = _draw(part, figures, formats)
    shutil.rmtree(folder / "figures", ignore_errors=True)  # those of an earlier report are stale
    if formats and figures and problem is None:
        part.rename(folder / "figures")
    shutil.rmtree(part, ignore_errors=True)
    return problem


def _draw(folder: Path, figures: Sequence[Figure], formats: Sequence[Format]) -> str | None:
    import kaleido
    from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError

    light, wanted = templates()["light"], []
    for figure in figures:
        plot = figure.plot.to_plotly_json()
        plot["layout"] = plot["layout"] | {"template": light.to_plotly_json()}
        size = {"width": max(WIDTH, figure.width), "height": figure.height}
        for form in formats:
            opts = {"format": form, **size} | ({"scale": 2} if form == "png" else {})
            path = str(folder / f"{figure.name}.{form}")
            wanted.append({"fig": plot, "path": path, "opts": opts})
    try:
        # MathJax would be fetched from the network, and no figure has a formula
        kaleido.write_fig_from_object_sync(wanted, kopts={"mathjax": False})
    except (BrowserClosedError, BrowserFailedError, ChromeNotFoundError):
        return NO_BROWSER
    return None


def _latex(made: Sequence[Section]) -> str:
    tables = [table.latex() for section in made for table in section.tables]
    return "\n".join(["% \\usepackage{booktabs} in the preamble", *tables])


def _markdown(title: str, made: Sequence[Section], linked: Format | None) -> str:
    parts = [f"# {title.translate(MARKDOWN)}\n"]
    for section in made:
        parts.append(f"## {section.title}\n\n{section.text.translate(MARKDOWN)}\n")
        for label, value, note in section.facts:
            parts.append(f"- {label}: **{value}**" + (f" [{note}]" if note else ""))
        parts += [""] if section.facts else []
        for figure in section.figures:
            caption = figure.caption.translate(MARKDOWN)
            if linked is not None:
                parts.append(f"![{caption}](figures/{figure.name}.{linked})\n\n*{caption}*\n")
        parts += [table.markdown() for table in section.tables]
    return "\n".join(parts)


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
