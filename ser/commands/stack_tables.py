"""The tables of `ser stack compare` and `ser stack ablate`."""

from typing import TYPE_CHECKING, Any

import typer

from ser.commands.output import console
from ser.corpus.errors import plural
from ser.corpus.text_table import decimals, print_table, text_table

if TYPE_CHECKING:
    import polars as pl

WIDE = 104  # columns of the widest table


def print_compared(frame: "pl.DataFrame", metric: str) -> None:
    """Print the frame of `ser.stack.compare.compare` for one metric."""
    from ser.score.speakers import p_value

    if not frame.height:
        return
    splits = [split for split in ("dev", "test") if split in frame.columns]
    classes = "protocol" in frame.columns
    default = next(row for row in frame.iter_rows(named=True) if row["default"])
    headings = ["train", "held out"] if classes else []
    headings += [f"{split} {metric}" for split in splits]
    headings += (["gap"] if classes else []) + ["p"]
    # so narrow that eight columns fit a width of 100
    table = text_table(["model", "protocol"] if classes else ["model"], headings, gap=0)
    for row in frame.iter_rows(named=True):
        cells = [row["model"]]
        if classes:
            cells += [row["protocol"] or "-", decimals(row["train"]), decimals(row["held_out"])]
        for split in splits:
            star = "*" if split == "dev" and row.get("learns_from") == "dev" else ""
            cells.append(_score(row, split) + star)
        cells += [decimals(row["optimism"])] if classes else []
        cells.append("default" if row["default"] else p_value(row["p"], row["speakers"]))
        table.add_row(*cells, style="bold" if row["default"] else None)
    print_table(table, console(WIDE))
    name = " ".join(filter(None, (default["model"], default.get("protocol"))))
    typer.echo(
        f"[95 % over speakers]; p: paired, {splits[-1]}, against {name}"
        + ("; gap: train - test; *: chosen on dev" if classes else "")
    )
    _print_note(default["speakers"], splits[-1])


def print_rotations(frame: "pl.DataFrame", rotations: int) -> None:
    """Print the frame of `ser.stack.rotations.compare_rotations`."""
    from ser.score.speakers import p_value, with_interval

    headings = ["train", "test macro-F1", "sd of rotations", "gap", "p"]
    table = text_table(["model", "protocol"], headings, gap=0)
    for row in frame.iter_rows(named=True):
        speakers, interval = row["speakers"], _interval(row["low"], row["high"])
        table.add_row(
            row["model"],
            row["protocol"],
            decimals(row["train"]),
            with_interval(row["test"], interval, speakers),
            decimals(row["sd of rotations"]),
            decimals(row["generalization gap"]),
            "default" if row["default"] else p_value(row["p"], speakers),
            style="bold" if row["default"] else None,
        )
    print_table(table, console(WIDE))
    typer.echo(
        f"pooled test of {plural(rotations, 'rotation')} [95 % over speakers]; p: paired, against "
        "the pipeline's stack; gap: train - mean test of the rotations"
    )
    _print_note(frame["speakers"][0], "test")


def print_ablated(left_out: "pl.DataFrame", permuted: "pl.DataFrame") -> None:
    """Print the frames of `ser.stack.ablate.ablate`."""
    from ser.score.speakers import p_value, with_interval

    table = text_table(["head"], ["alone", "stack without it", "worth", "p"])
    for row in left_out.sort("worth", descending=True).iter_rows(named=True):
        table.add_row(
            row["head"],
            decimals(row["alone"]),
            decimals(row["without"]),
            with_interval(row["worth"], _interval(row["low"], row["high"]), row["speakers"]),
            p_value(row["p"], row["speakers"]),
        )
    print_table(table, console())
    typer.echo("dev macro-F1; worth: what the stack loses without the head [95 % over speakers]")
    _print_note(left_out["speakers"][0], "dev")
    classes = ["macro" if name == "macro_f1" else name[:6] for name in permuted.columns[1:]]
    table = text_table(["permuted"], classes)
    for head, *lost in permuted.sort("macro_f1", descending=True).iter_rows():
        table.add_row(head, *(f"{100 * value:.1f}" for value in lost))
    print_table(table, console())
    typer.echo("dev F1, points lost when the head's columns are moved to other utterances")


def _print_note(speakers: int | None, split: str) -> None:
    from ser.score.speakers import speakers_note

    if note := speakers_note(speakers, split):
        typer.echo(note)
    typer.echo()


def _score(row: dict[str, Any], split: str) -> str:
    """Write a split's score with its interval."""
    from ser.score.speakers import with_interval

    interval = _interval(row[f"{split}_low"], row[f"{split}_high"])
    return with_interval(row[split], interval, row[f"{split}_speakers"])


def _interval(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)
