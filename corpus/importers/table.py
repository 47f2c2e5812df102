"""Any table with one row per utterance: csv, tsv or Parquet; options name its columns."""

import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from ser.corpus.cells import SPLITS, UNKNOWN, counted, split_names, texts
from ser.corpus.columns import COLUMNS, FURTHER, NUMBERS, SYNTHETIC, VOTE
from ser.corpus.errors import UserError, listed, nearest, plural, similar
from ser.corpus.importers.options import class_mapping
from ser.corpus.importers.registry import importer
from ser.corpus.manifest import Manifest
from ser.corpus.rows import BLANKS
from ser.corpus.tables import Table, find_column, read_table, with_slashes


@importer("csv", columns=tuple(COLUMNS))
def table(
    folder: Path,
    *,
    table: str | Path = "",
    emotions: Mapping[str, str] | None = None,
    splits: Mapping[str, str] | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    quotes: str | None = None,
    **columns: str | None,
) -> Manifest:
    """Import a table of your own.

    Files: `folder` is the audio folder that the paths start from; the table may be anywhere.
    Options: `table`: a .csv, .tsv or .parquet with a header. `emotions`: how its emotions map to
    classes, such as {A: angry, H: happy}; others have no class; without it they stay as they are.
    `splits`: the same for its splits, such as {eval: test}; the usual names of train, dev and test
    (training, validation, val, …) are recognized. `separator`, `encoding` and `quotes` (cells or
    text) where they are not detected correctly, as in separator=tab, encoding=cp1252, quotes=text.
    Every other option names the table's column for the manifest's column of that name; by default
    the column of the same name (case-insensitive) is used if there is one. `votes.<class>` columns
    and `synthetic` (true for synthesized speech) are kept, other columns are left out. Without ids,
    the stem of the path becomes the id.

    Licence and citation: those of your corpus.
    """
    named = dict.fromkeys(COLUMNS) | columns
    read = read_table(_file(str(table), folder), separator, encoding, quotes)
    return manifest_of_table(read, named, folder, str(table), emotions=emotions, splits=splits)


def manifest_of_table(
    read: Table,
    named: Mapping[str, str | None],
    folder: Path,
    table: str,
    *,
    emotions: Mapping[str, str] | None,
    splits: Mapping[str, str] | None,
) -> Manifest:
    """Make the manifest of a table that was read; the options are those of the importer `csv`.

    `named` has the table's column for each of the manifest's, or None; `table` names it in
    messages.
    """
    if read.frame.is_empty():
        raise UserError(f"{table}: this table has no rows.")
    columns = _columns(read.frame.columns, named, table)
    votes = [n for n in read.frame.columns if n.lower().startswith((VOTE, FURTHER))]
    mark = find_column(read.frame.columns, SYNTHETIC, table, f"rename one of them to {SYNTHETIC}")
    extra = votes if mark is None else [*votes, mark]
    frame = read.decimal_points([*(columns[n] for n in NUMBERS if n in columns), *votes])
    named_columns = [*columns.items(), *((c, c) for c in extra)]
    frame = pl.DataFrame([frame[c].alias(name) for name, c in named_columns])
    frame = frame.with_columns(
        texts(frame[name], table).str.strip_chars(BLANKS)
        for name in columns
        if COLUMNS[name] == pl.String()
    )
    for option, mapping, column in (("emotions", emotions, "emotion"), ("splits", splits, "split")):
        if mapping is not None and column not in columns:
            raise UserError(
                f"{table}: there is no column '{column}' for option {option}; name it with "
                f"`--option {column}=COLUMN`; the columns are: {listed(read.frame.columns)}."
            )
    notes = [*read.notes, *_column_notes(read.frame.columns, columns, extra)]
    classes = None
    if "split" in columns:
        frame = frame.with_columns(_splits(frame["split"], splits, table))
    if "emotion" in columns:
        labels, classes, label_notes = _emotions(frame["emotion"], emotions, table)
        frame, notes = frame.with_columns(labels), notes + label_notes
    frame = _relative(with_slashes(frame, folder), folder)
    if "utterance" not in columns:
        frame = frame.with_columns(_stems(frame["path"], columns["path"], table))
    return Manifest(frame, classes, table, notes=notes)


def _file(table: str, folder: Path) -> Path:
    if not table:
        raise UserError(
            "no table is given; give a .csv, .tsv or .parquet with `--option table=FILE`."
        )
    if not Path(table).is_file():
        inside = folder / table
        hint = f"; did you mean table={inside}?" if inside.is_file() else "."
        raise UserError(
            f"{table}: there is no such table; give a .csv, .tsv or .parquet with "
            f"`--option table=FILE`{hint}"
        )
    return Path(table)


