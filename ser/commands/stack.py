"""`ser stack` and `ser score`: both need the heads' logits only, no torch and no GPU."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ser.commands.options import console, load_pipeline, pipeline_option, set_option

if TYPE_CHECKING:
    from ser.pipeline import Pipeline


@click.group("stack")
def stack_group() -> None:
    """Combine the heads' logits; needs no torch and no GPU."""


@stack_group.command("fit")
@pipeline_option
@set_option
def stack_fit(path: Path, overrides: tuple[str, ...]) -> int:
    """Fit the stacker on the heads' logits and predict every split; exit 1 when a head failed."""
    import stack.run

    pipeline = load_pipeline(path, overrides)
    heads = _class_heads(pipeline)
    if _failed(pipeline, pipeline.stack.heads or heads):
        return 1
    about = stack.run.fit(pipeline.run, heads, pipeline.stack)
    click.echo(
        f"{pipeline.run / 'stack'}: {pipeline.stack.model} over {len(about['heads'])} heads, "
        f"fitted on {about['rows']} utterances"
    )
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


@click.command()
@pipeline_option
@set_option
def score(path: Path, overrides: tuple[str, ...]) -> int:
    """Score every head and the stack on dev and test; write the report folder.

    Exits with 1 when a head failed.
    """
    from score.run import render, score_run
    from ser.run import read_manifest

    pipeline = load_pipeline(path, overrides)
    heads = _class_heads(pipeline)
    if _failed(pipeline, heads):
        return 1
    manifest = read_manifest(pipeline)
    render(score_run(pipeline.run, pipeline.score, heads, manifest), console())
    return 0


def _class_heads(pipeline: "Pipeline") -> list[str]:
    from corpus.errors import UserError
    from ser.run import class_heads

    heads = class_heads(pipeline)
    if not heads:
        raise UserError(
            f"{pipeline.source}: no head has a loss that teaches classes; add one to be stacked "
            "and scored."
        )
    return heads


def _failed(pipeline: "Pipeline", heads: Sequence[str]) -> bool:
    """Say which of the heads failed, if any did."""
    from ser.run import failed_heads

    said = failed_heads(pipeline, heads)
    if said:
        click.echo(f"ser: {pipeline.run}: {said}", err=True)
    return bool(said)
