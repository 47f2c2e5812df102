"""`ser heads`: train heads from the cache."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ser.commands.options import (
    device_option,
    exit_code,
    key_values,
    load_pipeline,
    pipeline_option,
    print_frame,
    set_option,
)

if TYPE_CHECKING:
    import polars as pl

    from heads.job import HeadsJob
    from heads.run import HeadReport
    from ser.pipeline import Pipeline

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("heads")
def heads_group() -> None:
    """Train heads from the cache."""


def _jobs(_context: click.Context, _option: click.Parameter, text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or not int(text):
        raise click.BadParameter(f"'{text}' is neither auto nor a number from 1 on")
    return int(text)


def _training(jobs: str) -> Callable[[Command], Command]:
    """Return the options that both ways of training share."""
    options = (
        click.option("--force", is_flag=True, help="Train again what is current."),
        click.option(
            "--in-memory", is_flag=True, help="Read the features whole first, if they fit."
        ),
        click.option(
            "--jobs",
            default=jobs,
            show_default=True,
            metavar="auto|N",
            callback=_jobs,
            help="Heads at a time, each in a process of its own; auto: as many as fit.",
        ),
        click.option(
            "--engine", type=click.Choice(["process", "ray"]), default="process", show_default=True
        ),
        click.option("--address", help="With --engine ray: the cluster; none starts one here."),
        device_option,
        pipeline_option,
        set_option,
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@heads_group.command("train")
@click.argument("names", nargs=-1, required=True)
@_training(jobs="1")
def train(names: tuple[str, ...], *, path: Path, overrides: tuple[str, ...], **how: Any) -> int:
    """Train the heads NAMES; exit 1 when one failed."""
    once = list(dict.fromkeys(names))
    return _train(load_pipeline(path, overrides), once, path, overrides, **how)


@heads_group.command("train-all")
@_training(jobs="auto")
def train_all(*, path: Path, overrides: tuple[str, ...], **how: Any) -> int:
    """Train every head of the pipeline; what is current is skipped. Exit 1 when one failed."""
    pipeline = load_pipeline(path, overrides)
    return _train(pipeline, list(pipeline.heads), path, overrides, **how)


def _train(
    pipeline: "Pipeline",
    names: Sequence[str],
    path: Path,
    overrides: tuple[str, ...],
    *,
    device: str,
    force: bool,
    in_memory: bool,
    jobs: int | None,
    engine: str,
    address: str | None,
) -> int:
    from ser.commands.live import LiveHeads
    from ser.heads import train as train_heads
    from ser.training import Call, train_with_jobs

    with LiveHeads() as live:

        def apart(job: "HeadsJob") -> "Iterator[HeadReport]":
            call = Call(path, overrides, device, force, in_memory)
            if engine == "ray":
                from ser.cluster import train_with_ray

                return train_with_ray(job, names, call, address)
            return train_with_jobs(
                job, names, call, jobs, say=live.say, after_epoch=live.after_epoch
            )

        reports = train_heads(pipeline, names, apart=apart)
        failed = [report.name for report in map(live.finish, reports) if report.done == "failed"]
    if failed:
        place = pipeline.run / "heads" / "failed.csv"
        click.echo(f"heads    {len(failed)} failed ({', '.join(failed)}), see {place}")
    return exit_code(failed)


@heads_group.command("import")
@click.argument("file", type=Path)
@click.option("--as", "head", required=True, help="The architecture: cross_modal_gru.")
@click.option("--out", type=Path, required=True, help="The .safetensors to write, for `init:`.")
@click.option(
    "--attention-heads", "heads", multiple=True, metavar="MODALITY=N", help="Those that are not 1."
)
def import_weights(file: Path, *, head: str, out: Path, heads: tuple[str, ...]) -> None:
    """Convert a published checkpoint; only its tensors are read, nothing is unpickled."""
    from heads.published import import_published

    about = import_published(file, head, out, key_values(heads))
    dims = ", ".join(f"{name} {dim}" for name, dim in about["dims"].items())
    extra = "loss: [wce, sml], " if "neutral_logit" in about["outputs"] else ""
    click.echo(
        f"{out}: {head}, features of {dims}, {about['outputs']['logits']} classes; say "
        f"`{{features: […], hidden: {about['hidden']}, {extra}init: {out}, epochs: 0}}`"
    )


@heads_group.command("tune")
@click.argument("name")
@click.option("--space", type=Path, required=True, help="A YAML file: key to values or range.")
@click.option("--trials", default=30, show_default=True, help="In all; earlier ones count.")
@device_option
@pipeline_option
@set_option
def tune_head(
    name: str, *, space: Path, trials: int, device: str, path: Path, overrides: tuple[str, ...]
) -> None:
    """Search the hyper-parameters of the head NAME, judged by dev."""
    import yaml

    from extract.extractor import choose_device
    from heads.tune import tune
    from ser.document import read_mapping
    from ser.heads import head_entry, heads_job

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
        after_trial=lambda table: click.echo(_trial(table)),
    )
    click.echo(f"{folder / 'best.yaml'}:\n{yaml.safe_dump(best, sort_keys=False).rstrip()}")


def _trial(table: "pl.DataFrame") -> str:
    """Say how the last trial went, and how the best."""
    last, best = table.sort("trial").row(-1, named=True), table.row(0, named=True)
    values = {k: v for k, v in last.items() if k not in {"trial", "state", "score"}}
    said = ", ".join(
        f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()
    )
    score = last["state"] if last["score"] is None else f"{last['score']:.3f}"
    top = "" if best["score"] is None else f"; best {best['score']:.3f} (trial {best['trial']})"
    return f"trial {last['trial']}: {score} with {said}{top}"


@heads_group.command("list")
@pipeline_option
@set_option
def list_heads(path: Path, overrides: tuple[str, ...]) -> None:
    """List the pipeline's heads and what has been trained."""
    from ser.heads import heads_table

    print_frame(heads_table(load_pipeline(path, overrides)))
