"""`ser heads`: train heads from the cache."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser.commands.help import Group, Resuming, command
from ser.commands.logs import log, result
from ser.commands.options import (
    OUTPUT,
    PIPELINE,
    Address,
    Force,
    HeadsEngine,
    Jobs,
    Json,
    Overrides,
    PipelineFile,
    Slurm,
    TrainingDevice,
    choose_engine,
    key_values,
    load_pipeline,
    parse_jobs,
)
from ser.commands.output import exit_code, print_frame, print_json
from ser.corpus.errors import listed

if TYPE_CHECKING:
    import polars as pl

    from ser.engines.engine import Engine
    from ser.pipeline.file import Pipeline

app = typer.Typer()
heads = typer.Typer(cls=Group, help="Train heads on cached features, tune and list them.")
app.add_typer(heads, name="heads", rich_help_panel="Heads")

InMemory = Annotated[
    bool,
    typer.Option(
        "--in-memory", help="Read every feature that fits into memory before training starts."
    ),
]


@command(
    heads,
    "ser heads train whisper-roberta\nser heads train one two --jobs 2 --set heads.one.epochs=5",
    cls=Resuming,
)
def train(
    names: list[str],
    *,
    force: Force = False,
    in_memory: InMemory = False,
    jobs: Jobs = "1",
    engine: HeadsEngine = "process",
    address: Address = None,
    slurm: Slurm = None,
    device: TrainingDevice = "auto",
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Train the heads NAMES.

    Heads that are up to date are skipped. Exit code 1 when one failed, or when another process is
    training it.

    Args:
        names: Heads of the pipeline to train.
    """
    pipeline = load_pipeline(path, overrides)
    where = choose_engine(parse_jobs(jobs), engine, address, slurm)
    return _train(pipeline, names, device, where, force=force, in_memory=in_memory)


@command(
    heads,
    "ser heads train-all\nser heads train-all --jobs 4 --device cuda",
    name="train-all",
    cls=Resuming,
)
def train_all(
    *,
    force: Force = False,
    in_memory: InMemory = False,
    jobs: Jobs = "auto",
    engine: HeadsEngine = "process",
    address: Address = None,
    slurm: Slurm = None,
    device: TrainingDevice = "auto",
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Train every head of the pipeline.

    Heads that are up to date are skipped. Exit code 1 when one failed, or when another process is
    training it.
    """
    from ser.stages.heads import require_heads

    pipeline = load_pipeline(path, overrides)
    require_heads(pipeline, [])
    where = choose_engine(parse_jobs(jobs), engine, address, slurm)
    return _train(pipeline, [*pipeline.heads], device, where, force=force, in_memory=in_memory)


def _train(
    pipeline: "Pipeline",
    names: Sequence[str],
    device: str,
    engine: "Engine",
    *,
    force: bool,
    in_memory: bool,
) -> int:
    """Train heads with a live table; return the exit code."""
    from ser.commands.live import LiveHeads
    from ser.stages.heads import follow
    from ser.stages.heads import train as train_heads

    with LiveHeads() as live:
        reports = train_heads(
            pipeline,
            list(dict.fromkeys(names)),
            device,
            force=force,
            in_memory=in_memory,
            engine=engine,
            log=live.log,
            after_epoch=live.after_epoch,
        )
        left = follow(reports, live.callbacks, live.log)
    failed = [report.name for report in left if report.done == "failed"]
    busy = [report.name for report in left if report.done == "busy"]
    if busy:
        result(f"heads    left to another process: {', '.join(busy)}")
    if failed:
        place = pipeline.run / "heads" / "failed.csv"
        result(f"heads    {len(failed)} failed ({', '.join(failed)}), see {place}")
    return exit_code(failed + busy)


@command(
    heads,
    "ser heads import head.pt --as cross_modal_gru --out weights/head.safetensors",
    name="import",
)
def import_weights(
    files: list[Path],
    *,
    head: str,
    out: Annotated[Path, OUTPUT],
    attention_heads: list[str] | None = None,
) -> None:
    """Convert a published checkpoint to safetensors.

    Only its tensors are read; nothing is unpickled.

    Args:
        files (FILE): PyTorch checkpoints of one head, as published.
        head (--as NAME): Architecture: cross_modal_gru, attentive_stats, conv_pool, deep_fusion or
            early_mha.
        out (FILE): File to write: a .safetensors for `init:`.
        attention_heads (MODALITY=N): Number of attention heads of a modality (repeatable); by
            default that of the released code.
    """
    from ser.heads.published import import_published, yaml_entry

    released = import_published(files, head, out, key_values(attention_heads or ()))
    dims = ", ".join(f"{name} {dim}" for name, dim in released.dims.items())
    outputs = ", ".join(f"{name} {width}" for name, width in released.outputs.items())
    if released.ignored:
        typer.echo(f"ignored, as the head does not read them: {listed(released.ignored)}")
    typer.echo(f"{out}: {head}, features of {dims}; outputs {outputs}")
    if head == "cross_modal_gru" and "text" in released.dims:
        typer.echo("text features of published weights have 80 tokens per clip: `pad_to: 80`")
    typer.echo(f"write `{yaml_entry(released, head, out)}`")


@command(heads, "ser heads tune whisper-roberta --space space.yaml --trials 50", cls=Resuming)
def tune(
    name: str,
    *,
    space: Path,
    trials: Annotated[int, typer.Option(min=1)] = 30,
    device: TrainingDevice = "auto",
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> None:
    """Search the hyper-parameters of a head, by its score on dev.

    Args:
        name: Head of the pipeline to tune.
        space (FILE): YAML file that maps each hyper-parameter to values or a range.
        trials (N): Trials in all, earlier calls included.
    """
    import yaml

    from ser.extract.devices import choose_device
    from ser.heads.tune import tune
    from ser.pipeline.document import read_mapping
    from ser.pipeline.jobs import heads_job
    from ser.stages.heads import head_entry

    pipeline = load_pipeline(path, overrides)
    entry, job = head_entry(pipeline, name), heads_job(pipeline)
    folder = pipeline.run / "tune" / name
    best = tune(
        folder,
        entry,
        read_mapping(space),
        (job.features, job.manifest),
        trials=trials,
        device=choose_device(device),
        after_trial=lambda table: result(_trial(table)),
    )
    typer.echo(f"{folder / 'best.yaml'}:\n{yaml.safe_dump(best, sort_keys=False).rstrip()}")


def _trial(table: "pl.DataFrame") -> str:
    """Describe the last trial, and the best one so far."""
    last, best = table.sort("trial").row(-1, named=True), table.row(0, named=True)
    values = {k: v for k, v in last.items() if k not in {"trial", "state", "score"}}
    settings = ", ".join(
        f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()
    )
    score = last["state"] if last["score"] is None else f"{last['score']:.3f}"
    top = "" if best["score"] is None else f"; best {best['score']:.3f} (trial {best['trial']})"
    return f"trial {last['trial']}: {score} with {settings}{top}"


@command(heads, "ser heads list\nser heads list --json", name="list")
def list_heads(
    as_json: Json = False, path: PipelineFile = PIPELINE, overrides: Overrides = None
) -> int:
    """List the pipeline's heads and which are trained.

    Exit code 1 when the record of one is damaged.
    """
    from ser.stages import heads as stage

    pipeline = load_pipeline(path, overrides)
    stage.require_heads(pipeline, [])
    rows = list(stage.list_heads(pipeline))
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_frame(stage.heads_table(rows), cut="sampler")
    errors = [row.error for row in rows if row.error is not None]
    for error in errors:
        log.error(error)
    return exit_code(errors)
