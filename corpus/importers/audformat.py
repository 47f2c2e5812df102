"""Any database in audEERING's audformat, by the package audformat, which is an extra.

Loading a database as the package does would run code of its author: its header may have
YAML tags, and its tables may be pickles. So the header is first read without tags, and a folder
with pickles is refused.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ser.corpus.bounded_yaml import LOADER
from ser.corpus.config import stays_within
from ser.corpus.errors import UserError, first_line, nearest
from ser.corpus.importers.registry import build, importer
from ser.corpus.manifest import Manifest

LARGEST_HEADER = 16 * 2**20  # bytes
TABLE = re.compile(r"[\w-][\w.-]*")  # a table's name, which is part of that of its file
SPLITS = ("train", "dev", "test")  # types of splits that mean the same here
# what the package raises for a damaged database
ERRORS = (ValueError, AttributeError, TypeError, LookupError, RuntimeError, AssertionError, OSError)
DEFAULTS = {  # the manifest's column: that of the tables
    "speaker": "speaker",
    "gender": "gender",
    "transcript": "transcription",
    "language": "language",
    "session": "session",
}
Segment = tuple[str, float, float | None]  # file, start and end in seconds; the end may be open
Labels = dict[str | Segment, object]  # a column of all tables, by file, and by segment of one


@importer("audformat", columns=tuple(DEFAULTS))
def audformat(folder: Path, *, emotion: str = "emotion", **columns: str | None) -> Manifest:
    """Import a database in audformat.

    Files: a folder with `db.yaml`, tables as csv or Parquet, and the media; `pip install` the extra
    `audformat`. Tables in pickles are refused, as loading them runs code.
    Options: `emotion`, `speaker`, `gender`, `transcript`, `language` and `session` name the columns
    of its tables (by default columns called so, and transcription); gender and language may also be
    properties of the speakers.
    An utterance is a row of a table that has the column of the emotion: a file or a segment of one.
    Split: that of the tables (`split_id`), where its type is train, dev or test.

    Licence and citation are those of the database.
    """
    database = _load(folder)
    given = {name: column for name, column in columns.items() if column is not None}
    names = sorted({c for name in database.tables for c in database[name].columns})
    for option, column in {"emotion": emotion, **given}.items():
        if column not in names:
            raise UserError(
                f"{folder}: no table has the column '{column}'; name it with "
                f"`--option {option}=COLUMN`; {nearest(column, names)}"
            )
    tables = [name for name in database.tables if emotion in database[name].columns]
    labels_of = {name: _labels(database, column) for name, column in (DEFAULTS | given).items()}
    speakers = _properties(database, given.get("speaker", "speaker"))
    single = list(database.languages or ())
    rows: dict[Segment, dict[str, object]] = {}
    for name in tables:
        split = database.splits[s].type if (s := database[name].split_id) else ""
        for segment, label in _values(database, name, emotion):
            row = {name: _label(labels, segment) for name, labels in labels_of.items()}
            person = speakers.get(row["speaker"], {})
            row["gender"] = row["gender"] or person.get("gender")
            language_name = row["language"] or person.get("language")
            row["language"] = _code(language_name or (single[0] if len(single) == 1 else None))
            row |= {"emotion": label, "split": split if split in SPLITS else ""}
            first = rows.setdefault(segment, row)
            first["split"] = first["split"] or row["split"]
    labelled = [_row(segment, row, folder) for segment, row in rows.items()]
    return _manifest(labelled, folder, str(database.name), _classes(database, tables, emotion))


def _manifest(rows: list[dict[str, Any]], folder: Path, name: str, classes: list[str]) -> Manifest:
    """Give the rows their ids and classes."""
    files = {row["path"] for row in rows}
    short = len({PurePosixPath(file).stem for file in files}) == len(files)
    for row in rows:
        whole = row["start"] is None and row["end"] is None
        file = PurePosixPath(row["path"]).stem if short else row["path"].rpartition(".")[0]
        row["utterance"] = file if whole else f"{file}-{row['start'] or 0.0:09.3f}"
    twice = {name for name, count in Counter(r["utterance"] for r in rows).items() if count > 1}
    for row in rows:  # segments that begin in the same millisecond
        if row["utterance"] in twice:
            row["utterance"] += f"-{row['end'] or 0.0:09.3f}"
    present = {row["emotion"] for row in rows} - {None}
    return build(rows, classes or sorted(present), folder, corpus=name)


def _load(folder: Path) -> Any:
    """Load a database, its tables on demand; raises `UserError` for what would run code."""
    import audformat as package

    header = folder / "db.yaml"
    if not header.is_file():
        raise UserError(f"{header}: there is no such file; give the folder of the database.")
    pickles = sorted(path.name for path in folder.rglob("*.pkl"))
    if pickles:
        raise UserError(
            f"{folder}: loading {pickles[0]} would run code of its author; delete the .pkl "
            "files, or save the tables as csv or parquet."
        )
    try:
        if header.stat().st_size > LARGEST_HEADER:
            raise ValueError(f"it is larger than {LARGEST_HEADER // 2**20} MiB")
        content = yaml.load(header.read_bytes(), Loader=LOADER)  # plain data only
        names = [*(content.get("tables") or ()), *(content.get("misc_tables") or ())]
        odd = [name for name in names if not TABLE.fullmatch(str(name))]
        if odd:
            raise ValueError(f"'{odd[0]}' is no name of a table")
        return package.Database.load(str(folder))
    except (yaml.YAMLError, *ERRORS) as error:
        raise UserError(
            f"{header}: not a database of audformat ({first_line(error)}); save it again."
        ) from error


def _labels(database: Any, column: str) -> Labels:
    """Collect a column from all tables that have it."""
    labels: Labels = {}
    for name in database.tables:
        if column in database[name].columns:
            of_files = database[name].type == "filewise"
            for segment, value in _values(database, name, column):
                labels.setdefault(segment[0] if of_files else segment, value)
    return labels


def _label(labels: Labels, segment: Segment) -> object:
    """Return the value of a segment, else of its file; None where there is none."""
    value = labels.get(segment)
    return labels.get(segment[0]) if value is None else value


def _values(database: Any, table: str, column: str) -> Iterator[tuple[Segment, object]]:
    """Yield the segments of a table with their values; None where there is none."""
    try:
        values = database[table].df[column]
    except ERRORS as error:
        raise UserError(
            f"{database.root}: the table '{table}' is not readable ({first_line(error)}); save the "
            "database again."
        ) from error
    missing = values.isna()
    for key, value, null in zip(values.index, values, missing, strict=True):
        file, start, end = key if isinstance(key, tuple) else (key, None, None)
        segment = (str(file), _seconds(start) or 0.0, _seconds(end))
        yield segment, None if null else value


def _seconds(time: Any) -> float | None:
    """Return a time of pandas in seconds; None for NaT, which is open."""
    seconds = None if time is None else float(time.total_seconds())
    return None if seconds is None or seconds != seconds else seconds  # noqa: PLR0124  NaN


def _properties(database: Any, column: str) -> dict[object, dict[str, object]]:
    """Return the properties of a column's labels, as speaker -> gender."""
    for name in database.tables:
        entry = database[name].columns.get(column)
        if entry is not None and entry.scheme_id is not None:
            labels = database.schemes[entry.scheme_id].labels
            if isinstance(labels, dict):
                return {k: v if isinstance(v, dict) else {} for k, v in labels.items()}
    return {}


def _classes(database: Any, tables: list[str], column: str) -> list[str]:
    """Return the labels of the emotion's scheme, in its order."""
    scheme = database[tables[0]].columns[column].scheme_id
    labels = database.schemes[scheme].labels if scheme else None
    return [str(label) for label in labels or ()] if not isinstance(labels, str) else []


def _code(language: object) -> str | None:
    """Return a language as a code of ISO 639-1, else as it is written there."""
    if not language:
        return None
    from iso639 import Lang
    from iso639.exceptions import InvalidLanguageValue

    try:
        return Lang(str(language)).pt1 or str(language)
    except InvalidLanguageValue:
        return str(language)


def _row(segment: Segment, row: dict[str, object], folder: Path) -> dict[str, Any]:
    file, start, end = segment
    path = PurePosixPath(file.replace("\\", "/"))
    if not stays_within(str(path)):
        raise UserError(
            f"{folder}: the file '{file}' is outside the folder; make the database portable, with "
            "paths below it."
        )
    text = {k: None if v is None else str(v) for k, v in row.items()}
    return {"path": path.as_posix(), "start": start or None, "end": end, **text}
