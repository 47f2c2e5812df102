"""One extraction shared out over many workers: `ser.engines.workers` or `ser.engines.cluster`.

1. Cut the corpus into four shards a worker. Batches are planned over the whole corpus, so the rows
   are the same bits whoever computes them, in whatever order.
2. Send a worker plain values (where the pipeline is, features, device, shard); it reads the
   pipeline and loads the model itself, and returns the fields of its reports.
3. Run a shard again when its worker dies: what it had not committed is lost, 20 s at most.
4. Report a user's mistake once and stop the other workers; what they have finished is kept.

A shard costs a start of Python, a look at every file's header and a load of the model, so more
shards cost more, and fewer leave workers idle at the end.
"""

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ser.corpus.errors import UserError
from ser.corpus.progress import steps
from ser.engines.devices import gpus_of
from ser.engines.workers import ATTEMPTS, Answer, Answers, Send, Task, environments, run_tasks

if TYPE_CHECKING:
    from ser.extract.job import Job
    from ser.extract.loop import Report
    from ser.pipeline.file import Origin

SHARDS_PER_WORKER = 4
BODY = "ser.engines.shards:run_shard"


def extract_with_jobs(
    origin: "Origin", names: Sequence[str], jobs: int, device: str = "auto"
) -> "list[Report]":
    """Extract one feature, or those of one pass, with `jobs` processes of this machine.

    With CUDA, worker i computes on GPU i mod count; each has its share of the cores unless
    OMP_NUM_THREADS is set. Raises `UserError` for what `extract` does, and when the workers of one
    shard die three times.
    """
    from ser.extract.devices import choose_device
    from ser.extract.job import full_spec
    from ser.extract.run import extract_together

    work = read_jobs(origin, names)
    for job in work:
        full_spec(job)  # weights are fetched once, and a wrong name costs no worker
    missing = count_missing(work)
    if not missing:
        return extract_together(work, device)
    device = choose_device(device)
    count = min(missing, SHARDS_PER_WORKER * jobs)
    gpus = gpus_of(device)
    processes = math.ceil(jobs / len(gpus)) if gpus else jobs
    tasks = shard_tasks(origin, names, "cuda" if gpus else device, count, processes)
    slots = environments(jobs, gpus)
    return finished_reports(work, run_tasks(tasks, lambda: slots), count)


def read_jobs(origin: "Origin", names: Sequence[str]) -> "list[Job]":
    """Read a pipeline and return the extraction of each feature or view, by the cache's name."""
    from ser.extract.passes import FeatureView
    from ser.pipeline.file import read_manifest
    from ser.pipeline.jobs import feature_job

    pipeline = origin.load()
    manifest = read_manifest(pipeline)
    return [feature_job(pipeline, manifest, *FeatureView.of(name)) for name in names]


def count_missing(work: "Sequence[Job]") -> int:
    """Return how many utterances are to be extracted, of the job that lacks most."""
    from ser.extract.forecast import forecast

    return max(forecast(job).utterances for job in work)


def run_shard(
    _send: Send,
    origin: object,
    names: Sequence[str],
    device: str,
    processes: int,
    shard: Sequence[int],
) -> list[dict[str, object]]:
    """Extract one shard (i, n); the body of every task. Returns the fields of each report.

    `processes` is how many share the device.
    """
    from pydantic import TypeAdapter

    from ser.extract.run import extract_together
    from ser.pipeline.file import Origin

    work = read_jobs(TypeAdapter(Origin).validate_python(origin), names)
    reports = extract_together(work, device, (shard[0], shard[1]), processes=processes)
    return [asdict(report) for report in reports]


def shard_tasks(
    origin: "Origin", names: Sequence[str], device: str, count: int, processes: int = 1
) -> list[Task]:
    """Return the tasks of shards 0 to count-1; `processes` is how many share the device."""
    arguments = [asdict(origin), list(names), device, processes]
    return [Task(f"{i}/{count}", BODY, [*arguments, (i, count)]) for i in range(count)]


def finished_reports(work: "Sequence[Job]", answers: Answers, count: int) -> "list[Report]":
    """Follow the shards of an extraction until all are done; return a report for each job.

    Raises `UserError` for the first shard that is refused or whose workers keep dying,
    `RuntimeError` for one that raised.
    """
    from ser.extract.job import open_feature
    from ser.extract.loop import Report

    started = time.monotonic()
    names = [job.name for job in work]
    with closing(answers):
        done = (answer.content for answer in answers if _is_done(answer, names))
        finished = list(steps(done, " + ".join(names), count, unit="shard"))
    seconds = time.monotonic() - started
    reports = [
        _merged(job, [Report(**part) for part in parts], seconds)
        for job, *parts in zip(work, *finished, strict=True)
    ]
    for job, report in zip(work, reports, strict=True):
        if report.failed:  # the lock of the list may not reach across a network file system
            open_feature(job).record(report.failed)
    return reports


def _is_done(answer: Answer, names: Sequence[str]) -> bool:
    """Return whether a shard is finished; raises what `run_shards` does for one that never will."""
    shard = answer.task.name
    answer.require_no_error(f"shard {shard}")
    if answer.kind == "died":
        raise UserError(
            f"features.{names[0]}: the worker of shard {shard} died {ATTEMPTS} times "
            f"({answer.content}); run `ser extract {' '.join(names)} --shard {shard}` to "
            "see it alone, or take fewer workers if the memory is short."
        )
    return answer.kind == "done"


def _merged(job: "Job", parts: "Sequence[Report]", seconds: float) -> "Report":
    # as the first one to look saw it
    merged = replace(parts[0], seconds=seconds, cached=min(part.cached for part in parts))
    for part in parts[1:]:
        merged.failed |= part.failed
        merged.doubtful |= part.doubtful
        merged.overflowed += part.overflowed
        merged.model_seconds += part.model_seconds
        merged.audio_seconds += part.audio_seconds
    # not the sum: what a worker committed before it died is in no report
    merged.extracted = len(job.manifest) - merged.cached - len(merged.failed)
    return merged
