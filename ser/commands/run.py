"""`ser run` and `ser demo`: all stages in order."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser.commands.help import Resuming, command
from ser.commands.logs import log
from ser.commands.options import (
    PIPELINE,
    Address,
    Device,
    HeadsEngine,
    Jobs,
    Overrides,
    PipelineFile,
    Slurm,
    choose_engine,
    load_pipeline,
    parse_jobs,
    require_folder,
)
from ser.commands.output import console, exit_code
from ser.commands.presets import smoke_one
from ser.corpus.errors import plural
from ser.corpus.progress import is_shown

if TYPE_CHECKING:
    from ser.score.scores import Metrics

app = typer.Typer()


@command(app, "ser demo\nser demo --folder /tmp/ser-demo", section="Start", cls=Resuming)
def demo(*, folder: Annotated[Path, typer.Option(file_okay=False)] = Path()) -> int:
    """Run a whole pipeline on a small synthetic corpus.

    The speech is synthesized and the models are real, so the scores say nothing about real
    emotion. Takes a few minutes on two cores. Exit code 1 when a clip or a head failed.

    Args:
        folder (FOLDER): Folder that gets data/ and runs/; by default this one.
    """
    from ser.score.run import render
    from ser.smoke.smoke import demo as run_demo

    require_folder(folder, "--folder")
    metrics, failed = run_demo(folder, log.info)
    render(metrics, console())
    return _finish(failed, folder / "runs" / "demo" if metrics else None)


@command(
    app,
    "ser run\nser run --pipeline unicamp.yaml --set run=runs/second\nser run --smoke",
    section="Start",
    cls=Resuming,
)
def run(
    *,
    smoke: bool = False,
    report: bool = True,
    jobs: Jobs = "auto",
    engine: HeadsEngine = "process",
    address: Address = None,
    slurm: Slurm = None,
    device: Device = "auto",
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Run every stage of the pipeline; skip what is up to date.

    The stages are fine-tuning, features, heads, stack, scores, and the report where its packages
    are installed. With --engine, features and heads are computed on a cluster. Exit code 1
    when a clip or a head failed.

    Args:
        smoke: Try the pipeline on the CPU with made-up data and tiny models; nothing is kept.
        report: Write the report page, where the packages of `report` are installed.
    """
    from ser.commands.live import LiveHeads
    from ser.score.run import NotWrittenError, render
    from ser.stages.run import run_all

    pipeline = load_pipeline(path, overrides)
    where = choose_engine(parse_jobs(jobs), engine, address, slurm)
    if smoke:
        return _finish(smoke_one(pipeline))
    try:
        with LiveHeads() as live:
            metrics, failed = run_all(
                pipeline, device, live.log, engine=where, callbacks=live.callbacks, report=report
            )
    except NotWrittenError as error:
        render(error.metrics, console())
        raise
    render(metrics, console())
    if speakers := _few_test_speakers(metrics):
        options = [] if path == PIPELINE else ["--pipeline", str(path)]
        options += [word for text in overrides or () for word in ("--set", text)]
        reason = f"the test split has {plural(speakers, 'speaker')}; this tests every speaker once"
        log.info("next     %s  # %s", shlex.join(["ser", "cv", *options]), reason)
    return _finish(failed, pipeline.run if metrics else None)


def _few_test_speakers(metrics: "Metrics") -> int | None:
    """Return the number of test speakers if it is too small for an interval, otherwise None."""
    from ser.score.speakers import too_few

    speakers = [scores.speakers for scores in metrics.get("test", {}).values()]
    return speakers[0] if speakers and too_few(speakers[0]) else None


def _finish(failed: dict[str, str], run: Path | None = None) -> int:
    """Print what to type next on a run that was scored; return the exit code.

    With --quiet, when progress did not, name the first failure.
    """
    if run is not None:
        from ser.stages.run import next_commands

        for command in next_commands(run):
            log.info("next     %s", command)
    if failed and not is_shown():
        name, reason = next(iter(failed.items()))
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        log.error("%s failed (%s)%s", name, reason, more)
    return exit_code(failed)
