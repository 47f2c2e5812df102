"""`ser stack`: it needs the heads' logits only, no torch and no GPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser.commands.help import Group, command, option
from ser.commands.logs import log, result
from ser.commands.options import (
    OUTPUT,
    PIPELINE,
    CrossValidated,
    Overrides,
    PipelineFile,
    load_pipeline,
    require_trained,
)
from ser.commands.output import write_csv

if TYPE_CHECKING:
    from ser.pipeline.file import Pipeline
    from ser.score.config import ScoreConfig
    from ser.stack.config import StackConfig


app = typer.Typer()
stack = typer.Typer(cls=Group, help="Combine the logits of the heads; needs no torch and no GPU.")
app.add_typer(stack, name="stack", rich_help_panel="Stack")

Logits = Annotated[
    Path | None, option("FOLDER", "Folder of <head>/logits.h5 to read; by default the run's heads.")
]
TableFile = Annotated[
    Path | None,
    option("FILE", "CSV file for the first table; by default none is written.", dir_okay=False),
]
Resamples = Annotated[
    int | None,
    option("N", "Bootstrap resamples; by default score.resamples of the pipeline.", min=1),
]


@command(stack, "ser stack fit\nser stack fit --set stack.model=lightgbm --force")
def fit(*, force: bool = False, path: PipelineFile = PIPELINE, overrides: Overrides = None) -> int:
    """Fit the stacker and predict every split.

    A stack that is up to date is skipped. Exit code 1 when a head failed.

    Args:
        force: Fit again when the stack is up to date.
    """
    import ser.stack.run
    from ser.corpus.errors import plural
    from ser.pipeline.file import write_resolved

    pipeline = load_pipeline(path, overrides)
    require_trained(pipeline, pipeline.stack.heads)
    heads = pipeline.stacked
    write_resolved(pipeline)
    if not force and ser.stack.run.is_current(pipeline.run, heads, pipeline.stack):
        log.info(f"{pipeline.run / 'stack'}: {pipeline.stack.model}: up to date, skipped")
        return 0
    record = ser.stack.run.fit(pipeline.run, heads, pipeline.stack)
    model = record.model
    line = f"{pipeline.run / 'stack'}: {model} over {plural(len(record.heads), 'head')}"
    if record.rows:
        line += f", fitted on {record.rows} utterances"
    if pipeline.stack.learns_from == "train":
        line += f" (protocol {record.protocol}{_why(pipeline.stack, record.protocol)})"
    result(line)
    if record.candidates:
        scores = ", ".join(f"{c.model} {c.macro_f1:.3f}" for c in record.candidates)
        result(f"{model} was chosen by macro-F1 of held-out training rows: {scores}")
    return 0


@command(stack, "ser stack predict --out predictions.csv\nser stack predict --logits copied")
def predict(
    *,
    logits: Logits = None,
    out: Annotated[Path | None, OUTPUT] = None,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> None:
    """Apply the fitted stacker to logits of the same heads.

    Args:
        out (FILE): CSV file to write; by default standard output.
    """
    import ser.stack.run

    pipeline = load_pipeline(path, overrides)
    frame = ser.stack.run.predict(pipeline.run, logits)
    if out is None:
        typer.echo(frame.write_csv(), nl=False)
    else:
        write_csv(frame, out)


@command(
    stack,
    "ser stack compare\nser stack compare --logits copied --out table.csv"
    "\nser stack compare --cv speaker",
)
def compare(
    *,
    logits: Logits = None,
    out: TableFile = None,
    resamples: Resamples = None,
    cv: CrossValidated = None,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Compare every meta-model under every protocol.

    One table, with intervals and paired significance. With --logits no pipeline is read: the heads
    are those of the folder, the options those of --set. With --cv each meta-model is fitted in
    every rotation, and its pooled test predictions are scored.
    """
    from ser.commands.stack_tables import print_compared
    from ser.stack.compare import compare

    if cv is not None:
        return _compare_rotations(load_pipeline(path, overrides, cv), out, resamples)
    folder, heads, config, scoring = _inputs(logits, path, overrides)
    classes, attributes = compare(folder, heads, config, resamples or scoring.resamples)
    print_compared(classes, "macro-F1")
    print_compared(attributes, "mean CCC")
    write_csv(classes if classes.height else attributes, out)
    return 0


@command(stack, "ser stack ablate\nser stack ablate --resamples 1000")
def ablate(
    logits: Logits = None,
    out: TableFile = None,
    resamples: Resamples = None,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Measure what each head contributes to the stack on dev.

    Each head is left out once and permuted once. With --logits no pipeline is read: the heads are
    those of the folder, the options those of --set.
    """
    from ser.commands.stack_tables import print_ablated
    from ser.stack.ablate import ablate

    folder, heads, config, scoring = _inputs(logits, path, overrides)
    left_out, permuted = ablate(folder, heads, config, resamples or scoring.resamples)
    print_ablated(left_out, permuted)
    write_csv(left_out.join(permuted, "head", suffix="_permuted"), out)
    return 0


def _compare_rotations(pipeline: "Pipeline", out: Path | None, resamples: int | None) -> int:
    """Compare the meta-models over the rotations of a cross-validation."""
    from ser.commands.stack_tables import print_rotations
    from ser.score.rotations import FILE, Rotations
    from ser.stack.rotations import compare_rotations

    names = [rotation.name for rotation in Rotations.read(pipeline.run / FILE).rotations]
    runs = [pipeline.run / name for name in names]
    resamples = resamples or pipeline.score.resamples
    frame = compare_rotations(runs, pipeline.stacked, pipeline.stack, resamples)
    print_rotations(frame, len(runs))
    write_csv(frame, out)
    return 0


def _inputs(
    logits: Path | None, path: Path, overrides: list[str] | None
) -> "tuple[Path, list[str], StackConfig, ScoreConfig]":
    """Return the folder of logits, its heads and both sections."""
    if logits is None:
        pipeline = load_pipeline(path, overrides)
        require_trained(pipeline, pipeline.stack.heads)
        return pipeline.run / "heads", pipeline.stacked, pipeline.stack, pipeline.score
    from ser.corpus.errors import UserError
    from ser.pipeline.sections import read_overrides, read_section
    from ser.score.config import ScoreConfig
    from ser.stack.config import StackConfig

    heads = sorted(file.parent.name for file in logits.glob("*/logits.h5"))
    if not heads:
        raise UserError(
            f"{logits}: there is no <head>/logits.h5 in it; give the folder that holds the heads."
        )
    given = read_overrides(overrides or ())
    scoring = read_section(given, "score", ScoreConfig)
    return logits, heads, read_section(given, "stack", StackConfig), scoring


def _why(config: "StackConfig", protocol: str) -> str:
    if config.protocol is not None:
        return ""
    if protocol == "oof":
        return ": all heads are cross-fitted"
    return ": not all heads are cross-fitted"
