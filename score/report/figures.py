"""The bars, dots and heatmaps of a report, drawn by plotly, and the two templates of all figures.

A figure says no colour of paper, text or grid: those are the template's, of which there are a light
and a dark one, so that a page redraws it when its theme changes. Lines and bars have colours that
stand out from both papers (3:1 or more) and differ to colour-blind eyes (blue, vermillion, green).
Names of the user are escaped, as plotly reads some HTML in text.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from score.attributes import BINS, LOWEST
from score.groups import GAP
from score.metrics import row_normalised
from score.tables import absent_classes

BLUE, VERMILLION, GREEN, GREY = "#2a7fc1", "#d2601a", "#1c936c", "#868e96"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


@dataclass(frozen=True)
class Figure:
    """Hold a figure; `label` tells those who cannot see it, `width` is the least it needs (px)."""

    name: str
    caption: str
    label: str
    plot: go.Figure
    height: int
    width: int


def templates() -> dict[str, go.layout.Template]:
    """Return the template of each theme."""
    # paper, ink, grid, the highest and the lowest cell of a heatmap: plotly writes on cells in #444
    # or white, whichever it takes for the better, and both ends and all between must carry that
    light = ("#ffffff", "#24292f", "#d8dee4", "#86b6e6", "#f5f8fb")
    dark = ("#16191d", "#dde2e7", "#3a414a", "#2f6fb0", "#1d242c")
    return {"light": _template(*light), "dark": _template(*dark)}


def _template(paper: str, ink: str, grid: str, high: str, low: str) -> go.layout.Template:
    lines = dict.fromkeys(("gridcolor", "linecolor", "zerolinecolor", "tickcolor"), grid)
    axis = {**lines, "automargin": True, "title": {"standoff": 10}}
    scale = [[0, low], [1, high]]
    errors = {"color": ink, "thickness": 1.5}
    return go.layout.Template(
        data={"bar": [{"error_y": errors}], "scatter": [{"error_x": errors}]},
        layout={
            "font": {"family": FONT, "size": 13, "color": ink},
            "paper_bgcolor": paper,
            "plot_bgcolor": paper,
            "colorway": [BLUE, VERMILLION, GREEN, GREY],
            "colorscale": {"sequential": scale, "diverging": scale, "sequentialminus": scale},
            "xaxis": axis,
            "yaxis": axis,
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
            "hoverlabel": {"align": "left"},
        },
    )


def confusion_figure(matrix: Sequence[Sequence[int]], classes: Sequence[str], of: str) -> Figure:
    """Draw a confusion matrix, row-normalised; counts on hover."""
    counts = np.array(matrix)
    names = plain(classes)
    plot = go.Figure(_heatmap(row_normalised(counts), names, names, counts))
    plot.update_layout(
        xaxis={"title_text": "predicted", "showgrid": False, "side": "bottom"},
        yaxis={"title_text": "true", "showgrid": False, "autorange": "reversed"},
    )
    return Figure(
        "confusion",
        f"Confusion matrix of {of}. Each row is one true class and sums to 100 %; counts on hover.",
        f"Heatmap of the confusion matrix of {of}, rows true, columns predicted.",
        plot,
        height=120 + 44 * len(classes),
        width=140 + 44 * len(classes),
    )


def per_class_figure(numbers: Mapping[str, Any], of: str) -> Figure:
    """Draw F1 of each class that occurs, with intervals."""
    absent = absent_classes(numbers)
    present = [name for name in numbers["per_class"] if name not in absent]
    f1 = [numbers["per_class"][name] for name in present]
    intervals = [numbers["interval"]["per_class"][name] for name in present]
    bars = go.Bar(
        x=plain(present), y=f1, marker_color=BLUE, error_y=_errors(f1, intervals), width=0.6
    )
    plot = go.Figure(bars.update(hovertemplate="%{x}: %{y:.3f}<extra></extra>"))
    plot.update_layout(yaxis={"title_text": "F1", "range": [0, 1.02]}, xaxis={"showgrid": False})
    return Figure(
        "per-class",
        f"F1 of each class, {of}, with 95 % intervals over resampled speakers.",
        f"Bars of F1 by class of {of}.",
        plot,
        height=340,
        width=300,
    )


def groups_figure(groups: Mapping[str, Mapping[str, Any]], of: str) -> Figure:
    """Draw each group's macro-F1 (mean CCC where no class is told) with intervals."""
    told = any("macro_f1" in n for scored in groups.values() for g, n in scored.items() if g != GAP)
    metric, title = ("macro_f1", "macro-F1") if told else ("ccc", "mean CCC")
    rows = [
        (f"{column}: {group}", numbers[metric], numbers["interval"][metric])
        for column, scored in groups.items()
        for group, numbers in scored.items()
        if group != GAP and metric in numbers
    ]
    names, values, intervals = zip(*rows, strict=True)
    dots = go.Scatter(x=values, y=plain(names), mode="markers", marker={"size": 10})
    dots.update(marker_color=BLUE, error_x=_errors(values, intervals))
    plot = go.Figure(dots.update(hovertemplate="%{y}: %{x:.3f}<extra></extra>"))
    plot.update_layout(
        xaxis={"title_text": title, "rangemode": "tozero"}, yaxis={"autorange": "reversed"}
    )
    return Figure(
        "groups",
        f"{title[0].upper()}{title[1:]} of {of} by group, with 95 % intervals over speakers.",
        f"Dots of {title} by group of {of}.",
        plot,
        height=110 + 40 * len(rows),
        width=320,
    )


