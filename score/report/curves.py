"""The lines of a report: learning curves, the best k heads, reliability, votes by entropy."""

from collections.abc import Iterator, Mapping

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from ser.score.abstention import COVERAGES
from ser.score.metrics import TITLES
from ser.score.report.figures import BLUE, FEWEST, GREY, VERMILLION, Figure, escaped, plain
from ser.score.scores import ClassScores

BAND = "rgba(42, 127, 193, 0.18)"  # of blue lines
COLUMNS = 3  # of small multiples


def curves_figure(
    histories: Mapping[str, pl.DataFrame], chosen_by: Mapping[str, str]
) -> Figure | None:
    """Draw training loss and dev score of every head by epoch, a panel a head.

    `chosen_by` names the dev score of each head (`macro_f1`, …). None where all have few epochs.
    """
    if all(history["epoch"].n_unique() < FEWEST for history in histories.values()):
        return None
    columns = min(COLUMNS, len(histories))
    lines = -(-len(histories) // columns)
    scores = ", ".join(dict.fromkeys(TITLES.get(by, by) for by in chosen_by.values()))
    return Figure(
        "curves",
        f"Training loss (left axes) and {scores} on dev (right axes) by epoch. Cross-fitted heads: "
        "each fold thin, the mean thick.",
        "Small multiples of training loss and dev score by epoch, one panel a head.",
        _curves_plot(histories, chosen_by, columns),
        height=80 + 180 * lines,
        width=20 + 320 * columns,
        narrow=_curves_plot(histories, chosen_by, 1) if columns > 1 else None,
        narrow_height=80 + 180 * len(histories),
    )


def abstention_figure(systems: Mapping[str, ClassScores], shown: str, split: str) -> Figure:
    """Draw risk by coverage, a line a system: that of the system shown is thick."""
    plot = go.Figure()
    for name, scores in sorted(systems.items(), key=lambda item: item[0] == shown):
        line = {"color": BLUE, "width": 3} if name == shown else {"color": GREY, "width": 1.2}
        scatter = go.Scatter(
            x=list(COVERAGES),
            y=scores.risk,
            mode="lines",
            line=line,
            name=escaped(name),
            showlegend=name == shown,
        )
        tip = f"{escaped(name)}: coverage %{{x:.0%}}, risk %{{y:.1%}}<extra></extra>"
        plot.add_trace(scatter.update(hovertemplate=tip))
    plot.update_xaxes(range=[0, 1.02], dtick=0.2, tickformat=".0%", title_text="coverage")
    plot.update_yaxes(rangemode="tozero", tickformat=".0%", title_text="risk")
    others = "; the other systems are grey" if len(systems) > 1 else ""
    return Figure(
        "abstention",
        f"Risk by coverage of {escaped(shown)} on {split}{others}.",
        "Lines of the share of wrong predictions by the share of utterances that are predicted.",
        plot,
        height=360,
        width=480,
    )


def _curves_plot(
    histories: Mapping[str, pl.DataFrame], chosen_by: Mapping[str, str], columns: int
) -> go.Figure:
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
    return plot


def _curves(history: pl.DataFrame, score: str, first: bool) -> Iterator[tuple[go.Scatter, bool]]:
    """Yield the lines of one head, and whether each belongs to the right axis."""
    folds = history.partition_by("fold", maintain_order=True) if "fold" in history.columns else []
    sides = [("train_loss", "training loss", VERMILLION), (score, "dev score", BLUE)]
    for second, (column, title, colour) in enumerate(sides):
        if column not in history.columns:
            continue
        for fold in folds if len(folds) > 1 else ():
            yield _line(fold, column, colour, 0.7, opacity=0.45, showlegend=False), bool(second)
        mean = history.group_by("epoch", maintain_order=True).agg(pl.col(column).mean())
        line = _line(mean, column, colour, 2.5, name=title, showlegend=first, legendgroup=title)
        yield line, bool(second)


def _line(
    frame: pl.DataFrame, column: str, colour: str, width: float, **options: object
) -> go.Scatter:
    x, y = (frame["epoch"] + 1).to_list(), frame[column].to_list()
    line = {"color": colour, "width": width}
    # an epoch alone has no line to draw
    return go.Scatter(x=x, y=y, mode="lines" if len(x) > 1 else "markers", line=line, **options)


def top_figure(top: pl.DataFrame) -> Figure | None:
    """Draw macro-F1 of the best k heads by k, by mean and by plurality, on dev and test.

    None for very few heads.
    """
    if top["k"].n_unique() < FEWEST:
        return None
    plot = go.Figure()
    splits = [split for split in ("dev", "test") if split in top.columns]
    shown, mean = splits[-1], top.filter(pl.col("by") == "mean").drop_nulls(f"{splits[-1]}_low")
    if mean.height:
        hidden = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        edge: dict[str, object] = {"x": mean["k"].to_list(), **hidden}
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
    band = f"; the band is the 95 % interval of the mean on {shown}" if mean.height else ""
    return Figure(
        "top-k",
        f"The best k heads by dev, combined by mean probability or by plurality vote{band}.",
        "Lines of macro-F1 by the number of best heads that are combined.",
        plot,
        height=360,
        width=640,
    )


def reliability_figure(curve: pl.DataFrame, subject: str) -> Figure | None:
    """Draw accuracy by confidence, and the diagonal of perfect calibration; None for few bins."""
    if curve.height < FEWEST:
        return None
    n: list[int] = curve["n"].to_list()
    plot = go.Figure()
    diagonal = {"color": GREY, "dash": "dash", "width": 1.5}
    plot.add_trace(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=diagonal, name="perfect calibration")
    )
    points = {"x": curve["confidence"].to_list(), "y": curve["accuracy"].to_list()}
    line = go.Scatter(
        **points, text=n, mode="lines+markers", line_color=BLUE, name=escaped(subject)
    )
    tip = "confidence %{x:.3f}, accuracy %{y:.3f}, n = %{text}<extra></extra>"
    plot.add_trace(line.update(hovertemplate=tip))
    plot.update_xaxes(range=[0, 1.02], dtick=0.2, title_text="confidence (highest probability)")
    plot.update_yaxes(range=[0, 1.02], dtick=0.2, title_text="accuracy")
    size = " to ".join(dict.fromkeys([str(min(n)), str(max(n))]))
    return Figure(
        "reliability",
        f"Reliability of {subject}: accuracy by confidence in {curve.height} bins of {size} "
        "utterances each.",
        f"Line of accuracy by confidence of {subject} beside the diagonal of perfect calibration.",
        plot,
        height=420,
        width=420,
        square=True,
    )
