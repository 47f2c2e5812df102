"""`ser runs`: all runs in one table, and two of them compared."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser.commands.help import Group, command
from ser.commands.logs import log, result
from ser.commands.options import OUTPUT, Json
from ser.commands.output import console, print_json, write_csv
from ser.corpus.errors import UserError
from ser.corpus.text_table import decimals, print_table, text_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from typer._click import Context

    from ser.score.comparison import Comparison, Pair
    from ser.score.run_list import RunSummary

RUNS = Path("runs")
WIDE = 120  # columns of the widest table
LIST = "list"
FLAGS = {"-q", "--quiet", "-v", "--verbose"}  # may be in front of the command
LOG_FILE = "--log-file"  # likewise, with its value
CAPTION = "Scores on test, or on the split named; best head: best on dev, without the baseline."


class RunsGroup(Group):
    """A group whose command is `list` where the first word is no other."""

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        """Insert `list` before the words of a call that names no command."""
        words = [word for word in args if word not in ctx.help_option_names]
        if (args and not words) or ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        first = next(_without_flags(words), "")
        return super().parse_args(ctx, args if first in self.commands else [LIST, *args])


def _without_flags(words: Sequence[str]) -> Iterator[str]:
    """Yield the words of a call but the options that may be in front of the command."""
    rest = iter(words)
    for word in rest:
        if word == LOG_FILE:
            next(rest, None)
        elif word not in FLAGS and not word.startswith(f"{LOG_FILE}="):
            yield word


app = typer.Typer()
runs = typer.Typer(
    cls=RunsGroup,
    help="List runs with their scores, and compare two of them.\n\n"
    "`ser runs FOLDER` is short for `ser runs list FOLDER`.",
)
app.add_typer(runs, name="runs", rich_help_panel="Score")


@command(runs, "ser runs list\nser runs list runs/emodb --csv runs.csv", name=LIST)
def list_runs(
    folder: Path = RUNS, *, as_json: Json = False, file: Annotated[Path | None, OUTPUT] = None
) -> None:
    """List every run below FOLDER with its scores.

    Scores are those on test (on dev where test has no labels) of the head that is best on dev and
    of the stack: macro-F1, and the mean CCC of attributes. A run that is damaged or not complete is
    listed with the reason. Only records are read: no model, no audio, nothing outside FOLDER.

    Args:
        folder: Folder that the runs are in.
        file (--csv FILE): CSV file to write too; by default none is written.
    """
    import ser.score.run_list

    listed = ser.score.run_list.list_runs(folder)
    if not listed.whole:
        most = ser.score.run_list.MOST
        log.warning(f"{folder}: only the first {most:,} folders were searched; name one below it.")
    rows = [asdict(run) for run in listed.runs]
    if file is not None:
        _write_csv(file, rows)
    if as_json:
        print_json(rows)
    elif rows:
        printer = console(WIDE)
        print_table(_table_of_runs(listed.runs), printer)
        printer.print(CAPTION, highlight=False, soft_wrap=True)
        for run in listed.runs:
            if run.reason is not None:
                result(f"{run.run}: {run.reason}")
    else:
        log.warning(f"{folder}: there is no run in it; `ser run` makes one.")


def _write_csv(file: Path, rows: list[dict[str, object]]) -> None:
    import polars as pl

    from ser.score.run_list import RunSummary

    texts = [
        {k: " ".join(v) if isinstance(v, tuple) else v for k, v in row.items()} for row in rows
    ]
    columns = list(RunSummary.__dataclass_fields__)
    write_csv(pl.DataFrame(texts, infer_schema_length=None).select(columns), file)


def _table_of_runs(listed: "list[RunSummary]") -> "Table":
    """Return a row a run; columns without a value are left out.

    The split is named where it is not test.
    """
    columns: dict[str, list[str]] = {
        "run": [run.run for run in listed],
        "corpus": [run.corpus or "" for run in listed],
        "features": [", ".join(run.features) for run in listed],
        "heads": [str(len(run.heads) or "") for run in listed],
        "split": [run.split if run.split and run.split != "test" else "" for run in listed],
        "baseline F1": [decimals(run.baseline_macro_f1, "") for run in listed],
        "best head": [run.best_head or "" for run in listed],
        "F1": [decimals(run.head_macro_f1, "") for run in listed],
        "CCC": [decimals(run.head_ccc, "") for run in listed],
        "stack F1": [decimals(run.stack_macro_f1, "") for run in listed],
        "stack CCC": [decimals(run.stack_ccc, "") for run in listed],
        "min": ["" if run.minutes is None else f"{run.minutes:.1f}" for run in listed],
        "when": [(run.when or "")[:10] for run in listed],
        "state": [run.state for run in listed],
        "synthetic": [f"{run.synthetic:.0%}" if run.synthetic else "" for run in listed],
    }
    table = text_table([])
    for name, cells in columns.items():
        if any(cells):
            right = name in ("heads", "min") or name.endswith(("F1", "CCC"))
            table.add_column(name, justify="right" if right else "left")
    for row in zip(*(cells for cells in columns.values() if any(cells)), strict=True):
        table.add_row(*row)
    return table


@command(
    runs,
    "ser runs compare runs/a runs/b\n"
    "ser runs compare runs/a runs/a --system stack --system whisper",
)
def compare(
    first: Path,
    second: Path,
    *,
    systems: list[str] | None = None,
    split: str | None = None,
    resamples: Annotated[int, typer.Option(min=1, max=1_000_000)] = 1000,
    as_json: Json = False,
) -> None:
    """Compare the runs A and B on the utterances that both have.

    Both are scored on the same resamples of speakers, so the difference of their macro-F1 has an
    interval and a p-value.

    Args:
        first (A): Folder of the first run.
        second (B): Folder of the second run.
        systems (--system NAME): Head to compare, or stack; give it twice for one of each run. By
            default the stack, or without one the head that is best on dev.
        split (NAME): Split to compare on; by default test, or dev where test has no labels.
        resamples (N): Bootstrap resamples.
    """
    from ser.score.pairs import compare_systems, read_system

    names = systems or [""]
    if len(names) > 2:
        raise UserError(f"--system is given {len(names)} times; give it once, or once a run.")
    pair = read_system(first, names[0] or None), read_system(second, names[-1] or None)
    comparison = compare_systems(*pair, split, resamples=resamples)
    if as_json:
        print_json(asdict(comparison))
    else:
        print_comparison(comparison, console(80))


def print_comparison(comparison: "Comparison", printer: "Console") -> None:
    """Print the scores of both systems, the difference, and where they agree."""
    from ser.corpus.errors import plural
    from ser.score.speakers import p_value

    def line(text: str) -> None:
        printer.print(text, highlight=False, soft_wrap=True)

    line(f"A  {comparison.first}")
    line(f"B  {comparison.second}")
    known = comparison.speakers
    speakers = "" if known is None else f" of {plural(known, 'speaker')}"
    line(
        f"{comparison.split}: {plural(comparison.n, 'utterance')}{speakers} in both; A lacks "
        f"{comparison.first_lacks} of B's, B lacks {comparison.second_lacks} of A's"
    )
    # so narrow that a negative difference fits 80 columns
    table = text_table([""], ["A, 95 %", "B, 95 %", "A - B, 95 %", "p"], gap=0)
    if comparison.macro_f1 is not None:
        _add_pair(table, "macro-F1", comparison.macro_f1, known)
    for name, pair in comparison.per_class.items():
        _add_pair(table, f"F1 {name}", pair, known)
    for name, pair in comparison.ccc.items():
        _add_pair(table, f"CCC {name}", pair, known)
    print_table(table, printer)
    if (agreed := comparison.agreement) is not None and comparison.mcnemar is not None:
        line(
            f"agreement: kappa {agreed.kappa:.2f}, same prediction {agreed.same:.1%}; both right "
            f"{agreed.both_right:.1%}, only A {agreed.only_first:.1%}, only B "
            f"{agreed.only_second:.1%}, both wrong {agreed.both_wrong:.1%}"
        )
        line(f"McNemar's test of accuracy: p {p_value(comparison.mcnemar['p'], known)}")
    if comparison.speakers_note is not None:
        line(comparison.speakers_note)


def _add_pair(table: "Table", name: str, pair: "Pair", speakers: int | None) -> None:
    from ser.score.speakers import p_value, too_few, with_interval

    if too_few(speakers):  # stated once a row, so that it fits 80 columns
        cells = [f"{score.value:.3f}" for score in (pair.first, pair.second)]
    else:
        cells = [with_interval(s.value, s.interval, speakers) for s in (pair.first, pair.second)]
    cells.append(with_interval(pair.difference.value, pair.difference.interval, speakers))
    tested = "macro-F1" in name or "CCC" in name
    table.add_row(name, *cells, p_value(pair.difference.p, speakers) if tested else "")
