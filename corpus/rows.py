"""Split the text of a table into rows of cells.

- Lines end with \\n, \\r\\n or \\r, also mixed; blank rows are skipped.
- A quotation mark opens a cell only where a mark that ends the cell follows; any other is text. A
  cell that spans several lines is read as rows when each of its lines is a whole row without the
  marks: a speech in quotation marks over several utterances.
- Cells are stripped; an empty one is None, `""` is "".
"""

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from ser.corpus.errors import UserError, shown

BLANKS = " \t\r\n\v\f\xa0\u2007\u202f\u3000\u200b\ufeff"
LINE_END = re.compile(r"\r\n|\n|\r")
SAMPLE = 30  # rows that the separator is detected in

Cells = list[str | None]


@dataclass(frozen=True)
class Rows:
    """The text of a table, where its header starts, and how quotation marks are read."""

    text: str
    start: int
    quotes: str | None

    def split(self, separator: str, marked: list[int] | None = None) -> Iterator[tuple[int, Cells]]:
        """Yield (line number, cells) of every row that is not blank.

        `marked` collects the lines where a cell begins with a quotation mark that is text.
        """
        text, position = self.text, self.start
        line = 1 + len(LINE_END.findall(text, 0, position))
        width = 0  # cells of the header
        plain = re.compile(rf"[^{re.escape(separator)}\r\n]*")
        blank = "".join(c for c in BLANKS if c not in separator + "\r\n")
        # Possessive, so a mark that is never closed costs one scan.
        quoted = re.compile(
            rf'[{blank}]*+"([^"]*+(?:""[^"]*+)*+)"[{blank}]*+(?=[{re.escape(separator)}\r\n]|\Z)'
        )
        while position < len(text):
            end = LINE_END.search(text, position)
            stop = end.start() if end else len(text)
            cells = self._simple(text[position:stop], separator)
            if cells is not None:
                following, lines = (end.end() if end else stop), 1
            else:
                cells, following = [], position
                while True:
                    match = quoted.match(text, following)
                    if match and self._is_text(match, position, separator, width):
                        match = None
                    if match:
                        cells.append(match[1].replace('""', '"').strip(BLANKS))
                        following = match.end()
                    else:
                        cell = plain.match(text, following)
                        assert cell is not None  # it matches nothing, too
                        if marked is not None and cell[0].lstrip(blank).startswith('"'):
                            marked.append(line)
                        cells.append(cell[0].strip(BLANKS) or None)
                        following = cell.end()
                    if text[following : following + 1] != separator:
                        break
                    following += 1
                end = LINE_END.match(text, following)
                following = end.end() if end else following
                lines = max(1, len(LINE_END.findall(text, position, following)))
            if any(cells):
                width = width or len(cells)
                yield line, cells
            position, line = following, line + lines

    def _simple(self, line: str, separator: str) -> Cells | None:
        """Split a line that is a row by itself; None when its quotation marks need a closer look.

        For speed: 1.9 million ratings are read this way.
        """
        if self.quotes == "text" or '"' not in line:
            return [cell.strip(BLANKS) or None for cell in line.split(separator)]
        if '""' in line:
            return None
        try:
            (cells,) = csv.reader(
                (line,), delimiter=separator, strict=True, skipinitialspace=separator != " "
            )
        except csv.Error:
            return None
        return None if '"' in "".join(cells) else [cell.strip(BLANKS) or None for cell in cells]

    def _is_text(self, match: re.Match[str], start: int, separator: str, width: int) -> bool:
        """Return whether the marks of a cell over several lines are text that spans rows.

        They are when each of its lines is a whole row without them: a speech in quotation marks
        over several utterances. Two columns are too few to decide.
        """
        if self.quotes or width < 3 or not LINE_END.search(match[1]):
            return False
        end = LINE_END.search(self.text, match.end())
        lines = LINE_END.split(self.text[start : end.start() if end else len(self.text)])
        return all(line.count(separator) == width - 1 for line in lines)


def detect_separator(reading: Rows, suffix: str) -> str:
    """Choose the separator by which most of the first rows have as many cells as the header."""
    first = reading.text[reading.start :].lstrip(BLANKS)
    best = ("\t" if suffix == ".tsv" else ",", 0.0, 0, 0)
    for separator in ",;\t|":
        rows = [cells for _, cells in islice(reading.split(separator), SAMPLE)]
        width = len(rows[0]) if rows else 0
        if width > 1:
            share = sum(len(row) == width for row in rows) / len(rows)
            score = (separator, share, width, -first.find(separator))
            best = max(best, score, key=lambda s: s[1:])
    return best[0]


def number_in(where: str, what: str, value: object, most: float, unit: str = "a number") -> float:
    """Return a cell, or a value of a JSON file, as a number from 0 to `most`.

    Raises `UserError` that begins with `where` for any other, NaN too.
    """
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= most:
        # None is null in JSON, NaN, or no such key
        text = "missing or not a number" if value is None else f"'{shown(str(value))}'"
        raise UserError(f"{where}: its {what} is {text}; give {unit} from 0 to {most:g}.")
    return number
