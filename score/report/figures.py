"""The bars, dots and heatmaps of a report, drawn by plotly, and the two templates of all figures.

A figure sets no colour of paper, text or grid: those are the template's, of which there are a light
and a dark one, so that a page redraws it when its theme changes. Lines and bars have colours that
stand out from both papers (3:1 or more) and differ to colour-blind eyes (blue, vermillion, green).
User-given names are escaped, as plotly reads some HTML in text.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ser.score.attributes import BINS, LOWEST
from ser.score.metrics import row_normalised
from ser.score.scores import AttributeScores, ClassScores, Groups, Score

BLUE, VERMILLION, GREEN, GREY = "#2a7fc1", "#d2601a", "#1c936c", "#868e96"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
FEWEST = 3  # points that a figure needs; a table shows fewer just as well
MIDDLE = "#3a78b8"  # the only kind of colour on which black and white are both readable (4.5:1)


@dataclass(frozen=True)
class Figure:
    """A figure and its size in px.

    `label` describes it to those who cannot see it. The page draws it `width` wide, or as wide as
    the window, but never narrower than `least`. `square` figures are as high as they are wide.
    `narrow` is the same figure for a window that has no room for `width`, `narrow_height` high.
    """

    name: str
    caption: str
    label: str
    plot: go.Figure
    height: int
    width: int
    least: int = 280
    square: bool = False
    narrow: go.Figure | None = None
    narrow_height: int = 0


def templates() -> dict[str, go.layout.Template]:
    """Return the template of each theme."""
    # paper, ink, grid; the lowest and the highest cell of a heatmap; text on low and on high cells
    light = ("#ffffff", "#24292f", "#d8dee4"), ("#f3f7fb", "#08306b"), ("#000000", "#ffffff")
    dark = ("#16191d", "#dde2e7", "#3a414a"), ("#1d242c", "#d6e8f8"), ("#ffffff", "#000000")
    return {"light": _template(*light), "dark": _template(*dark)}


def _template(
    page: tuple[str, str, str], ends: tuple[str, str], text: tuple[str, str]
) -> go.layout.Template:
    paper, ink, grid = page
    lines = dict.fromkeys(("gridcolor", "linecolor", "zerolinecolor", "tickcolor"), grid)
    axis = {**lines, "automargin": True, "title": {"standoff": 10}}
    scale = [[0, ends[0]], [0.5, MIDDLE], [1, ends[1]]]
    errors = {"color": ink, "thickness": 1.5}
    return go.layout.Template(
        data={
            "bar": [{"error_y": errors, "error_x": errors}],
            "scatter": [{"error_x": errors}],
            # traces take these in turn: see `heatmaps`
            "heatmap": [{"textfont": {"color": colour}} for colour in text],
        },
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


def confusion_figure(
    matrix: Sequence[Sequence[int]], classes: Sequence[str], subject: str
) -> Figure:
    """Draw a confusion matrix: counts as numbers, shares of the true class as colours."""
    counts = np.array(matrix)
    names = plain(classes)
    plot = go.Figure(heatmaps(row_normalised(counts), names, names, counts))
    plot.update_xaxes(title_text="predicted", showgrid=False, autotickangles=[0, -45, -90])
    plot.update_yaxes(title_text="true", showgrid=False, autorange="reversed")
    square_cells(plot)
    size = 110 + min(52 * max(len(classes), 4), 900)
    return Figure(
        "confusion",
        f"Confusion matrix of {subject}: number of utterances; the colour is the share of the true "
        "class (row).",
        f"Heatmap of the confusion matrix of {subject}, rows true, columns predicted.",
        plot,
        height=size,
        width=size,
        least=100 + 28 * len(classes),
        square=True,
    )


def per_class_figure(scores: ClassScores, subject: str) -> Figure | None:
    """Draw F1 of each class that occurs, with intervals; None for very few classes."""
    present = [name for name in scores.per_class if name not in scores.absent]
    if len(present) < FEWEST:
        return None
    f1 = [scores.per_class[name] for name in present]
    between = ", with 95 % intervals over resampled speakers" if any(s.interval for s in f1) else ""
    bars = go.Bar(
        x=[score.value for score in f1],
        y=plain(present),
        orientation="h",
        marker_color=BLUE,
        error_x=error_bars(f1),
        width=0.6,
    )
    plot = go.Figure(bars.update(hovertemplate="%{y}: %{x:.3f}<extra></extra>"))
    plot.update_xaxes(title_text="F1", range=[0, 1.02], dtick=0.2)
    plot.update_yaxes(showgrid=False, autorange="reversed")
    return Figure(
        "per-class",
        f"F1 of each class, {subject}{between}.",
        f"Bars of F1 by class of {subject}.",
        plot,
        height=80 + 36 * len(present),
        width=420,
    )


def groups_figure(columns: Mapping[str, Groups], subject: str) -> Figure | None:
    """Draw the macro-F1 of each group, or else its mean CCC; None for very few groups."""
    groups = {
        f"{column}: {name}": group.scores
        for column, scored in columns.items()
        for name, group in scored.groups.items()
    }
    classified = any("macro_f1" in scores for scores in groups.values())
    metric, title = ("macro_f1", "macro-F1") if classified else ("ccc", "mean CCC")
    rows = {name: scores[metric] for name, scores in groups.items() if metric in scores}
    if len(rows) < FEWEST:
        return None
    values, shown = [score.value for score in rows.values()], list(rows.values())
    between = ", with 95 % intervals over speakers" if any(s.interval for s in shown) else ""
    dots = go.Scatter(x=values, y=plain(list(rows)), mode="markers", marker={"size": 10})
    dots.update(marker_color=BLUE, error_x=error_bars(shown))
    plot = go.Figure(dots.update(hovertemplate="%{y}: %{x:.3f}<extra></extra>"))
    plot.update_layout(
        xaxis={"title_text": title, "rangemode": "tozero"}, yaxis={"autorange": "reversed"}
    )
    return Figure(
        "groups",
        f"{title[0].upper()}{title[1:]} of {subject} by group{between}.",
        f"Dots of {title} by group of {subject}.",
        plot,
        height=80 + 34 * len(rows),
        width=600,
    )


def bins_figure(attributes: Mapping[str, AttributeScores], subject: str) -> Figure:
    """Draw the confusion of each attribute in six bins, side by side or below each other."""
    matrices = {
        name: np.array(scores.confusion)
        for name, scores in attributes.items()
        if scores.confusion is not None
    }
    many = len(matrices) > 1
    return Figure(
        "bins",
        f"Attributes of {subject} in six bins of the 1–7 scale: number of utterances; the colour "
        "is the share of the true bin (row).",
        f"Heatmaps of true by predicted bin of each attribute of {subject}.",
        _bins_plot(matrices, len(matrices)),
        height=360,
        width=20 + 330 * len(matrices),
        narrow=_bins_plot(matrices, 1) if many else None,
        narrow_height=350 * len(matrices),
    )


def _bins_plot(matrices: Mapping[str, np.ndarray], columns: int) -> go.Figure:
    edges = [f"{LOWEST + i}–{LOWEST + i + 1}" for i in range(BINS)]
    lines = len(matrices) // columns
    plot = make_subplots(
        lines,
        columns,
        subplot_titles=plain(list(matrices)),
        horizontal_spacing=0.1,
        vertical_spacing=0.2 / lines,
    )
    for i, counts in enumerate(matrices.values()):
        for trace in heatmaps(row_normalised(counts), edges, edges, counts):
            plot.add_trace(trace, i // columns + 1, i % columns + 1)
    plot.update_xaxes(showgrid=False, title_text="predicted", tickangle=0)
    plot.update_yaxes(showgrid=False, autorange="reversed")
    plot.update_yaxes(title_text="true", col=1)
    plot.update_layout(margin={"t": 30})
    square_cells(plot)
    return plot


def heatmaps(
    values: np.ndarray,
    columns: Sequence[str],
    rows: Sequence[str],
    counts: np.ndarray | None,
    tip: str = "true %{y}, predicted %{x}: %{customdata} (%{z:.1%})",
) -> list[go.Heatmap]:
    """Draw shares as colours with their counts as numbers; without counts, the values as numbers.

    `tip` is what a cell with a count shows when it is pointed at. There are two heatmaps, of the
    cells up to the middle of the scale and of those above it, so that the template can write on
    each in a colour that is readable there.
    """
    tip = tip if counts is not None else "%{y}, %{x}: %{z:.3f}"
    text = counts.astype(str) if counts is not None else np.char.mod("%.2f", values)
    return [
        go.Heatmap(
            z=np.where(cells, values, np.array(None)).tolist(),
            x=list(columns),
            y=list(rows),
            customdata=counts.tolist() if counts is not None else None,
            text=np.where(cells, text, "").tolist(),
            texttemplate="%{text}",
            hovertemplate=f"{tip}<extra></extra>",
            hoverongaps=False,
            showscale=False,
            zmin=0,
            zmax=1,
            autocolorscale=True,
            xgap=1,
            ygap=1,
        )
        for cells in (values <= 0.5, values > 0.5)
    ]


def square_cells(plot: go.Figure) -> None:
    """Make the cells of every heatmap as high as they are wide."""
    for axis in plot.select_yaxes():
        anchor = f"x{(axis.plotly_name or 'yaxis').removeprefix('yaxis')}"
        axis.update(scaleanchor=anchor, scaleratio=1, constrain="domain", constraintoward="top")
    plot.update_xaxes(constrain="domain")


def error_bars(scores: Sequence[Score]) -> dict[str, object]:
    """Return error bars; none for a score without an interval."""
    if not any(score.interval for score in scores):
        return {"visible": False}
    spans = [(s.value, s.interval or [s.value, s.value]) for s in scores]
    return {
        "type": "data",
        "symmetric": False,
        # a percentile interval of a biased resample can lie to one side of the value
        "array": [max(high - value, 0) for value, (_, high) in spans],
        "arrayminus": [max(value - low, 0) for value, (low, _) in spans],
    }


def plain(names: Sequence[str]) -> list[str]:
    """Escape names for plotly."""
    return [escaped(name) for name in names]


def escaped(name: str) -> str:
    """Escape a name for plotly, which reads some HTML in text."""
    return html.escape(name, quote=False)
