"""The figures of a corpus: classes by speaker, durations, the map of embeddings, layer weights."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import polars as pl

from ser.corpus.errors import plural
from ser.score.report.exploration import BINS, EmbeddingMap
from ser.score.report.figures import BLUE, FEWEST, Figure, escaped, heatmaps, plain

MOST_SPEAKERS = 40  # that a heatmap has room for
MOST_NAMED = 12  # groups that a legend names
TITLES = {"emotion": "class", "speaker": "speaker", "corpus": "corpus"}


def speakers_figure(counts: pl.DataFrame) -> Figure | None:
    """Draw the utterances of each class and speaker; None for few speakers, and for very many."""
    table = counts.drop_nulls("speaker").group_by("emotion", "speaker").len()
    classes, speakers = (table[column].unique().sort().to_list() for column in table.columns[:2])
    if not FEWEST <= len(speakers) <= MOST_SPEAKERS:
        return None
    numbers = np.zeros((len(classes), len(speakers)), np.int64)
    for emotion, speaker, n in table.iter_rows():
        numbers[classes.index(emotion), speakers.index(speaker)] = n
    shares = numbers / numbers.max()
    tip = "%{y}, speaker %{x}: %{customdata}"
    plot = go.Figure(heatmaps(shares, plain(speakers), plain(classes), numbers, tip))
    plot.update_xaxes(title_text="speaker", showgrid=False, type="category")
    plot.update_yaxes(showgrid=False, type="category", autorange="reversed")
    return Figure(
        "speakers",
        "Utterances of each class and speaker.",
        "Heatmap of the number of utterances by class and speaker.",
        plot,
        height=90 + 30 * len(classes),
        width=min(1100, 140 + 36 * len(speakers)),
        least=140 + 22 * len(speakers),
    )


def durations_figure(seconds: np.ndarray, timed_by: str) -> Figure | None:
    """Draw the histogram of durations; None where there are few."""
    if len(np.unique(seconds)) < FEWEST:
        return None
    counts, edges = np.histogram(seconds, BINS)
    bars = go.Bar(
        x=((edges[:-1] + edges[1:]) / 2).round(3).tolist(),
        y=counts.tolist(),
        width=float(edges[1] - edges[0]),
        marker_color=BLUE,
    )
    plot = go.Figure(bars.update(hovertemplate="%{x:.2f} s: %{y}<extra></extra>"))
    plot.update_layout(
        xaxis={"title_text": "seconds", "rangemode": "tozero"}, yaxis={"title_text": "utterances"}
    )
    return Figure(
        "durations",
        f"Durations of {plural(len(seconds), 'utterance')}, from {escaped(timed_by)}: median "
        f"{np.median(seconds):.2f} s, {seconds.min():.2f} to {seconds.max():.2f} s.",
        "Histogram of the durations of utterances.",
        plot,
        height=280,
        width=480,
    )


def map_figures(embeddings: EmbeddingMap) -> list[Figure]:
    """Draw the map once for each colouring: by class, by speaker and by corpus."""
    columns = [name for name in TITLES if name in embeddings.points.columns]
    return [_map_figure(embeddings, column) for column in columns]


def _map_figure(embeddings: EmbeddingMap, column: str) -> Figure:
    groups = embeddings.points.with_columns(pl.col(column).fill_null("unknown"))
    names = groups[column].unique().sort().to_list()
    plot = go.Figure()
    for i, name in enumerate(names):
        rows = groups.filter(pl.col(column) == name)
        plot.add_trace(
            go.Scatter(
                x=rows["x"].to_list(),
                y=rows["y"].to_list(),
                mode="markers",
                name=escaped(name),
                marker={"size": 5, "opacity": 0.7, "color": _colour(i, len(names))},
                showlegend=len(names) <= MOST_NAMED,
                hovertemplate=f"{escaped(name)}<extra></extra>",
            )
        )
    plot.update_xaxes(showticklabels=False, zeroline=False, title_text="first component")
    plot.update_yaxes(showticklabels=False, zeroline=False, title_text="second component")
    title, silhouette = TITLES[column], embeddings.silhouette.get(column)
    measured = "" if silhouette is None else f": silhouette {silhouette:.3f}"
    return Figure(
        f"map-{title}",
        f"Pooled embeddings of {escaped(embeddings.feature)} by {title}{measured}.",
        f"Scatter of utterances on two principal components, coloured by {title}.",
        plot,
        height=400,
        width=400,
        square=True,
    )


def _colour(number: int, of: int) -> str:
    """Return one of evenly spaced hues that stand out from light and dark paper."""
    return f"hsl({round(360 * number / of)}, 60%, 50%)"


def layers_figure(layers: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure | None:
    """Draw the weight of each layer, a line a head and feature; None for few layers."""
    plot = go.Figure()
    lines = [(f"{h}: {f}", w) for h, features in layers.items() for f, w in features.items()]
    if max(len(weights) for _, weights in lines) < FEWEST:
        return None
    for i, (name, weights) in enumerate(lines):
        scatter = go.Scatter(
            x=list(range(len(weights))),
            y=[round(weight, 6) for weight in weights],
            mode="lines+markers",
            name=escaped(name),
            line_color=_colour(i, len(lines)),
            showlegend=len(lines) <= MOST_NAMED,
        )
        tip = f"{escaped(name)}, layer %{{x}}: %{{y:.3f}}<extra></extra>"
        plot.add_trace(scatter.update(hovertemplate=tip))
    plot.update_layout(
        xaxis={"title_text": "layer"}, yaxis={"title_text": "weight", "rangemode": "tozero"}
    )
    return Figure(
        "layers",
        "Learned weights of the layers that a head sums, the lowest layer first; they sum to 1.",
        "Lines of the weight of each layer by head and feature.",
        plot,
        height=360,
        width=640,
    )
