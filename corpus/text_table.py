"""Tables in a terminal: no number is broken, and no name of up to 40 columns.

rich makes the columns of a table that is too wide narrower by their share of the width, and breaks
or cuts what no longer fits. Here a cell is wrapped between its words alone, the widest column
first. What is still too wide after that is cut in the one column that may be cut, and otherwise
left to the terminal, which loses nothing.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ser.corpus.errors import plain_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# an interval in brackets or what stands for it, a number with its unit, or a word
WORD = re.compile(
    r"\[[^\]]*\]\S*|(?:\S+ )?n/a: \d+ speakers?"
    r"|\d[\d.,]* (?:[kMGT]?B|%|Hz|speakers?)\b\S*|\S+"
)
LONGEST = 40  # columns of a word that is never broken; a path may be longer
PIECE = 20  # columns that are left of such a path
LEAST = 6  # columns that are left of a cell that is cut


def text_table(left: Sequence[str], right: Sequence[str] = (), gap: int = 1) -> "Table":
    """Return a table of left-aligned columns and then right-aligned ones, `gap` spaces apart."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, padding=(0, gap, 0, 0))
    for heading in left:
        table.add_column(heading)
    for heading in right:
        table.add_column(heading, justify="right")
    return table


def decimals(value: float | None, missing: str = "-") -> str:
    """Return a score with three decimals."""
    return missing if value is None else f"{value:.3f}"


def print_sentence(sentence: str | None, console: "Console") -> None:
    """Print a sentence under a table; None for none."""
    if sentence is not None:
        console.print(sentence, markup=False, highlight=False)


def print_table(table: "Table", console: "Console", cut: str = "", title: str = "") -> None:
    """Print a table in the width of the console, or wider where its words need it.

    Args:
        table: the table; its cells are texts, which are printed as they are, without markup.
        console: where it is printed.
        cut: the heading of the column whose cells may be cut, the least important one.
        title: a line above it; the table's own title would be folded to the width of the table.
    """
    if title:
        console.print(title, style="bold", markup=False, highlight=False)
    for column in table.columns:
        column.header = _plain(column.header)
        column._cells = [_plain(cell) for cell in column.cells]
    texts = [[str(cell) for cell in (column.header, *column.cells)] for column in table.columns]
    widths = [max(map(_width, "\n".join(column).split("\n"))) for column in texts]
    floors = [_longest_word(column) for column in texts]
    fixed = console.measure(table, options=console.options.update(width=1_000_000)).maximum
    fixed -= sum(widths)
    room = console.width - fixed
    while sum(widths) > room:
        wide = [i for i, width in enumerate(widths) if width > floors[i]]
        if not wide:
            break
        widest = max(wide, key=widths.__getitem__)
        lines = [_lines(text, widths[widest] - 1) for text in texts[widest]]
        widths[widest] = max(_width(line) for cell in lines for line in cell)
    for i, column in enumerate(table.columns):
        if str(column.header) == cut:
            if sum(widths) > room:
                widths[i] = max(min(LEAST, widths[i]), widths[i] - (sum(widths) - room))
            column.overflow = "ellipsis"
        else:
            column.header = _wrapped(column.header, widths[i])
            column._cells = [_wrapped(cell, widths[i]) for cell in column.cells]
            column.overflow = "crop"
        column.width, column.no_wrap = widths[i], True
    before, needed = console.width, fixed + sum(widths)
    console.width = max(before, needed)
    try:
        console.print(table, markup=False)
    finally:
        console.width = before


def long_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool]
) -> Iterator[str]:
    """Yield the lines of a table of any length: those of `print_table` where it fits the width.

    Nothing is wrapped or cut, and every cell is one line. rich takes 0.6 ms a row, this 0.02.
    """
    cells = [list(headings), *([plain_lines(cell).replace("\n", " ") for cell in r] for r in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    lines = [" " + " ".join(map(_padded, row, widths, right)) + " " for row in cells]
    total = sum(widths) + 2 * len(widths) + 1
    yield from (" " * total, lines[0], f" {'─' * (total - 2)} ", *lines[1:], " " * total)


def _padded(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _width(cell))
    return f"{space}{cell} " if right else f"{cell}{space} "


def _plain(cell: object) -> "Text":
    from rich.text import Text

    return cell if isinstance(cell, Text) else Text(plain_lines(str(cell)))


def _longest_word(texts: Sequence[str]) -> int:
    words = [word for text in texts for word in WORD.findall(text)]
    widths = (width if (width := _width(word)) <= LONGEST else PIECE for word in words)
    return max(widths, default=0)


def _width(text: str) -> int:
    if text.isascii() and text.isprintable():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _wrapped(cell: object, width: int) -> "Text":
    """Return a cell with line breaks between words, where it is wider than that."""
    text = str(cell)
    return _plain(cell) if _width(text) <= width else _plain("\n".join(_lines(text, width)))


def _lines(text: str, width: int) -> list[str]:
    """Return the lines of a text of at most this width, or of one word."""
    from rich.cells import chop_cells

    lines = [""]
    for word in WORD.findall(text):
        pieces = [word] if _width(word) <= LONGEST else chop_cells(word, width)
        joined = f"{lines[-1]} {pieces[0]}" if lines[-1] else pieces[0]
        if _width(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(pieces[0])
        lines += pieces[1:]
    return [line for line in lines if line] or [""]
