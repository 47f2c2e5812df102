"""The heat map and the table of scores across corpora."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from ser.score.cross import Cross, cross_rows
from ser.score.report.figures import Figure, heatmaps, plain
from ser.score.report.formats import Table, frame_of

CELL = 72  # px


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
    rows = [tuple(row) for row in cross_rows(cross, "macro_f1", system)]
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
