"""`ser stack`: it needs the heads' logits only, no torch and no GPU."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ser.commands.options import (
    console,
    load_pipeline,
    pipeline_option,
    set_option,
    trained_systems,
)

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from score.config import ScoreConfig
    from stack.config import StackConfig

WIDE = 104  # columns of the widest table

logits_option = click.option(
    "--logits", type=Path, help="A folder of <head>/logits.h5 in the place of a pipeline's run."
)
out_option = click.option("--out", type=Path, help="A .csv to write the first table to as well.")
resamples_option = click.option(
    "--resamples", type=click.IntRange(min=1), help="Default: score.resamples of the pipeline."
)


@click.group("stack")
def stack_group() -> None:
    """Combine the heads' logits; needs no torch and no GPU."""


@stack_group.command("fit")
@pipeline_option
@set_option
def stack_fit(path: Path, overrides: tuple[str, ...]) -> int:
    """Fit the stacker on the heads' logits and predict every split; exit 1 when a head failed."""
    import stack.run
    from ser.pipeline import write_resolved

    pipeline = load_pipeline(path, overrides)
    heads = trained_systems(pipeline, pipeline.stack.heads)
    if heads is None:
        return 1
    write_resolved(pipeline)
    about = stack.run.fit(pipeline.run, heads, pipeline.stack)
    line = f"{pipeline.run / 'stack'}: {pipeline.stack.model} over {len(about['heads'])} heads"
    if about["rows"]:
        line += f", fitted on {about['rows']} utterances"
    if pipeline.stack.learns_from == "train":
        line += f" (protocol {about['protocol']}{_why(pipeline.stack, about['protocol'])})"
    click.echo(line)
    return 0


@stack_group.command("predict")
@click.option("--logits", type=Path, help="A folder of <head>/logits.h5; the run's own by default.")
@click.option("--out", type=Path, help="A .csv to write; standard output by default.")
@pipeline_option
@set_option
def stack_predict(
    logits: Path | None, out: Path | None, path: Path, overrides: tuple[str, ...]
) -> None:
    """Apply the fitted stacker to logits of the same heads."""
    import stack.run

    pipeline = load_pipeline(path, overrides)
    frame = stack.run.predict(pipeline.run, logits)
    frame.write_csv(out or sys.stdout)


@stack_group.command("compare")
@logits_option
@out_option
@resamples_option
@pipeline_option
@set_option
def stack_compare(
    logits: Path | None,
    out: Path | None,
    resamples: int | None,
    path: Path,
    overrides: tuple[str, ...],
) -> int:
    """Fit every meta-model under every protocol; print one table with paired significance.

    With --logits no pipeline is read: the heads are the folder's, the options those of --set.
    """
    from stack.compare import compare

    found = _logits(logits, path, overrides)
    if found is None:
        return 1
    folder, heads, config, scoring = found
    classes, attributes = compare(folder, heads, config, resamples or scoring.resamples)
    _print_compared(classes, "macro-F1")
    _print_compared(attributes, "mean CCC")
    if out is not None:
        (classes if classes.height else attributes).write_csv(out)
    return 0


@stack_group.command("ablate")
@logits_option
@out_option
@resamples_option
@pipeline_option
@set_option
def stack_ablate(
    logits: Path | None,
    out: Path | None,
    resamples: int | None,
    path: Path,
    overrides: tuple[str, ...],
) -> int:
    """Say what each head is worth to the stack on dev: left out, and permuted.

    With --logits no pipeline is read: the heads are the folder's, the options those of --set.
    """
    from stack.ablate import ablate

    found = _logits(logits, path, overrides)
    if found is None:
        return 1
    folder, heads, config, scoring = found
    left_out, permuted = ablate(folder, heads, config, resamples or scoring.resamples)
    _print_ablated(left_out, permuted)
    if out is not None:
        left_out.join(permuted, "head", suffix="_permuted").write_csv(out)
    return 0