def agreement_figure(agreement: pl.DataFrame) -> Figure:
    """Draw Cohen's kappa between systems."""
    names = plain(agreement["system"].to_list())
    values = agreement.drop("system").to_numpy()
    plot = go.Figure(_heatmap(values, names, names, None))
    plot.update_layout(
        xaxis={"showgrid": False, "tickangle": -45},
        yaxis={"showgrid": False, "autorange": "reversed"},
    )
    return Figure(
        "agreement",
        "Cohen's kappa between the systems' predictions: 1 always alike, 0 as alike as by chance.",
        "Heatmap of Cohen's kappa between systems.",
        plot,
        height=160 + 40 * len(names),
        width=180 + 44 * len(names),
    )


def bins_figure(attributes: Mapping[str, Mapping[str, Any]], of: str) -> Figure:
    """Draw the confusion of each attribute in six bins, row-normalised."""
    names = [name for name, numbers in attributes.items() if "confusion" in numbers]
    edges = [f"{LOWEST + i}–{LOWEST + i + 1}" for i in range(BINS)]
    plot = make_subplots(1, len(names), subplot_titles=plain(names), horizontal_spacing=0.1)
    for i, name in enumerate(names):
        counts = np.array(attributes[name]["confusion"])
        plot.add_trace(_heatmap(row_normalised(counts), edges, edges, counts), 1, i + 1)
    plot.update_xaxes(showgrid=False, title_text="predicted", tickangle=0)
    plot.update_yaxes(showgrid=False, autorange="reversed")
    plot.update_yaxes(title_text="true", col=1)
    plot.update_layout(margin={"t": 30})
    return Figure(
        "bins",
        f"Attributes of {of} in six bins; each row is one true bin and sums to 100 %; counts on "
        "hover.",
        f"Heatmaps of true by predicted bin of each attribute of {of}.",
        plot,
        height=360,
        width=310 * len(names),
    )


def _heatmap(
    values: np.ndarray, columns: Sequence[str], rows: Sequence[str], counts: np.ndarray | None
) -> go.Heatmap:
    """Draw shares as percent with their counts on hover; without counts, plain numbers."""
    share = counts is not None
    said = (
        "true %{y}, predicted %{x}: %{customdata} (%{z:.1%})" if share else "%{y}, %{x}: %{z:.3f}"
    )
    return go.Heatmap(
        z=values.tolist(),
        x=list(columns),
        y=list(rows),
        customdata=counts.tolist() if counts is not None else None,
        text=[[f"{100 * v:.0f}" if share else f"{v:.2f}" for v in row] for row in values],
        texttemplate="%{text}",
        hovertemplate=f"{said}<extra></extra>",
        showscale=False,
        zmin=0,
        zmax=1,
        autocolorscale=True,
        xgap=1,
        ygap=1,
    )


def _errors(values: Sequence[float], intervals: Sequence[Sequence[float] | None]) -> dict[str, Any]:
    """Return error bars; none for a value without an interval."""
    spans = [interval or (value, value) for value, interval in zip(values, intervals, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        # a percentile interval of a biased resample can lie to one side of the value
        "array": [max(high - v, 0) for v, (_, high) in zip(values, spans, strict=True)],
        "arrayminus": [max(v - low, 0) for v, (low, _) in zip(values, spans, strict=True)],
    }


def plain(names: Sequence[str]) -> list[str]:
    """Escape names for plotly."""
    return [escaped(name) for name in names]


def escaped(name: str) -> str:
    """Escape a name for plotly, which reads some HTML in text."""
    return html.escape(name, quote=False)
