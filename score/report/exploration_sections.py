"""The sections on a corpus: its classes and speakers, the map of its embeddings, layer weights."""

import numpy as np
import polars as pl

from ser.corpus.errors import plural
from ser.score.report import exploration_figures as figures
from ser.score.report.contents import Contents
from ser.score.report.formats import Table, frame_of
from ser.score.report.section import Section, drawn

OVERLAPPING = 0.05  # a silhouette below it is of groups that overlap
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
        shown.append(figures.speakers_figure(exploration.counts))
    if exploration.languages is not None:
        tables.append(_languages_table(exploration.languages))
    if exploration.durations is not None:
        shown.append(figures.durations_figure(exploration.durations, exploration.timed_by))
    return Section("data", "Data", text, figures=drawn(*shown), tables=tables)


def _classes_table(counts: pl.DataFrame) -> Table:
    """Make the table of utterances by class and split, and by speaker."""
    splits = [split for split in SPLITS if (counts["split"] == split).any()]
    rows = []
    for (emotion,), utterances in counts.group_by("emotion", maintain_order=True):
        by_speaker = utterances["speaker"].drop_nulls().value_counts()["count"].to_list()
        row: list[object] = [emotion, *((utterances["split"] == split).sum() for split in splits)]
        row += [len(by_speaker) or None, min(by_speaker, default=None)]
        rows.append([*row, max(by_speaker, default=None)])
    titles = (*(SPLITS[split] for split in splits), "Speakers", "Fewest of one", "Most of one")
    schema = {"Class": pl.String, **dict.fromkeys(titles, pl.Int64)}
    caption = "Utterances by class and split, and how many each speaker who has any has of a class."
    return Table("data", caption, frame_of(sorted(rows), schema))


def _languages_table(languages: pl.DataFrame) -> Table:
    titles = {"corpus": "Corpus", "language": "Language"}
    titles |= {"utterances": "Utterances", "speakers": "Speakers"}
    return Table("languages", "Corpora and languages.", languages.rename(titles))


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
    rows = [(figures.TITLES[name].capitalize(), v) for name, v in embeddings.silhouette.items()]
    schema = {"Grouped by": pl.String, "Silhouette": pl.Float64}
    table = Table("map", "Silhouette of the pooled embeddings.", frame_of(rows, schema))
    maps = figures.map_figures(embeddings)
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
    figure = figures.layers_figure(layers)
    text = "A head that reads all layers of a model sums them with weights that it learns."
    return Section("layers", "Layer weights", text, figures=drawn(figure), tables=[table])
