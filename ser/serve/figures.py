"""The page's figures, in colours for light and dark backgrounds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ser.corpus.audio import SAMPLE_RATE
from ser.predict.formats import without_overlap
from ser.predict.result import Result, Segment
from ser.serve.decode import STEP

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Wong, Points of view: color blindness (Nature Methods 2011), black replaced, three added
COLOURS = [
    *("#d55e00", "#0072b2", "#e69f00", "#cc79a7", "#009e73", "#56b4e9"),
    *("#b8a800", "#8c8c8c", "#7a5cc4", "#a0522d", "#4c8c4a"),
]
GREY, LINE = "#8a929a", "rgba(128,128,128,0.25)"
POINTS = 2000  # of a waveform


def colour(classes: Sequence[str], emotion: str | None) -> str:
    """Return the colour of a class, by its position among them."""
    return GREY if emotion is None else COLOURS[classes.index(emotion) % len(COLOURS)]


def waveform(result: Result, envelope: np.ndarray, classes: Sequence[str]) -> "Figure":
    """Draw an envelope `(points, 2)` over time; each segment has the colour of its emotion."""
    import plotly.graph_objects as go

    thin = -(-len(envelope) // POINTS)
    starts = np.arange(0, len(envelope), thin)
    low = np.minimum.reduceat(envelope[:, 0], starts)
    high = np.maximum.reduceat(envelope[:, 1], starts)
    step = thin * STEP / SAMPLE_RATE
    figure, named = go.Figure(), set()
    figure.add_trace(_shape(low, high, 0, step, fillcolor=GREY, showlegend=False, hoverinfo="skip"))
    for segment in without_overlap(result.segments):
        emotion, fill = segment.emotion, colour(classes, segment.emotion)
        first, last = int(segment.start / step), int(np.ceil(segment.end / step)) + 1
        style = {
            "fillcolor": fill,
            "name": emotion or "segment",
            "legendgroup": emotion or "segment",
            "showlegend": emotion is not None and emotion not in named,
            "text": _tip(segment),
            "hoverinfo": "text",
            "hoveron": "fills",
        }
        figure.add_trace(_shape(low[first:last], high[first:last], first, step, **style))
        figure.add_vrect(
            x0=segment.start,
            x1=segment.end,
            fillcolor=fill,
            opacity=0.15,
            line_width=0,
            layer="below",
        )
        named.add(emotion)
    top = max(0.01, float(np.abs(envelope).max(initial=0)))
    figure.update_xaxes(title="seconds", range=[0, result.seconds])
    figure.update_yaxes(visible=False, range=[-1.05 * top, 1.05 * top], fixedrange=True)
    return _plain(figure, 240)


def attribute_plane(result: Result) -> "Figure":
    """Draw valence and arousal, 1 to 7, of the clip, and smaller those of its segments."""
    import plotly.graph_objects as go

    figure = go.Figure()
    parts = result.segments if len(result.segments) > 1 else ()
    points = [(segment.attributes, 7, GREY) for segment in parts]
    for values, size, fill in [*points, (result.attributes, 15, COLOURS[0])]:
        figure.add_trace(
            go.Scatter(
                x=[values["valence"]],
                y=[values["arousal"]],
                mode="markers",
                marker={"size": size, "color": fill},
                showlegend=False,
                hovertemplate="valence %{x:.2f}<br>arousal %{y:.2f}<extra></extra>",
            )
        )
    figure.add_hline(y=4, line_color=LINE)
    figure.add_vline(x=4, line_color=LINE)
    figure.update_xaxes(title="valence", range=[1, 7], showgrid=False, dtick=1)
    figure.update_yaxes(title="arousal", range=[1, 7], showgrid=False, dtick=1)
    return _plain(figure, 300)


def _shape(low: np.ndarray, high: np.ndarray, first: int, step: float, **style: object) -> object:
    import plotly.graph_objects as go

    x = (first + np.arange(len(low))) * step
    xs, ys = np.concatenate([x, x[::-1]]), np.concatenate([high, low[::-1]])
    points = {"x": xs.round(3).tolist(), "y": ys.round(4).tolist()}
    return go.Scatter(**points, mode="lines", line={"width": 0}, fill="toself", **style)


def _tip(segment: Segment) -> str:
    span = f"{segment.start:.1f}–{segment.end:.1f} s"
    ranked = sorted(segment.probabilities.items(), key=lambda item: -item[1])[:3]
    return "<br>".join([span, *(f"{name} {value:.2f}" for name, value in ranked)])


def _plain(figure: "Figure", height: int) -> "Figure":
    figure.update_xaxes(gridcolor=LINE, zeroline=False)
    figure.update_layout(
        height=height,
        margin={"l": 40, "r": 10, "t": 10, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GREY, "family": "system-ui, sans-serif"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        template=None,
    )
    return figure
