"""The section on the agreement of systems: Cohen's kappa between each two of them."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import polars as pl

from ser.score.report.contents import Contents
from ser.score.report.figures import FEWEST, Figure, heatmaps, plain, square_cells
from ser.score.report.formats import Table
from ser.score.report.section import Section, with_figure

NAMED = 7  # systems whose names fit beside a narrow matrix


def agreement_section(contents: Contents) -> Section | None:
    """Return the section on agreement; None for a single system."""
    if contents.classifier is None or contents.agreement is None:
        return None
    text = (
        f"Cohen's kappa between systems on all utterances of {contents.classifier.split}, whether "
        "they are right or wrong. Heads that agree less gain more from being combined."
    )
    frame = contents.agreement.rename({"system": "System"})
    digits = dict.fromkeys(frame.columns, 2)
    table = Table("agreement", "Cohen's kappa between systems.", frame, digits=digits)
    figure = agreement_figure(contents.agreement)
    return with_figure("agreement", "Agreement", text, figure, table)


def agreement_figure(agreement: pl.DataFrame) -> Figure | None:
    """Draw Cohen's kappa between systems; None for very few."""
    names, values = agreement["system"].to_list(), agreement.drop("system").to_numpy()
    if len(names) < FEWEST:
        return None
    caption = (
        "Cohen's kappa between the predictions of two systems: 1 is full agreement, 0 is chance."
    )
    few = len(names) <= NAMED
    if not few:
        numbered = ", ".join(f"{i} {name}" for i, name in enumerate(names, 1))
        caption += f" The systems are {numbered}."
    short = [_two_lines(name) if few else "" for name in plain(names)]
    width = round(30 + 6.5 * max(map(len, names)) + 44 * len(names))
    return Figure(
        "agreement",
        caption,
        "Heatmap of Cohen's kappa between systems.",
        _agreement_plot(values, plain(names)),
        height=40 + 44 * len(names),
        width=width,
        least=min(110 + 30 * len(names) if few else 30 + 25 * len(names), width),
        narrow=_agreement_plot(values, short),
        narrow_height=60 + 36 * len(names) if few else 390,
    )


def _agreement_plot(values: np.ndarray, names: Sequence[str]) -> go.Figure:
    numbers = [str(i + 1) for i in range(len(names))]
    rows = [f"{name}  {number}".strip() for name, number in zip(names, numbers, strict=True)]
    plot = go.Figure(heatmaps(values, numbers, rows, None))
    plot.update_traces(textfont_size=11)
    plot.update_xaxes(showgrid=False, tickangle=0, type="category", side="top")
    plot.update_yaxes(showgrid=False, type="category", autorange="reversed", tickfont_size=12)
    square_cells(plot)
    return plot


def _two_lines(name: str) -> str:
    """Break a long name at the hyphen that is nearest to its middle."""
    hyphens = [i for i, sign in enumerate(name) if sign in "-_"]
    if len(name) < 16 or not hyphens:
        return name
    middle = min(hyphens, key=lambda i: abs(i - len(name) / 2)) + 1
    return f"{name[:middle]}<br>{name[middle:]}"