def _columns(header: list[str], named: Mapping[str, str | None], table: str) -> dict[str, str]:
    """Map each manifest column that the table has to the name of the table's column."""
    columns: dict[str, str] = {}
    for name, option in named.items():
        if option is None:
            remedy = f"choose one with `--option {name}=COLUMN`"
        elif option in header:
            columns[name] = option
            continue
        else:
            remedy = f"spell {name} exactly like one of them"
        column = find_column(header, (option or name).strip(BLANKS), table, remedy)
        if column is None and option is not None:
            raise UserError(
                f"{table}: there is no column '{option}' for {name}; its columns are: "
                f"{listed(header)}."
            )
        if column is not None:
            columns[name] = column
    if "path" not in columns:
        data = any(re.search(r"\.(wav|flac|mp3|ogg|opus|m4a|aiff?)$", c, re.I) for c in header)
        raise UserError(
            f"{table}: the first line is not a header ({listed(header)}); add one above it, "
            "such as path,emotion,speaker,split."
            if data
            else f"{table}: there is no column 'path'; name the column of audio files with "
            f"`--option path=COLUMN`; the columns are: {listed(header)}."
        )
    return columns


def _column_notes(header: list[str], columns: Mapping[str, str], extra: list[str]) -> list[str]:
    used = [c if c == name else f"{c} (as {name})" for name, c in columns.items()] + extra
    ignored = [c or "(no name)" for c in header if c not in {*columns.values(), *extra}]
    notes = [f"columns used: {listed(used)}"]
    return notes + ([f"columns left out: {listed(ignored)}"] if ignored else [])


def _emotions(
    column: pl.Series, emotions: Mapping[str, str] | None, table: str
) -> tuple[pl.Series, list[str] | None, list[str]]:
    """Map emotions to classes: the column, the classes in order, and which cells have none."""
    if emotions is None:
        words = column.filter(column.str.to_lowercase().is_in(UNKNOWN[1:]))
        return column, None, [f"no class: {counted(words)}"] if len(words) else []
    mapping = _mapping("emotions", emotions, column, table)
    unmapped = column.filter(~column.is_in(list(mapping)) & (column != ""))
    notes = [f"no class, because not in emotions: {counted(unmapped)}"] if len(unmapped) else []
    classes = list(dict.fromkeys(name for name in mapping.values() if name is not None))
    column = column.replace_strict(mapping, default=None, return_dtype=pl.String)
    return column, classes, notes


def _splits(column: pl.Series, splits: Mapping[str, str] | None, table: str) -> pl.Series:
    if splits is not None:
        mapping = _mapping("splits", splits, column, table)
        wrong = [v for v in mapping.values() if v not in SPLITS and v is not None]
        if wrong:
            raise UserError(f"option splits maps to '{wrong[0]}'; map to train, dev or test.")
        column = column.replace(mapping)
    column = split_names(column)
    unknown = column.filter(~column.is_in(SPLITS))
    if len(unknown):
        raise UserError(
            f"{table}: unknown split: {counted(unknown)}; map it with "
            f"splits={{{unknown[0]}: test}}, or leave these cells empty."
        )
    return column


def _mapping(option: str, value: object, column: pl.Series, table: str) -> dict[str, str | None]:
    """Check a mapping whose keys have to be cells of the column."""
    mapping = class_mapping(option, value)
    cells = column.drop_nulls().unique().sort().to_list()
    missing = [cell for cell in mapping if cell not in cells]
    if missing:
        raise UserError(
            f"{table}: option {option} maps '{missing[0]}', but no cell has this value; "
            f"{nearest(missing[0], cells if similar(missing[0], cells) else cells[:20])}"
        )
    return mapping


def _relative(frame: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Return the frame with absolute paths within the folder as relative ones."""
    column = frame["path"]
    for prefix in {f"{folder}/", f"{folder.resolve()}/"}:
        if prefix.startswith("/"):
            column = column.str.strip_prefix(prefix)
    return frame.with_columns(column)


def _stems(paths: pl.Series, column: str, table: str) -> pl.Series:
    """Return an id for every path: its name without folder and suffix."""
    stems = paths.str.replace(r"^.*/", "").str.replace(r"\.\w+$", "").alias("utterance")
    twice = stems.filter(stems.is_duplicated() & stems.is_not_null())
    if not len(twice):
        return stems
    remedy = (
        f"name a column of ids with `--option utterance=COLUMN`, such as utterance={column}"
        if paths.n_unique() == len(paths)
        else "add a column of ids and name it with `--option utterance=COLUMN`"
    )
    raise UserError(
        f"{table}: {plural(int(stems.is_duplicated().sum()), 'row')} share a file name with "
        f"another row (such as '{twice[0]}'), so file names cannot serve as ids; {remedy}."
    )
