"""One table, three formats: cells for HTML, GitHub markdown, LaTeX (booktabs).

A column is formatted by its type: text is left-aligned; numbers are right-aligned, with three
decimals unless `digits` has another count; a list of two numbers is an interval; null is a dash.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

Column = pl.DataType | type[pl.DataType]
Schema = dict[str, Column]
NONE = "–"
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    NONE: "--",
    "…": r"\dots{}",
    **{sign: "\\" + sign for sign in "{}$&#%_"},
}
ESCAPES = str.maketrans(LATEX)
MARKDOWN = str.maketrans(
    {sign: "\\" + sign for sign in r"\`*_[]|~$"} | {"<": "&lt;", "&": "&amp;", "\n": " ", "\r": " "}
)


@dataclass(frozen=True)
class Table:
    """A table; the highest number of each column in `best` is bold.

    `wraps` names a column of long text, which may take several lines; `no_interval` is written
    where an interval is null.
    """

    name: str
    caption: str
    frame: pl.DataFrame
    best: tuple[str, ...] = ()
    digits: Mapping[str, int] = field(default_factory=dict)
    wraps: str | None = None
    no_interval: str = NONE

    @property
    def columns(self) -> list[str]:
        """Return the headings."""
        return self.frame.columns

    @property
    def is_text(self) -> list[bool]:
        """Return which columns are text."""
        return [dtype == pl.String() for dtype in self.frame.dtypes]

    def rows(self) -> list[list[str]]:
        """Return the cells as plain text, row by row."""
        digits = [self.digits.get(name, 3) for name in self.columns]
        missing = [self.no_interval if isinstance(t, pl.List) else NONE for t in self.frame.dtypes]
        return [list(map(_cell, row, digits, missing)) for row in self.frame.iter_rows()]

    def bold(self) -> set[tuple[int, int]]:
        """Return row and column of the cells that are the highest of their column."""
        cells = set()
        for name in self.best:
            digits, at = self.digits.get(name, 3), self.columns.index(name)
            shown = [None if v is None else round(v, digits) for v in self.frame[name]]
            highest = max((v for v in shown if v is not None), default=None)
            cells |= {(i, at) for i, v in enumerate(shown) if v is not None and v == highest}
        return cells

    def markdown(self) -> str:
        """Return a GitHub table, its caption above it."""
        bold = self.bold()
        lines = [[heading.translate(MARKDOWN) for heading in self.columns]]
        lines.append(["---" if text else "---:" for text in self.is_text])
        for i, row in enumerate(self.rows()):
            cells = [
                c.translate(MARKDOWN) if t else c for c, t in zip(row, self.is_text, strict=True)
            ]
            lines.append([f"**{c}**" if (i, j) in bold else c for j, c in enumerate(cells)])
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{self.caption.translate(MARKDOWN)}\n\n{table}\n"

    def latex(self) -> str:
        """Return a booktabs table with caption and label `tab:<name>`."""
        kind = "table*" if len(self.columns) > 6 else "table"
        shape = "".join("l" if text else "r" for text in self.is_text)
        if self.wraps is not None:
            at = self.columns.index(self.wraps)
            shape = f"{shape[:at]}p{{0.3\\linewidth}}{shape[at + 1 :]}"
        bold = self.bold()
        # a row that begins with [ or * would be an option of the \\ or \midrule before it
        body = [
            [
                f"\\textbf{{{cell}}}" if (i, j) in bold else cell
                for j, cell in enumerate(map(_latex, row, self.is_text))
            ]
            for i, row in enumerate(self.rows())
        ]
        lines = [
            f"\\begin{{{kind}}}",
            "  \\centering",
            "  \\small",
            f"  \\caption{{{_latex(self.caption)}}}",
            f"  \\label{{tab:{self.name}}}",
            f"  \\begin{{tabular}}{{{shape}}}",
            "    \\toprule",
            f"    {' & '.join(map(_latex, self.columns))} \\\\",
            "    \\midrule",
            *(f"    {'{}' * row[0].startswith(('[', '*'))}{' & '.join(row)} \\\\" for row in body),
            "    \\bottomrule",
            "  \\end{tabular}",
            f"\\end{{{kind}}}",
        ]
        return "\n".join(lines) + "\n"


def frame_of(rows: Sequence[Sequence[object]], schema: Mapping[str, Column]) -> pl.DataFrame:
    """Return rows as a frame."""
    return pl.DataFrame(rows, dict(schema), orient="row")


def _cell(value: object, digits: int, missing: str) -> str:
    if value is None:
        return missing
    if isinstance(value, list):
        low, high = value
        return f"[{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _latex(text: str, is_text: bool = True) -> str:
    escaped = " ".join(text.split()).translate(ESCAPES)
    if is_text:
        return escaped
    return escaped.replace("--", NONE).replace("-", "$-$").replace(NONE, "--")
