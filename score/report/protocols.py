"""The sections on rotations (`ser cv`) and on trainings across corpora (`ser cross`)."""

import polars as pl

from ser.corpus.errors import plural
from ser.score.report.contents import Contents
from ser.score.report.cross import cross_figure, cross_tables
from ser.score.report.formats import Schema, Table, frame_of
from ser.score.report.section import Section
from ser.score.rotation_tables import rotation_rows
from ser.score.rotations import Rotations


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
    section_tables = [rotation_summary_table(rotations), rotations_table(rotations)]
    return Section("rotations", "Rotations", text, tables=section_tables)


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


def rotation_summary_table(rotations: Rotations) -> Table:
    """Make the table of mean ± sd over rotations and seeds, a row a system."""
    header, rows = rotation_rows(rotations)
    frame = frame_of([tuple(row) for row in rows], dict.fromkeys(header, pl.String))
    caption = f"Mean ± sd of {plural(len(rotations.rotations), 'rotation')}"
    if len(rotations.repetitions) > 1:
        caption += f", and of the pooled scores of {plural(len(rotations.repetitions), 'seed')}"
    titles = {name: name[:1].upper() + name[1:] for name in header}
    return Table("rotation-means", f"{caption}.", frame.rename(titles))


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
