"""The lines of a report: learning curves, the best k heads, reliability."""

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from score.report.figures import BLUE, GREY, VERMILLION, Figure, escaped, plain

BAND = "rgba(42, 127, 193, 0.18)"  # of blue lines
COLUMNS = 3  # of small multiples
SCORES = {"macro_f1": "macro-F1", "uar": "UAR", "accuracy": "accuracy", "ccc": "CCC"}


def curves_figure(histories: Mapping[str, pl.DataFrame], chosen_by: Mapping[str, str]) -> Figure:
    """Draw training loss and dev score of every head by epoch, a panel a head.

    `chosen_by` names the dev score of each head (`macro_f1`, …).
    """
    columns = min(COLUMNS, len(histories))
    lines = -(-len(histories) // columns)
    plot = make_subplots(
        lines,
        columns,
        subplot_titles=plain(list(histories)),
        specs=[[{"secondary_y": True}] * columns for _ in range(lines)],
        vertical_spacing=0.28 / lines,
        horizontal_spacing=0.09,
    )
    for number, (name, history) in enumerate(histories.items()):
        line, column = number // columns + 1, number % columns + 1
        score = f"dev_{chosen_by[name]}"
        for trace, second in _curves(history, score, first=number == 0):
            plot.add_trace(trace, line, column, secondary_y=second)
    plot.update_xaxes(rangemode="tozero", nticks=5, ticklabelstandoff=4)
    plot.update_yaxes(rangemode="tozero", nticks=5, secondary_y=False)
    right = {"range": [0, 1.02], "tickmode": "linear", "tick0": 0, "dtick": 0.5}
    plot.update_yaxes(**right, showgrid=False, secondary_y=True)
    plot.update_annotations(font_size=13)
    plot.update_layout(legend={"y": 1 + 0.2 / lines}, margin={"t": 30})
    told = ", ".join(dict.fromkeys(SCORES.get(by, by) for by in chosen_by.values()))
    return Figure(
        "curves",
        f"Learning curves: training loss (left axes) and {told} on dev (right axes) by epoch; of a "
        "cross-fitted head each training thin and their mean thick.",
        "Small multiples of training loss and dev score by epoch, one panel a head.",
        plot,
        height=90 + 190 * lines,
        width=240 * columns,
    )


def _curves(history: pl.DataFrame, score: str, first: bool) -> list[tuple[go.Scatter, bool]]:
    """Return the lines of one head, and whether each belongs to the right axis."""
    if "fold" not in history.columns:
        history = history.with_columns(fold=pl.lit(None, pl.Int64))
    sides = [("train_loss", "training loss", VERMILLION), (score, "dev score", BLUE)]
    traces = []
    for second, (column, title, colour) in enumerate(sides):
        if column not in history.columns:
            continue
        trainings = history.partition_by("fold", maintain_order=True)
        if len(trainings) > 1:
            traces += [
                (_line(training, column, colour, 0.7, opacity=0.45, showlegend=False), bool(second))
                for training in trainings
            ]
        mean = history.group_by("epoch", maintain_order=True).agg(pl.col(column).mean())
        line = _line(mean, column, colour, 2.5, name=title, showlegend=first, legendgroup=title)
        traces.append((line, bool(second)))
    return traces


def _line(frame: pl.DataFrame, column: str, colour: str, width: float, **more: Any) -> go.Scatter:
    x, y = (frame["epoch"] + 1).to_list(), frame[column].to_list()
    line = {"color": colour, "width": width}
    # an epoch alone has no line to draw
    return go.Scatter(x=x, y=y, mode="lines" if len(x) > 1 else "markers", line=line, **more)


def top_figure(top: pl.DataFrame) -> Figure:
    """Draw macro-F1 of the best k heads by k, by mean and by plurality, on dev and test."""
    plot = go.Figure()
    splits = [split for split in ("dev", "test") if split in top.columns]
    shown, mean = splits[-1], top.filter(pl.col("by") == "mean").drop_nulls(f"{splits[-1]}_low")
    if mean.height:
        quiet = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        edge: dict[str, Any] = {"x": mean["k"].to_list(), **quiet}
        plot.add_trace(go.Scatter(y=mean[f"{shown}_high"].to_list(), **edge))
        filled = {"fill": "tonexty", "fillcolor": BAND}
        plot.add_trace(go.Scatter(y=mean[f"{shown}_low"].to_list(), **edge, **filled))
    colours = {"dev": VERMILLION, "test": BLUE} if len(splits) > 1 else {shown: BLUE}
    for split, colour in colours.items():
        for by, dash, symbol in (("mean", "solid", "circle"), ("plurality", "dot", "diamond")):
            rows = top.filter(pl.col("by") == by)
            plot.add_trace(
                go.Scatter(
                    x=rows["k"].to_list(),
                    y=rows[split].to_list(),
                    text=plain(rows["head"].to_list()),
                    name=f"{split}, {by}",
                    mode="lines+markers",
                    line={"color": colour, "dash": dash},
                    marker={"symbol": symbol, "size": 7},
                    hovertemplate="k = %{x}, adds %{text}: %{y:.3f}",
                )
            )
    plot.update_layout(
        xaxis={"title_text": "k best heads by dev", "dtick": 1},
        yaxis={"title_text": "macro-F1"},
        legend={"traceorder": "normal"},
    )
    band = f"; the band is the 95 % interval of {shown}, mean" if mean.height else ""
    return Figure(
        "top-k",
        f"The best k heads by dev, combined by the mean of probabilities or by plurality{band}.",
        "Lines of macro-F1 by the number of best heads that are combined.",
        plot,
        height=380,
        width=320,
    )


def reliability_figure(curve: pl.DataFrame, ece: float, of: str) -> Figure:
    """Draw the reliability curve: accuracy by confidence, the diagonal, and rows a bin."""
    filled = curve.drop_nulls()
    plot = make_subplots(2, 1, row_heights=[0.78, 0.22], shared_xaxes=True, vertical_spacing=0.05)
    diagonal = {"color": GREY, "dash": "dash", "width": 1.5}
    plot.add_trace(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=diagonal, name="calibrated"), 1, 1
    )
    n = filled["n"].to_list()
    at = {"x": filled["confidence"].to_list(), "y": filled["accuracy"].to_list(), "text": n}
    said = "confidence %{x:.3f}, accuracy %{y:.3f}, n = %{text}<extra></extra>"
    line = go.Scatter(**at, mode="lines+markers", line_color=BLUE, name=escaped(of))
    plot.add_trace(line.update(hovertemplate=said), 1, 1)
    centres = ((filled["lower"] + filled["upper"]) / 2).to_list()
    width = float(curve["upper"][0] - curve["lower"][0]) * 0.9
    bars = go.Bar(x=centres, y=n, width=width, marker_color=GREY, showlegend=False)
    plot.add_trace(bars.update(hovertemplate="n = %{y}<extra></extra>"), 2, 1)
    plot.update_xaxes(range=[0, 1])
    plot.update_xaxes(title_text="confidence (highest probability)", row=2)
    plot.update_yaxes(range=[0, 1.02], title_text="accuracy", row=1)
    plot.update_yaxes(title_text="n", nticks=3, row=2)
    return Figure(
        "reliability",
        f"Reliability of {of}: accuracy by confidence in {curve.height} bins; expected calibration "
        f"error (ECE) {ece:.3f}.",
        f"Line of accuracy by confidence of {of} beside the diagonal of perfect calibration.",
        plot,
        height=440,
        width=320,
    )
