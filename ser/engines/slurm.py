"""Many workers as jobs of SLURM, submitted by submitit: as `ser.engines.workers`, on many machines.

1. Submit the shards of an extraction, or the heads, as one job array.
2. A job does one task and writes its answer, and what it prints, into a folder of the command in
   `slurm/` of the run.
3. Submit a task again when its job dies, as one that ran out of memory or time does. What it had
   finished is kept: the next job resumes. Jobs that SLURM requeues do so as well.

Python, `ser`, the pipeline, the audio, the cache and the run must be at the same path on every
node. submitit pickles calls and answers: the run's folder is trusted, as it is your own.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from datetime import datetime
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser.corpus.atomic import remove
from ser.corpus.errors import UserError, nearest, one_line
from ser.engines.shards import count_missing, finished_reports, read_jobs, shard_tasks
from ser.engines.workers import ATTEMPTS, Answer, Answers, Task, run_body

if TYPE_CHECKING:
    from ser.engines.heads import Training
    from ser.extract.loop import Report
    from ser.heads.job import HeadsJob
    from ser.heads.run import HeadReport
    from ser.pipeline.file import Origin

CLUSTER = "slurm"  # of submitit; the tests have no SLURM
POLL_SECONDS = 5.0
# those of submitit that take a text, a number or a truth value; others of it take lists
OPTIONS = (
    *("account", "array_parallelism", "comment", "constraint", "cpus_per_gpu", "cpus_per_task"),
    *("dependency", "exclude", "exclusive", "gpus_per_node", "gpus_per_task", "gres", "job_name"),
    *("mail_type", "mail_user", "mem", "mem_gb", "mem_per_cpu", "mem_per_gpu", "name", "nodelist"),
    *("nodes", "ntasks_per_node", "num_gpus", "partition", "qos", "signal_delay_s"),
    *("stderr_to_stdout", "tasks_per_node", "time", "timeout_min", "use_srun", "wckey"),
)
SETUP = ["export PYTHONSAFEPATH=1"]  # a user's folder called `ser` must not be imported


def extract_with_slurm(
    origin: "Origin", names: Sequence[str], device: str, jobs: int, options: Mapping[str, str]
) -> "list[Report]":
    """Extract one feature, or those of one pass, in `jobs` jobs of SLURM.

    `options` are those of the jobs, by the names of sbatch. Raises `UserError` as
    `extract_with_jobs` does, for an option that does not exist, and where no job can be submitted.
    """
    from ser.extract.run import extract_together

    _check_names(options)
    work = read_jobs(origin, names)
    missing = count_missing(work)
    if not missing:
        return extract_together(work, device)
    executor = _executor(origin.load().run, options)
    count = min(missing, jobs)
    tasks = shard_tasks(origin, names, device, count)
    return finished_reports(work, run_on_slurm(tasks, executor), count)


def train_with_slurm(
    job: "HeadsJob",
    names: Sequence[str],
    training: "Training",
    jobs: int | None,
    options: Mapping[str, str],
) -> "Iterator[HeadReport]":
    """Train heads as jobs of SLURM, `jobs` at a time (None: all); yield their reports.

    Raises `UserError` as `extract_with_slurm` does; a head whose jobs die three times has failed.
    """
    from ser.engines.heads import RunTraining, report_current, reports_of

    _check_names(options)
    run = yield from report_current(RunTraining(job, names, training))
    if not run.names:
        return
    if jobs is not None:
        options = {"array_parallelism": str(jobs), **options}
    yield from reports_of([run], run_on_slurm(run.tasks(), _executor(job.run, options)))


def _check_names(options: Mapping[str, str]) -> None:
    """Raise `UserError` for an option that does not exist."""
    for name in options:
        if name not in OPTIONS:
            end = nearest(name, OPTIONS)
            raise UserError(f"--slurm {name}: there is no such option of submitit; {end}")


def _executor(run: Path, options: Mapping[str, str]) -> Any:
    """Return submitit's executor; raises `UserError` without SLURM and for a wrong value."""
    submitit = import_module("submitit")  # an extra
    folder = run / "slurm" / f"{datetime.now():%Y-%m-%d-%H%M%S}-{os.getpid()}"
    try:
        executor = submitit.AutoExecutor(folder, cluster=CLUSTER)
        executor.update_parameters(name="ser", slurm_setup=SETUP)
    except RuntimeError as error:
        raise UserError(
            f"--engine slurm: SLURM is not available here ({_reason(error)}); run it on a login "
            "node, where sbatch is."
        ) from error
    for name, text in options.items():
        try:
            executor.update_parameters(**{f"slurm_{name}": _value(text)})
        except (NameError, TypeError, ValueError, AssertionError) as error:
            raise UserError(
                f"--slurm {name}={text}: submitit does not take this value; give one as sbatch "
                "takes it, as time=240, mem_gb=16 or gpus_per_node=1."
            ) from error
    return executor


def _value(text: str) -> str | int | float | bool:
    """Return the number or truth value that a text is; an account called 007 is none."""
    if re.fullmatch(r"0|[1-9]\d*", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"\d+\.\d+", text, re.ASCII):
        return float(text)
    return {"true": True, "false": False}.get(text, text)


def run_on_slurm(tasks: Sequence[Task], executor: Any) -> Answers:
    """Run tasks as jobs of an executor; yield their outcomes as they are done.

    Events are not passed on. Closing the generator cancels the jobs that are left.
    """
    errors = import_module("submitit.core.utils")
    waiting, deaths, running = list(tasks), Counter[str](), list[tuple[Any, Task]]()
    submitted = False
    try:
        while waiting or running:
            if waiting:
                running += zip(_submit(waiting, executor, errors), waiting, strict=True)
                waiting, submitted = [], True
            done = [(job, task) for job, task in running if job.done()]
            running = [(job, task) for job, task in running if (job, task) not in done]
            for job, task in done:
                try:
                    kind, content = job.result()
                except errors.UncompletedJobError as error:
                    deaths[task.name] += 1
                    last = deaths[task.name] == ATTEMPTS
                    kind, content = "died" if last else "lost", _reason(error)
                    if not last:
                        waiting.append(task)
                yield Answer(task, kind, content)
            if not done:
                time.sleep(POLL_SECONDS)
    finally:
        for job, _ in running:
            job.cancel(check=False)
        if not submitted:
            remove(executor.folder)  # of jobs that sbatch has refused


def _submit(tasks: Sequence[Task], executor: Any, errors: Any) -> list[Any]:
    calls = [task.body for task in tasks], [list(task.arguments) for task in tasks]
    try:
        with redirect_stderr(StringIO()):  # submitit prints what it raises
            jobs: list[Any] = executor.map_array(run_body, *calls)
    except (errors.FailedJobError, errors.FailedSubmissionError, FileNotFoundError) as error:
        raise UserError(
            f"--engine slurm: sbatch refused the jobs ({_reason(error)}); correct --slurm."
        ) from error
    return jobs


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return one_line(lines[0].rstrip(".:"))[:200] if lines else type(error).__name__
