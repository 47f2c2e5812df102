"""`ser cv` and `ser cross`: every part of the corpus, or every corpus, is tested in turn."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ser.commands.help import Resuming, command
from ser.commands.logs import result
from ser.commands.options import (
    PIPELINE,
    Device,
    Jobs,
    Json,
    Overrides,
    PipelineFile,
    load_pipeline,
    parse_jobs,
)
from ser.commands.output import console, exit_code, print_json
from ser.corpus.errors import StoppedError, UserError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ser.corpus.rotations import RotationConfig
    from ser.pipeline.file import Pipeline

app = typer.Typer()


@command(
    app,
    "ser cv --by speaker\nser cv --by speaker --groups 6 --seeds 5\n"
    "ser cv --by session --dev share --json > cv.json",
    section="Score",
    cls=Resuming,
)
def cv(
    *,
    by: str | None = None,
    groups: Annotated[int | None, typer.Option(min=2, max=1000)] = None,
    dev: Literal["next", "share", "none"] | None = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000)] = 1,
    jobs: Jobs = "auto",
    as_json: Json = False,
    device: Device = "auto",
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Cross-validate: test every speaker, session or fold once.

    Each rotation is a run below the run, in cv/COLUMN; the heads of all rotations are trained in
    parallel, and what is up to date is skipped. The test predictions of all rotations are scored as
    one result of the whole corpus. Exit code 1 when a clip or a head failed.

    Args:
        by (COLUMN): Column of the manifest that is rotated: speaker, session, fold or another; by
            default cv.by of the pipeline, or speaker.
        groups (K): Number of groups that the values are put into; by default each value is tested
            alone.
        dev: Rows to choose epochs by: the next group, a speaker-disjoint fifth of the rows that are
            not tested, or none; by default next for speakers, else share.
        seeds (N): Repetitions with other head seeds.
    """
    from ser.score.rotations import print_rotations, summary
    from ser.score.run import render
    from ser.score.scores import plain_values
    from ser.stages.cv import plan, pool, runs_of

    pipeline, workers = load_pipeline(path, overrides), parse_jobs(jobs)
    config = _config(pipeline, by, groups, dev)
    repetitions = plan(pipeline, config, seeds)
    failed = _run(runs_of(repetitions), device, workers, quiet=as_json)
    validated = pool(repetitions, config.by)
    folder = validated.pooled.run
    if as_json:
        rotations = validated.rotations.model_dump(mode="json")
        print_json(
            {"folder": str(folder), **plain_values(validated.metrics), **rotations}
            | {"summary": summary(validated.rotations)}
        )
    else:
        render(validated.metrics, console())
        print_rotations(validated.rotations, console())
        result(f"cv       {folder}: `ser report --pipeline {folder / 'pipeline.yaml'}` reports it")
    return exit_code(failed)


@command(
    app, "ser cross\nser cross --by language --json > cross.json", section="Score", cls=Resuming
)
def cross(
    *,
    by: str = "corpus",
    jobs: Jobs = "auto",
    as_json: Json = False,
    device: Device = "auto",
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Train on each corpus and test on every other; also leave one corpus out.

    The manifest has several corpora, as `ser corpus join` writes it. Each training is a run below
    the run, in cross/COLUMN; the heads of all are trained in parallel, and what is up to date is
    skipped. Scores are over the classes that both corpora have. Exit code 1 when a clip or a head
    failed.

    Args:
        by (COLUMN): Column of the manifest that names the corpora.
    """
    from ser.score.cross import print_cross
    from ser.stages.cross import plan, score

    planned, workers = plan(load_pipeline(path, overrides), by), parse_jobs(jobs)
    failed = _run(planned.runs, device, workers, quiet=as_json)
    scores = score(planned)
    if as_json:
        print_json({"folder": str(planned.folder), **scores.model_dump(mode="json")})
    else:
        print_cross(scores, console())
        result(f"cross    {planned.folder}: a run for each training, and cross.json")
    return exit_code(failed)


def _run(
    runs: "Mapping[str, Pipeline]", device: str, jobs: int | None, *, quiet: bool
) -> dict[str, str]:
    """Run every run; return what failed. Raises `StoppedError` where a head was not trained."""
    from ser.commands.live import LiveHeads
    from ser.stages.subruns import run_subruns

    with LiveHeads(quiet) as live:
        trained, failed = run_subruns(runs, device, jobs, live.log, live.callbacks)
    if trained:
        return failed
    head, reason = next((n, r) for n, r in failed.items() if n.startswith("heads/"))
    raise StoppedError(
        f"nothing scored: head '{head.removeprefix('heads/')}' could not be trained "
        f"({reason.rstrip('.')})"
    )


def _config(
    pipeline: "Pipeline", by: str | None, groups: int | None, dev: str | None
) -> "RotationConfig":
    """Return the pipeline's `cv` section with the options of the command over it.

    Another column than that of the section has none of its other options.
    """
    from pydantic import ValidationError

    from ser.corpus.rotations import RotationConfig

    try:
        base = pipeline.cv if by in (None, pipeline.cv.by) else RotationConfig(by=str(by))
    except ValidationError as error:
        raise UserError(
            f"--by '{shown(str(by))}': no column can be called so; give a column of the manifest."
        ) from error
    given = {key: value for key, value in (("groups", groups), ("dev", dev)) if value is not None}
    return RotationConfig.model_validate(base.model_dump() | given)