def _logits(
    logits: Path | None, path: Path, overrides: tuple[str, ...]
) -> "tuple[Path, list[str], StackConfig, ScoreConfig] | None":
    """Return the folder of logits, its heads and both sections; None when a head failed."""
    if logits is None:
        pipeline = load_pipeline(path, overrides)
        heads = trained_systems(pipeline, pipeline.stack.heads)
        if heads is None:
            return None
        return pipeline.run / "heads", heads, pipeline.stack, pipeline.score
    from corpus.errors import UserError
    from score.config import ScoreConfig
    from ser.document import Document
    from stack.config import StackConfig

    heads = sorted(file.parent.name for file in logits.glob("*/logits.h5"))
    if not heads:
        raise UserError(f"{logits}: there is no <head>/logits.h5 in it; give the folder of heads.")
    document = Document("--set", "{stack: {}, score: {}}")
    for override in overrides:
        document.override(override)
    said = document.data
    config = document.validate(
        ("stack",), StackConfig, lambda: StackConfig.model_validate(said["stack"])
    )
    scoring = document.validate(
        ("score",), ScoreConfig, lambda: ScoreConfig.model_validate(said["score"])
    )
    return logits, heads, config, scoring


def _why(config: "StackConfig", protocol: str) -> str:
    if config.protocol is not None:
        return ""
    if protocol == "oof":
        return ": all heads are cross-fitted"
    return ": not all heads are cross-fitted"


def _print_compared(frame: "pl.DataFrame", metric: str) -> None:
    if not frame.height:
        return
    splits = [split for split in ("dev", "test") if split in frame.columns]
    classes = "protocol" in frame.columns
    default = next(row for row in frame.iter_rows(named=True) if row["default"])
    table = _table(padding=(0, 0, 0, 0))  # so that eight columns fit a width of 100
    table.add_column("model", no_wrap=True)
    headings = ["protocol", "train", "held out"] if classes else []
    headings += [f"{split} {metric}" for split in splits]
    headings += (["optimism"] if classes else []) + ["p"]
    for heading in headings:
        justify: Literal["left", "right"] = "left" if heading == "protocol" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for row in frame.iter_rows(named=True):
        cells = [row["model"]]
        if classes:
            cells += [row["protocol"] or "-", _number(row["train"]), _number(row["held_out"])]
        for split in splits:
            star = "*" if split == "dev" and row.get("learns_from") == "dev" else ""
            cells.append(
                _with_interval(row[split], row[f"{split}_low"], row[f"{split}_high"]) + star
            )
        cells += [_number(row["optimism"])] if classes else []
        cells.append("default" if row["default"] else _number(row["p"]))
        table.add_row(*cells, style="bold" if row["default"] else None)
    console(WIDE).print(table)
    name = " ".join(filter(None, (default["model"], default.get("protocol"))))
    click.echo(
        f"[95 % over speakers]; p: paired, {splits[-1]}, against {name}"
        + ("; optimism: train - test; *: chosen on dev" if classes else "")
    )
    _warn_of_few(default["speakers"])


def _print_ablated(left_out: "pl.DataFrame", permuted: "pl.DataFrame") -> None:
    table = _table()
    table.add_column("head", overflow="fold")
    for heading in ("alone", "stack without it", "worth", "p"):
        table.add_column(heading, justify="right")
    for row in left_out.sort("worth", descending=True).iter_rows(named=True):
        table.add_row(
            row["head"],
            _number(row["alone"]),
            _number(row["without"]),
            _with_interval(row["worth"], row["low"], row["high"]),
            _number(row["p"]),
        )
    console().print(table)
    click.echo("dev macro-F1; worth: what the stack loses without the head [95 % over speakers]")
    _warn_of_few(left_out["speakers"][0])
    table = _table()
    table.add_column("permuted", overflow="fold")
    for name in permuted.columns[1:]:
        table.add_column("macro" if name == "macro_f1" else name[:6], justify="right")
    for head, *lost in permuted.sort("macro_f1", descending=True).iter_rows():
        table.add_row(head, *(f"{100 * value:.1f}" for value in lost))
    console().print(table)
    click.echo("dev F1, points lost when the head's columns are moved to other utterances")


def _warn_of_few(speakers: int) -> None:
    from score.bootstrap import FEW

    if speakers < FEW:
        click.echo(f"only {speakers} speakers: intervals are too narrow and p too small\n")


def _table(padding: tuple[int, int, int, int] = (0, 1, 0, 0)) -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE, padding=padding)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    between = "" if low is None else f" [{low:.3f}, {high:.3f}]".replace("0.", ".")
    return _number(value) + between
