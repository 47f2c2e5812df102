"""Scores across corpora: each training on each corpus, over the classes that both have.

    <folder>/cross.json   a cell for each training and test corpus

Classes that a training has not seen are not scored, nor are those that a test corpus has no rows
of. A cell of a corpus trained and tested on has its own test split; any other has every row.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import polars as pl
from pydantic import Field

from ser.cache.record import Count, Label, Record
from ser.corpus.text_table import print_sentence, print_table, text_table
from ser.score.bootstrap import resample_speakers
from ser.score.config import ScoreConfig
from ser.score.metrics import TITLES, confusion, macro_f1, uar
from ser.score.rotations import labelled_predictions
from ser.score.run import STACK
from ser.score.speakers import speakers_note, too_few, with_interval
from ser.score.truth import indices_of

if TYPE_CHECKING:
    from rich.console import Console

FILE = "cross.json"
OTHERS = "all others"  # the row of trainings on all corpora but the tested one
Metric = Literal["macro_f1", "uar"]


class CellScore(Record):
    """One system on one test corpus; `interval` is that of macro-F1."""

    macro_f1: float
    uar: float
    interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None


class Cell(Record):
    """One training on one test corpus; `train` is None for all corpora but the tested one."""

    train: Label | None
    test: Label
    classes: list[Label]  # that both have
    utterances: Count
    speakers: Count | None  # None where unknown
    scores: dict[Label, CellScore]


class Cross(Record):
    """cross.json: the corpora in order, and a cell for each training and test corpus."""

    remedy: ClassVar[str] = "run `ser cross` again"

    by: Label
    baseline: Label | None = None  # the system that is the plain baseline
    corpora: Annotated[list[Label], Field(min_length=2, max_length=1000)]
    cells: Annotated[list[Cell], Field(max_length=1_000_000)]

    @property
    def system(self) -> str:
        """Return the system that tables show: the stack, or the first head without one."""
        names = dict.fromkeys(name for cell in self.cells for name in cell.scores)
        return STACK if STACK in names else next(iter(names), STACK)

    @property
    def rows(self) -> dict[str, dict[str, Cell]]:
        """Return the cells by training and test corpus, in order; the last row is `OTHERS`."""
        rows: dict[str, dict[str, Cell]] = {}
        for cell in self.cells:
            rows.setdefault(OTHERS if cell.train is None else cell.train, {})[cell.test] = cell
        return rows


def score_cells(
    run: Path,
    heads: Sequence[str],
    train: str | None,
    corpora: Mapping[str, str],
    config: ScoreConfig,
) -> list[Cell]:
    """Score a training's run on each corpus in its test split.

    `corpora` maps each utterance to its corpus, in the order of the cells. Corpora without a row of
    the training's classes have no cell.
    """
    names = pl.DataFrame({"utterance": list(corpora), "corpus": list(corpora.values())})
    systems = {
        name: frame.join(names, "utterance", "left").filter(pl.col("label") >= 0)
        for name, frame in labelled_predictions(run, heads).items()
        if "prediction" in frame.columns
    }
    cells = []
    for corpus in dict.fromkeys(corpora.values()):
        rows = {name: frame.filter(corpus=corpus) for name, frame in systems.items()}
        first = next(iter(rows.values()))
        if first.height:
            cells.append(_cell(train, corpus, rows, config))
    return cells


def _cell(
    train: str | None, test: str, systems: Mapping[str, pl.DataFrame], config: ScoreConfig
) -> Cell:
    first = next(iter(systems.values()))
    draw = resample_speakers(first["speaker"].to_list(), config.resamples, config.seed)
    scores = {}
    for name, frame in systems.items():
        rows = first.select("utterance").join(frame, "utterance", maintain_order="left")
        columns = [rows["emotion"], rows["prediction"]]
        names = pl.concat(columns).unique().sort().to_list()
        true, chosen = (indices_of(column, names) for column in columns)
        matrix = confusion(true, chosen, len(names))
        drawn = macro_f1(draw.confusions(true, chosen, len(names)))
        scores[name] = CellScore(
            macro_f1=float(macro_f1(matrix)), uar=float(uar(matrix)), interval=draw.interval(drawn)
        )
    return Cell(
        train=train,
        test=test,
        classes=first["emotion"].unique().sort().to_list(),
        utterances=first.height,
        speakers=draw.speakers,
        scores=scores,
    )


def cross_rows(cross: Cross, metric: Metric, system: str | None = None) -> list[list[str]]:
    """Return the matrix of a system, the shown one by default: a row a training, its name first."""
    rows, system = [], system or cross.system
    for train, cells in cross.rows.items():
        row = [train]
        for corpus in cross.corpora:
            cell = cells.get(corpus)
            score = None if cell is None else cell.scores.get(system)
            if cell is None or score is None:
                row.append("-")
            elif metric == "macro_f1":
                row.append(with_interval(score.macro_f1, score.interval, cell.speakers))
            else:
                row.append(f"{score.uar:.3f}")
        rows.append(row)
    return rows


def print_cross(cross: Cross, console: "Console") -> None:
    """Print the matrices of macro-F1 with its interval, and of UAR, and what was tested."""
    shown: list[tuple[Metric, str]] = [("macro_f1", cross.system), ("uar", cross.system)]
    if cross.baseline not in (None, cross.system):
        shown.insert(1, ("macro_f1", str(cross.baseline)))
    for metric, system in shown:
        table = text_table(["trained on"], cross.corpora)
        for row in cross_rows(cross, metric, system):
            table.add_row(*row)
        over = ", 95 % over speakers" if metric == "macro_f1" else ""
        name = f"the baseline {system}" if system == cross.baseline else system
        title = f"{TITLES[metric]} of {name} by tested {cross.by}{over}"
        print_table(table, console, title=title)
    speakers = [n for cell in cross.cells if (n := cell.speakers) is not None and not too_few(n)]
    print_sentence(speakers_note(min(speakers)) if speakers else None, console)
