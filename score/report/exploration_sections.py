"""The sections on a corpus: its classes and speakers, the map of its embeddings, layer weights."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import polars as pl

from ser.corpus.errors import plural
from ser.score.report.contents import Contents
from ser.score.report.exploration import BINS, EmbeddingMap
from ser.score.report.figures import BLUE, FEWEST, Figure, escaped, heatmaps, plain
from ser.score.report.formats import Table, frame_of
from ser.score.report.section import Section, drawn

OVERLAPPING = 0.05  # a silhouette below it is of groups that overlap
MOST_SPEAKERS = 40  # that a heatmap has room for
MOST_NAMED = 12  # groups that a legend names
TITLES = {"emotion": "class", "speaker": "speaker", "corpus": "corpus"}
SPLITS = {"train": "Train", "dev": "Dev", "test": "Test", "": "No split"}


def data_section(contents: Contents) -> Section | None:
    """Return the section on classes, speakers, durations and languages."""
    exploration = contents.exploration
    if exploration is None or (exploration.counts is None and exploration.durations is None):
        return None
    text = "The corpus that the heads were trained and scored on, from the manifest."
    tables, shown = [], []
    if exploration.counts is not None:
        tables.append(_classes_table(exploration.counts))
        shown.append(speakers_figure(exploration.counts))
    if exploration.languages is not None:
        frame = exploration.languages.rename(str.capitalize)
        tables.append(Table("languages", "Corpora and languages.", frame))
    if exploration.durations is not None:
        shown.append(durations_figure(exploration.durations, exploration.timed_by))
    return Section("data", "Data", text, figures=drawn(*shown), tables=tables)


def _classes_table(counts: pl.DataFrame) -> Table:
    """Make the table of utterances by class and split, and by speaker."""
    splits = [split for split in SPLITS if (counts["split"] == split).any()]
    rows = []
    for (emotion,), utterances in counts.group_by("emotion", maintain_order=True):
        by_speaker = utterances["speaker"].drop_nulls().value_counts()["count"]
        by_split = [(utterances["split"] == split).sum() for split in splits]
        speakers = (len(by_speaker) or None, by_speaker.min(), by_speaker.max())
        rows.append((emotion, *by_split, *speakers))
    titles = (*(SPLITS[split] for split in splits), "Speakers", "Fewest of one", "Most of one")
    schema = {"Class": pl.String, **dict.fromkeys(titles, pl.Int64)}
    caption = "Utterances by class and split, and how many each speaker who has any has of a class."
    return Table("data", caption, frame_of(sorted(rows), schema))


def map_section(contents: Contents) -> Section | None:
    """Return the section with the map of pooled embeddings."""
    embeddings = None if contents.exploration is None else contents.exploration.embeddings
    if embeddings is None or not embeddings.silhouette:
        return None
    shown = embeddings.points.height
    some = f"{shown} of " if shown < embeddings.of else ""
    text = (
        f"The frames of {embeddings.feature}, averaged over time, of {some}"
        f"{plural(embeddings.of, 'utterance')}: their first two "
        f"principal components, which have {embeddings.explained:.0%} of the variance. The "
        "silhouette is that of all dimensions: 1 where groups are far apart, 0 where they overlap. "
        f"{_verdict(embeddings.silhouette)}"
    )
    rows = [(TITLES[name].capitalize(), v) for name, v in embeddings.silhouette.items()]
    schema = {"Grouped by": pl.String, "Silhouette": pl.Float64}
    table = Table("map", "Silhouette of the pooled embeddings.", frame_of(rows, schema))
    maps = [_map_figure(embeddings, name) for name in TITLES if name in embeddings.points.columns]
    return Section("map", "Map of embeddings", text, figures=maps, tables=[table])


def _verdict(silhouette: dict[str, float]) -> str:
    """Return the sentence that compares emotion with speaker."""
    if not {"emotion", "speaker"} <= set(silhouette):
        return ""
    emotion, speaker = silhouette["emotion"], silhouette["speaker"]
    values = f"({emotion:.3f} by class, {speaker:.3f} by speaker)."
    if max(emotion, speaker) < OVERLAPPING:
        return f"Utterances group neither by class nor by speaker {values}"
    closer = "class than by speaker" if emotion > speaker else "speaker than by class"
    return f"Utterances group more by {closer} {values}"


def layers_section(contents: Contents) -> Section | None:
    """Return the section on the weights of summed layers."""
    layers = None if contents.exploration is None else contents.exploration.layers
    if not layers:
        return None
    rows = [
        (head, feature, len(weights), int(np.argmax(weights)), max(weights))
        for head, features in layers.items()
        for feature, weights in features.items()
    ]
    schema = {"Head": pl.String, "Feature": pl.String, "Layers": pl.Int64}
    schema |= {"Highest": pl.Int64, "Weight": pl.Float64}
    table = Table("layers", "The layer with the highest weight.", frame_of(rows, schema))
    figure = layers_figure(layers)
    text = "A head that reads all layers of a model sums them with weights that it learns."
    return Section("layers", "Layer weights", text, figures=drawn(figure), tables=[table])


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


def _map_figure(embeddings: EmbeddingMap, column: str) -> Figure:
    """Draw the map with the colours of the classes, the speakers or the corpora."""
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
        "Learned weights of the layers that a head sums, the lowest layer first; unless "
        "`layer_sum: free`, they sum to 1.",
        "Lines of the weight of each layer by head and feature.",
        plot,
        height=360,
        width=640,
    )
