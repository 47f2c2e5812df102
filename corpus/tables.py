"""Read the tables that people have: csv, tsv and Parquet, as spreadsheets and scripts save them.

- Every cell of a text file stays text and is stripped; an empty cell is null, `""` is "".
- The separator is detected in the first lines (comma, semicolon, tab, bar), the encoding by its
  byte order mark (UTF-8, UTF-16, UTF-32).
- Blank rows and blank columns without a name are skipped. A row with more or fewer cells than the
  header is an error that names its line, as a shifted cell would become a wrong label.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import polars as pl

from ser.corpus import parquet
from ser.corpus.errors import DamagedError, UserError, plural
from ser.corpus.rows import BLANKS, Cells, Rows, detect_separator

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "pipe": "|", "\\t": "\t"}
MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
FORMATS = (  # the first bytes of files that are mistaken for tables
    (b"PK\x03\x04", "a spreadsheet or an archive; save it as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet of old Excel; save it as CSV UTF-8"),
    (b"\x1f\x8b", "compressed; unpack it"),
    (b"%PDF", "a PDF; save the table as CSV UTF-8"),
    (b"{\\rtf", "a document in RTF; save the table as CSV UTF-8"),
    (b"ARROW1", "an Arrow file; write it as Parquet"),
)
CHUNK = 100_000  # rows that are text and columns at once
WIDEST = 10_000  # columns
Lines = Iterator[tuple[int, Cells]]  # rows with their line numbers
RULED = re.compile(r"[-=:+ ]*[-=][-=:+ ]*")  # a cell of the line below a header in Markdown


@dataclass(frozen=True)
class Table:
    """A table as read from its file.

    `frame`: text columns (typed ones from Parquet); `separator`: None for Parquet; `notes`: remarks
    on how it was read.
    """

    frame: pl.DataFrame
    separator: str | None = None
    notes: tuple[str, ...] = ()

    def decimal_points(self, names: Iterable[str]) -> pl.DataFrame:
        """Return the frame with the decimal commas of those columns as points.

        Not where "1,234" may mean 1234: in a file whose commas separate cells, and with three
        digits behind the comma in any but a semicolon file.
        """
        if self.separator in (None, ","):
            return self.frame
        digits = r"\d+" if self.separator == ";" else r"(?:\d{1,2}|\d{4,})"
        comma = rf"^([+-]?\d*),({digits}(?:[eE][+-]?\d+)?)$"
        columns = (self.frame[name] for name in names if name in self.frame.columns)
        return self.frame.with_columns(column.str.replace(comma, "${1}.$2") for column in columns)


def read_table(
    path: str | Path,
    separator: str | None = None,
    encoding: str | None = None,
    quotes: str | None = None,
    *,
    importable: bool = True,
) -> Table:
    """Read a table with a header line.

    `separator`: one character, or comma, semicolon, tab or bar; detected when None. `encoding`: a
    name such as cp1252; by default UTF-8, or what a byte order mark names. `quotes`: "cells" when
    quotation marks always enclose cells, "text" when they are always text; detected when None.
    `importable`: `ser corpus import` reads such tables, with an encoding that errors may suggest.

    Raises `UserError` for a file that is not such a table, naming the line where there is one.
    """
    path = Path(path)
    raw = _bytes(path)
    if raw.startswith(b"PAR1") or path.suffix.lower() == ".parquet":
        if parquet.check(raw) == "damaged":
            raise DamagedError(path, "this table is damaged", "restore it, or import it again")
        try:
            frame = parquet.parse(raw)
        except parquet.ParquetError as error:
            raise UserError(
                f"{path}: not readable as a table ({error}); "
                "write it as .csv, .tsv or .parquet with a header line."
            ) from error
        _require_width(path, frame.width)
        return Table(frame)
    for start, name in FORMATS:
        if raw.startswith(start):
            raise UserError(f"{path}: this is {name}, and use that file.")
    text = _decode(path, raw, encoding, importable)
    text = re.sub(r"\x1a\s*\Z", "", text)  # how DOS ended a file
    if text.lstrip(BLANKS)[:1] in ("{", "["):
        raise UserError(f"{path}: this is JSON, not a table; write it as .csv with a header line.")
    if quotes not in (None, "cells", "text"):
        raise UserError(f"option quotes is '{quotes}'; use cells or text, or leave it out.")
    announced = re.match(r'"?sep=(.)"?[ \t]*(?:\r\n|\n|\r)', text)  # a line that Excel understands
    if announced:
        separator = separator or announced[1]
    reading = Rows(text, announced.end() if announced else 0, quotes)
    if separator is None:
        separator = detect_separator(reading, path.suffix.lower())
    elif len(separator := SEPARATORS.get(separator, separator)) != 1 or separator in '"\r\n':
        raise UserError(
            f"option separator is '{separator}'; give one character, or comma, semicolon, tab, bar."
        )
    marked: list[int] = []
    frame = _frame(path, reading.split(separator, marked))
    note = f"quotation marks read as text: {plural(len(marked), 'cell')}, the first in line "
    return Table(frame, separator, (f"{note}{marked[0]}",) if marked else ())


def read_text(path: str | Path) -> str:
    """Read a text file in UTF-8, or in what its byte order mark names.

    Raises `UserError` when it is in another encoding.
    """
    return _decode(Path(path), _bytes(Path(path)), None)


def find_column(columns: Sequence[str], name: str, source: str, remedy: str) -> str | None:
    """Find a column by its name, whatever the capitals; None when there is none.

    Raises `UserError`, ending with the remedy, when names differ only in case.
    """
    same = [column for column in columns if column.strip(BLANKS).casefold() == name.casefold()]
    if len(same) > 1:
        names = " and ".join(f"'{column}'" for column in same)
        raise UserError(f"{source}: the columns {names} differ only in case; {remedy}.")
    return same[0] if same else None


def named_columns(
    frame: pl.DataFrame,
    names: Sequence[str],
    source: str | Path,
    remedy: str,
    optional: Sequence[str] = (),
) -> pl.DataFrame:
    """Return the columns of these names, whatever the capitals, and those of `optional`.

    Raises `UserError`, ending with the remedy, that lists the `names` which are missing.
    """
    columns = {n: find_column(frame.columns, n, str(source), remedy) for n in (*names, *optional)}
    missing = [name for name in names if columns[name] is None]
    if missing:
        raise UserError(f"{source}: the columns {', '.join(missing)} are missing; {remedy}.")
    return frame.select(pl.col(c).alias(n) for n, c in columns.items() if c is not None)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: not readable ({error.strerror or error}); check its name and permissions."
        ) from error


def _decode(path: Path, raw: bytes, encoding: str | None, importable: bool = True) -> str:
    if encoding is not None:
        try:
            return raw.decode(encoding).removeprefix("\ufeff")
        except (LookupError, ValueError) as error:
            raise UserError(
                f"{path}: not readable with encoding={encoding} ({error}); "
                "name the encoding it was saved in, such as cp1252, or save it as UTF-8."
            ) from error
    mark, name = next((m for m in MARKS if raw.startswith(m[0])), (b"", "utf-8"))
    try:
        text = raw[len(mark) :].decode(name)
    except UnicodeDecodeError as error:
        line = 1 + len(re.findall(rb"\r\n|\n|\r", raw[: len(mark) + error.start]))
        if b"\0" not in raw or mark:
            other = ", or import it with encoding=cp1252 or the name of its encoding"
            raise UserError(
                f"{path}: line {line} is not {name.upper()}; save the table as UTF-8 (Excel: 'CSV "
                f"UTF-8'){other if importable else ''}."
            ) from error
        text = "\0"
    if "\0" in text:
        other = ", or import it with encoding=utf-16-le"
        raise UserError(
            f"{path}: not text in UTF-8, but perhaps in UTF-16 without a byte order mark; save the "
            f"table as UTF-8{other if importable else ''}."
        )
    return text


def _frame(path: Path, rows: Lines) -> pl.DataFrame:
    header = next(rows, None)
    if header is None:
        raise UserError(f"{path}: this table is empty; give one with a header line and rows.")
    names = [name or "" for name in header[1]]
    needed = max((i for i, name in enumerate(names, 1) if name), default=len(names))
    _require_width(path, len(names))
    twice = sorted(name for name, count in Counter(names).items() if name and count > 1)
    if twice:
        raise UserError(f"{path}: two columns are called '{twice[0]}'; rename one of them.")
    chunks, schema = [], [(str(i), pl.String) for i in range(len(names))]
    rows = _without_rules(path, names, rows)
    while chunk := list(islice(rows, CHUNK)):
        cells = [_fitted(path, line, row, len(names), needed) for line, row in chunk]
        chunks.append(pl.DataFrame(list(zip(*cells, strict=True)), schema=schema, orient="col"))
    if not chunks:
        raise UserError(f"{path}: this table has a header line only; add one row per utterance.")
    frame = pl.concat(chunks)
    unnamed = [i for i, name in enumerate(names) if not name]
    empty = [str(i) for i in unnamed if (frame[str(i)].fill_null("") == "").all()]
    filled = [i for i in unnamed if str(i) not in empty]
    # A table that pandas or R wrote with its index has one column without a name.
    named = {
        str(i): name or ("" if len(filled) == 1 else f"(column {i + 1})")
        for i, name in enumerate(names)
    }
    return frame.drop(empty).rename({old: new for old, new in named.items() if old not in empty})


def _require_width(path: Path, columns: int) -> None:
    if columns > WIDEST:
        raise UserError(
            f"{path}: this table has {columns:,} columns, more than the limit of {WIDEST:,}; keep "
            "only those that describe the utterances."
        )


def _without_rules(path: Path, header: list[str], rows: Lines) -> Lines:
    """Return the rows; raise `UserError` where the header or the first row is only a rule."""
    first = list(islice(rows, 1))
    lines: list[Cells] = [[*header], *(cells for _, cells in first)]
    for line in lines:
        filled = [cell for cell in line if cell]
        whole = len(line) == 1 or len(filled) >= sum(map(bool, header))
        if whole and all(RULED.fullmatch(cell) for cell in filled):
            raise UserError(
                f"{path}: this is a table in Markdown or drawn with lines ({filled[0][:20]}); save "
                "it as .csv with a header line and no rules."
            )
    return chain(first, rows)


def _fitted(path: Path, line: int, cells: Cells, width: int, needed: int) -> Cells:
    """Return a row as wide as the header, or raise `UserError`."""
    if len(cells) == width:
        return cells
    if len(cells) < needed or any(cells[width:]):
        wrong = "fewer" if len(cells) < needed else "more"
        remedy = (
            "write a separator for every cell, also for empty ones"
            if wrong == "fewer"
            else 'enclose a cell that contains the separator in quotation marks ("…")'
        )
        raise UserError(
            f"{path}: line {line} has {plural(len(cells), 'cell')}, {wrong} than the header with "
            f"{width}; {remedy}."
        )
    return [*cells[:width], *[None] * (width - len(cells))]


def with_slashes(frame: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Return the frame with slashes for the backslashes of Windows paths.

    A path that names a file in `folder` as it is stays: a backslash may be part of a name.
    """

    def slashes(path: str) -> str:
        return path if (folder / path).is_file() else path.replace("\\", "/")

    backslash = frame["path"].str.contains("\\", literal=True).fill_null(False)
    if not backslash.any():
        return frame
    paths = [slashes(p) if b else p for p, b in zip(frame["path"], backslash, strict=True)]
    return frame.with_columns(pl.Series("path", paths, dtype=pl.String))
