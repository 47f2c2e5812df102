"""`ser heads`: train heads from the cache."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ser.commands.options import (
    device_option,
    exit_code,
    load_pipeline,
    pipeline_option,
    print_frame,
    set_option,
)

if TYPE_CHECKING:
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
    from ser.run import train as train_heads
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


@heads_group.command("list")
@pipeline_option
@set_option
def list_heads(path: Path, overrides: tuple[str, ...]) -> None:
    """List the pipeline's heads and what has been trained."""
    from ser.run import heads_table

    print_frame(heads_table(load_pipeline(path, overrides)))
