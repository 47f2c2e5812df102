"""The sections on rotations (`ser cv`) and on trainings across corpora (`ser cross`)."""

from ser.corpus.errors import plural
from ser.score.report import tables
from ser.score.report.contents import Contents
from ser.score.report.cross import cross_figure, cross_tables
from ser.score.report.section import Section


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
    section_tables = [tables.rotation_summary_table(rotations), tables.rotations_table(rotations)]
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
