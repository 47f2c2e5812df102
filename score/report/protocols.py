"""The sections on rotations (`ser cv`) and on trainings across corpora (`ser cross`)."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from ser.corpus.errors import plural
from ser.score.cross import Cross, cross_rows
from ser.score.report.contents import Contents
from ser.score.report.figures import Figure, heatmaps, plain
from ser.score.report.formats import Schema, Table, frame_of
from ser.score.report.section import Section
from ser.score.rotations import Rotations, rotation_rows

CELL = 72  # px of the heat map


def rotations_section(contents: Contents) -> Section | None:
    """Return the section of a cross-validation's rotations; None for any other run."""
    rotations = contents.rotations
    if rotations is None:
        return None
    text = (
        f"Each {rotations.by} was tested once, by heads and a stack that were trained without it. "
        "All other numbers of this report are those of the pooled test predictions of "
        f"{plural(len(rotations.rotations), 'rotation')}; here are the rotations one by one."
    )
    header, rows = rotation_rows(rotations)
    titles = [name[:1].upper() + name[1:] for name in header]
    frame = frame_of(rows, dict.fromkeys(titles, pl.String))
    caption = f"Mean ± sd of {plural(len(rotations.rotations), 'rotation')}"
    if len(rotations.repetitions) > 1:
        caption += f", and of the pooled scores of {plural(len(rotations.repetitions), 'seed')}"
    means = Table("rotation-means", f"{caption}.", frame)
    return Section("rotations", "Rotations", text, tables=[means, rotations_table(rotations)])


def cross_section(contents: Contents) -> Section | None:
    """Return the section of scores across corpora; None for a run without them."""
    if not contents.cross:
        return None
    text = (
        "Trained on one part of the corpus and tested on another, each with heads and a stack of "
        "its own. Where both are the same, its test split is scored; everywhere else the whole "
        "tested part is."
    )
    drawn = [cross_figure(scores) for scores in contents.cross]
    section_tables = [table for scores in contents.cross for table in cross_tables(scores)]
    return Section("cross", "Across corpora", text, figures=drawn, tables=section_tables)


def rotations_table(rotations: Rotations) -> Table:
    """Make the table of every rotation: its size, and macro-F1 (else mean CCC) of each system."""
    systems = list(dict.fromkeys(s for part in rotations.rotations for s in part.scores))
    classes = any("macro_f1" in part.scores[s] for part in rotations.rotations for s in part.scores)
    metric, title = ("macro_f1", "Macro-F1") if classes else ("ccc", "Mean CCC")
    schema: Schema = {"Rotation": pl.String, "Speakers": pl.Int64, "n": pl.Int64}
    schema |= dict.fromkeys(systems, pl.Float64)
    rows = [
        (
            part.name,
            part.speakers,
            part.utterances,
            *(part.scores.get(system, {}).get(metric) for system in systems),
        )
        for part in rotations.rotations
    ]
    return Table("rotations", f"{title} of every system in each rotation.", frame_of(rows, schema))


def cross_tables(cross: Cross) -> list[Table]:
    """Make the tables of macro-F1 and its interval: a row a training, a column a test corpus.

    They are of the shown system, and of the baseline where there is another.
    """
    tables = [_table(cross, cross.system, f"cross-{cross.by}", cross.system)]
    if cross.baseline not in (None, cross.system):
        name, title = str(cross.baseline), f"cross-{cross.by}-baseline"
        tables.append(_table(cross, name, title, f"{name}, the plain baseline,"))
    return tables


def _table(cross: Cross, system: str, name: str, title: str) -> Table:
    header = ["Trained on", *cross.corpora]
    rows = cross_rows(cross, "macro_f1", system)
    caption = (
        f"Macro-F1 of {title} over the classes that both corpora have, with 95 % intervals "
        f"over speakers, by tested {cross.by}."
    )
    return Table(name, caption, frame_of(rows, dict.fromkeys(header, pl.String)))


def cross_figure(cross: Cross) -> Figure:
    """Draw macro-F1 by training (rows) and test corpus (columns)."""
    rows = cross.rows
    values = np.full((len(rows), len(cross.corpora)), np.nan)
    for i, cells in enumerate(rows.values()):
        for j, corpus in enumerate(cross.corpora):
            if corpus in cells and cross.system in cells[corpus].scores:
                values[i, j] = cells[corpus].scores[cross.system].macro_f1
    plot = go.Figure(heatmaps(values, plain(cross.corpora), plain(list(rows)), None))
    plot.update_xaxes(showgrid=False, tickangle=0, type="category", side="top", title_text="tested")
    plot.update_yaxes(
        showgrid=False, type="category", autorange="reversed", title_text="trained on"
    )
    return Figure(
        f"cross-{cross.by}",
        f"Macro-F1 of {cross.system}, trained on one {cross.by} (row) and tested on another "
        "(column), over the classes that both have.",
        f"Heatmap of macro-F1 by trained and tested {cross.by}.",
        plot,
        height=110 + CELL // 2 * len(rows),
        width=180 + max(CELL * len(cross.corpora), 240),
    )
