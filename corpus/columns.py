"""The columns of a manifest: their names and types, and the rules that their cells keep."""

from collections.abc import Sequence

import polars as pl

from ser.corpus.cells import (
    SPLITS,
    are_distinct,
    counted,
    flags,
    numbers,
    require_one_line,
    split_names,
    texts,
    without_unknown,
)
from ser.corpus.errors import UserError, listed, plural
from ser.corpus.tables import Table, find_column

COLUMNS = pl.Schema(
    {
        "utterance": pl.String(),
        "path": pl.String(),
        "start": pl.Float64(),
        "end": pl.Float64(),
        "split": pl.String(),
        "speaker": pl.String(),
        "gender": pl.String(),
        "emotion": pl.String(),
        "arousal": pl.Float64(),
        "valence": pl.Float64(),
        "dominance": pl.Float64(),
        "transcript": pl.String(),
        "corpus": pl.String(),
        "language": pl.String(),
        "session": pl.String(),
        "fold": pl.String(),
    }
)
VOTE = "votes."
FURTHER = "votes2."  # counts of raters' further choices, where a corpus has them
NUMBERS = tuple(name for name, dtype in COLUMNS.items() if dtype == pl.Float64())
ATTRIBUTES = ("arousal", "valence", "dominance")
LOWEST, HIGHEST = 1.0, 7.0  # of the attributes
LABELS = ("utterance", "speaker", "gender", "emotion", "corpus", "language", "session", "fold")
SYNTHETIC = "synthetic"  # column of flags, optional


def complete(frame: pl.DataFrame, source: str, classes: Sequence[str]) -> pl.DataFrame:
    """Return a frame with all columns, typed, and nulls where a value is not known."""
    frame = _renamed(frame, source)
    for name in ("utterance", "path"):
        if name not in frame.columns:
            raise UserError(
                f"{source}: the column '{name}' is missing; every row needs an id (utterance) "
                f"and an audio file (path); its columns are: {listed(frame.columns)}."
            )
    empty = [name for name in frame.columns if frame[name].null_count() == frame.height]
    absent = [name for name in COLUMNS if name not in frame.columns or name in empty]
    # a literal takes no memory, a column of nulls 16 bytes a row
    frame = frame.with_columns(pl.lit(None, dtype=COLUMNS[name]).alias(name) for name in absent)
    text = [texts(frame[n], source) for n in COLUMNS if n not in NUMBERS and n not in absent]
    frame = frame.with_columns(text)
    votes = [name for name in frame.columns if name.startswith((VOTE, FURTHER))]
    frame = frame.with_columns(
        numbers(frame[name], frame["utterance"], source)
        for name in (*NUMBERS, *votes)
        if name not in absent
    ).cast(dict.fromkeys(NUMBERS, pl.Float64()))
    if SYNTHETIC in frame.columns:
        frame = frame.with_columns(flags(frame[SYNTHETIC], frame["utterance"], source))
    return frame.with_columns(
        split_names(frame["split"]),
        *(
            without_unknown(frame[name], keep=classes if name == "emotion" else ())
            for name in LABELS
            if name not in ("utterance", *absent)
        ),
    )


def _renamed(frame: pl.DataFrame, source: str) -> pl.DataFrame:
    """Rename columns whose names differ from those of a manifest only in case."""
    names: dict[str, str] = {}
    for name in (*COLUMNS, SYNTHETIC):
        if name not in frame.columns:
            column = find_column(frame.columns, name, source, f"rename one of them to {name}")
            names |= {column: name} if column else {}
    for name in frame.columns:
        prefix, dot, label = name.partition(".")
        lower = prefix.lower() + dot
        if lower in (VOTE, FURTHER) and lower + label not in frame.columns:
            names[name] = lower + label
    return frame.rename(names)


def typed(table: Table) -> pl.DataFrame:
    """Return the frame of a text file with votes and further columns in the type of their cells."""
    frame = table.decimal_points(
        n
        for n in table.frame.columns
        if (k := n.lower()) in NUMBERS or k.startswith((VOTE, FURTHER))
    )
    further = [name for name in frame.columns if name.lower() not in COLUMNS]
    return frame.with_columns(_in_own_type(frame[name]) for name in further)


def _in_own_type(column: pl.Series) -> pl.Series:
    """Return a column of text in the type of its cells: flags, whole numbers, numbers or text."""
    if column.null_count() == len(column) or column.str.contains(r"^[+-]?0\d").any():
        return column  # an id such as 007 stays text
    if column.drop_nulls().is_in(["true", "false"]).all():
        return column == "true"
    for dtype in (pl.Int64, pl.Float64):
        values = column.cast(dtype, strict=False)
        if values.null_count() == column.null_count():
            return values
    return column


def require_valid(frame: pl.DataFrame, classes: Sequence[str], source: str) -> None:
    """Raise `UserError` for a row that breaks a rule; `frame` is `complete`."""
    require_one_line(frame, LABELS, source)
    empty = frame.filter(pl.any_horizontal(pl.col("utterance", "path").fill_null("") == "")).height
    if empty:
        verb = "has" if empty == 1 else "have"
        raise UserError(
            f"{source}: {plural(empty, 'row')} {verb} no utterance id or no path; fill in both."
        )
    if not are_distinct(frame["utterance"]):
        twice = frame["utterance"].filter(frame["utterance"].is_duplicated()).unique().sort()
        raise UserError(
            f"{source}: utterance '{twice[0]}' appears more than once "
            f"({plural(len(twice), 'such id')}); give every row a unique id."
        )
    split = frame.filter(~pl.col("split").is_in(SPLITS))["split"]
    if len(split):
        raise UserError(
            f"{source}: unknown split: {counted(split)}; use train, dev, test or leave it empty."
        )
    emotions = frame["emotion"].drop_nulls()
    others = emotions.filter(~emotions.is_in(list(classes)))
    if len(others):
        raise UserError(
            f"{source}: emotion '{others[0]}' is not one of the classes ({listed(classes)}); "
            "add it to corpus.classes in pipeline.yaml, or give corpus.map or corpus.others."
        )
    scale, counts = "attributes are on the 1-7 scale", "votes are numbers of raters, so 0 or more"
    votes = [name for name in frame.columns if name.startswith(VOTE)]
    rules = [(n, ~pl.col(n).is_between(LOWEST, HIGHEST), scale) for n in ATTRIBUTES]
    rules += [(n, (pl.col(n) < 0) | ~pl.col(n).is_finite(), counts) for n in votes]
    for name, broken, rule in rules:
        bad = frame.filter(broken)
        if bad.height:
            raise UserError(
                f"{source}: {name} is {bad[name][0]:g} for '{bad['utterance'][0]}'; {rule}."
            )
    start = pl.col("start").fill_null(0.0)
    span = frame.filter((start < 0) | (pl.col("end") <= start))
    if span.height:
        raise UserError(
            f"{source}: start and end of '{span['utterance'][0]}' are not a span of time; "
            "start must be 0 or more and end greater than start (seconds)."
        )
