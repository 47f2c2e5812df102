"""Convert the cells of a table to typed columns: numbers, text, names of splits.

What people and programs write for a missing value (NaN, NA, null, none, -) is null in numbers, and
in text columns that hold names; any other cell that is not a number is an error that names its row.
"""

from collections.abc import Collection, Iterable

import polars as pl

from ser.corpus.errors import CONTROL, CONTROLS, UserError, plural, shown
from ser.corpus.rows import BLANKS

UNKNOWN = ("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none", "-")
TRUE, FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")
SPLITS = ("train", "dev", "test", "")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(UNKNOWN, ""),
}


def numbers(column: pl.Series, rows: pl.Series, source: str) -> pl.Series:
    """Return a column as numbers: NaN and the words of `UNKNOWN` are null, integers stay integers.

    `rows` names the rows in errors. Raises `UserError` for text, infinity or another type.
    """
    if column.dtype == pl.String:
        words = column.str.strip_chars(BLANKS)
        words = words.set(words.str.to_lowercase().is_in(UNKNOWN), None)
        values = words.cast(pl.Float64, strict=False)
        _refuse(values.is_null() & words.is_not_null(), column, rows, source)
    elif column.dtype.is_numeric():
        values = column if column.dtype.is_integer() else column.cast(pl.Float64)
    elif column.dtype == pl.Null:
        values = column.cast(pl.Float64)
    else:
        raise UserError(
            f"{source}: the column '{column.name}' is of type {column.dtype}; start, end, the "
            "attributes and the votes are numbers."
        )
    if values.dtype == pl.Float64:
        values = values.fill_nan(None)
        _refuse(values.is_infinite().fill_null(False), column, rows, source)
    return values


def flags(column: pl.Series, rows: pl.Series, source: str) -> pl.Series:
    """Return a column as booleans; an empty cell and the words of `UNKNOWN` are false.

    `rows` names the rows in errors. Raises `UserError` for another word.
    """
    words = texts(column, source).str.strip_chars(BLANKS).str.to_lowercase().fill_null("")
    for row, cell, word in zip(rows, column, words, strict=True):
        if word not in (*TRUE, *FALSE, *UNKNOWN):
            raise UserError(
                f"{source}: {column.name} is '{cell}' for '{row}'; it states whether the speech "
                "was synthesized: write true or false."
            )
    return words.is_in(TRUE)


def texts(column: pl.Series, source: str) -> pl.Series:
    """Return a column as text; NaN, as pandas writes a missing text, is null.

    Raises `UserError` for lists, structs and bytes that are not text.
    """
    if column.dtype == pl.String:
        return column
    if column.dtype.is_float():
        column = column.fill_nan(None)
    try:
        if not (column.dtype.is_nested() or column.dtype == pl.Object):
            return column.cast(pl.String)
    except pl.exceptions.PolarsError:
        pass
    raise UserError(
        f"{source}: the column '{column.name}' is of type {column.dtype}; write it as text."
    )


def require_one_line(frame: pl.DataFrame, names: Iterable[str], source: str) -> None:
    """Raise `UserError` for a cell of these text columns with a line break or control character.

    Such a name would break the lines of tables, subtitles and reports.
    """
    for name in names:
        broken = frame[name].str.contains(f"[{CONTROLS}]").fill_null(False)
        if broken.any():
            cell = shown(frame[name][int(broken.arg_max() or 0)])
            raise UserError(
                f"{source}: {name} '{cell}' has a line break or a control character "
                f"({plural(int(broken.sum()), 'row')}); remove it from the cell."
            )
    for name in frame.columns:
        if CONTROL.search(name):
            raise UserError(
                f"{source}: the name of the column '{shown(name)}' has a line break or a control "
                "character; rename it."
            )


def without_unknown(column: pl.Series, keep: Collection[str] = ()) -> pl.Series:
    """Return a text column whose words of `UNKNOWN` are null, except those to keep."""
    words = column.unique()
    unknown = words.str.strip_chars(BLANKS).str.to_lowercase().is_in(UNKNOWN)
    unknown &= ~words.is_in(list(keep))
    cells = words.filter(unknown).to_list()
    return column.set(column.is_in(cells), None) if cells else column


def split_names(column: pl.Series) -> pl.Series:
    """Return train, dev, test or "" for every word that means it; other words stay as they are."""
    if column.unique().is_in(SPLITS).all() and not column.has_nulls():
        return column
    words = column.str.strip_chars(BLANKS).str.to_lowercase()
    return words.replace_strict(SPLIT_WORDS, default=column, return_dtype=pl.String).fill_null("")


def are_distinct(column: pl.Series) -> bool:
    """Return whether no value appears twice, in half the time and memory of `n_unique` on text."""
    return column.hash().n_unique() == len(column) or column.n_unique() == len(column)


def counted(words: pl.Series, unit: str = "row", most: int = 5) -> str:
    """List words and how often each occurs: "'eval' (3 rows), 'x' (1 row)"."""
    counts = words.value_counts(sort=True).sort(["count", words.name], descending=[True, False])
    first = [f"'{shown(w)}' ({plural(n, unit)})" for w, n in counts.head(most).iter_rows()]
    hidden = counts.height - most
    return ", ".join(first) + (f" and {hidden} more" if hidden > 0 else "")


def _refuse(bad: pl.Series, column: pl.Series, rows: pl.Series, source: str) -> None:
    if bad.any():
        at = int(bad.arg_max() or 0)
        raise UserError(
            f"{source}: {column.name} is '{column[at]}' for '{rows[at]}', not a number; leave the "
            "cell empty where it is unknown."
        )
