"""Many heads at once, each in a process of its own: `ser heads train-all --jobs`.

1. Report the heads that are up to date; with one left, or one core, train in this process.
2. With `auto`, start one worker. After its first epoch it sends its peak memory, and then as many
   run as there are heads and cores, and as fit into 80 % of the memory that was free. The largest
   peak so far counts, so heads that read more lower the number. With CUDA each worker has one GPU,
   and each GPU as many workers as its free memory holds.
3. Start the worker of a head again when it dies; it resumes from the checkpoint in the head's
   folder, so a minute is lost and the result is the same to the bit. The third death fails the
   head.

A worker costs a start of Python and torch, three seconds or so, and reads the pipeline itself.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace

from pydantic import TypeAdapter

from ser.corpus.machine import available_memory, cores
from ser.engines.devices import gpus_of
from ser.engines.memory import MemoryBudget, free_on, gpu_peak, watch_memory
from ser.engines.workers import ATTEMPTS, Answers, Send, Task, environments, run_tasks
from ser.extract.devices import choose_device
from ser.heads.job import HeadsJob
from ser.heads.run import AfterEpoch, HeadReport, Progress, current_heads, train_heads
from ser.pipeline.file import Origin
from ser.pipeline.jobs import heads_job

BODY = "ser.engines.heads:train_one"
Log = Callable[[str], None]


@dataclass(frozen=True)
class Training:
    """How heads are trained, in plain values that another process can read.

    Attributes:
        origin: the pipeline's.
        device: auto, cpu or cuda.
        force: train heads that are up to date again.
        in_memory: read features whole first, each that fits.
    """

    origin: Origin
    device: str = "auto"
    force: bool = False
    in_memory: bool = False


@dataclass(frozen=True)
class RunTraining:
    """Heads of one run to train; `prefix` precedes their names where several runs are trained."""

    job: HeadsJob
    names: Sequence[str]
    training: Training
    prefix: str = ""

    def on(self, device: str) -> "RunTraining":
        """Return the same training on a device."""
        return replace(self, training=replace(self.training, device=device))

    def tasks(self) -> list[Task]:
        """Return the task of each head, those of the most features first.

        They take the most memory, and the longest: the last to end should be short.
        """
        configs = self.job.configs
        names = sorted(self.names, key=lambda name: len(configs[name].features), reverse=True)
        training = asdict(self.training)
        return [Task(self.prefix + name, BODY, [name, training]) for name in names]

    def train(self, after_epoch: AfterEpoch) -> Iterator[HeadReport]:
        """Train the heads in this process, one after another; yield reports."""

        def prefixed(progress: Progress) -> None:
            after_epoch(replace(progress, head=self.prefix + progress.head))

        how = self.training
        for report in train_heads(self.job, self.names, how.device, how.force, prefixed):
            yield replace(report, name=self.prefix + report.name)


def train_runs(
    runs: Sequence[RunTraining],
    jobs: int | None,
    *,
    log: Log = lambda line: None,
    after_epoch: AfterEpoch = lambda progress: None,
) -> Iterator[HeadReport]:
    """Train heads of several runs as one list in `jobs` processes of this machine; yield reports.

    With `jobs` None there are as many processes as fit; `log` gets a line on how many were chosen
    and why. All runs are trained on the device of the first. Raises `UserError` as `train_heads`
    does.
    """
    pending = []
    for run in runs:
        left = yield from report_current(run)
        if left.names:
            pending.append(left)
    if not pending:
        return
    device = choose_device(runs[0].training.device)
    limit = min(sum(len(run.names) for run in pending), cores() if jobs is None else jobs)
    if limit <= 1:
        for run in pending:
            if run.training.in_memory:
                load_features(run.job, run.names, log)
            yield from run.on(device).train(after_epoch)
        return
    gpus = gpus_of(device)
    # a worker sees one GPU alone, by CUDA_VISIBLE_DEVICES
    tasks = [task for run in pending for task in run.on("cuda" if gpus else device).tasks()]
    if jobs is not None:
        slots = environments(limit, gpus)
        yield from reports_of(pending, run_tasks(tasks, lambda: slots), after_epoch)
        return
    budget = MemoryBudget(limit, available_memory(), free_on(gpus) if gpus else {})

    def measured(memory: int, gpu_memory: int) -> None:
        if line := budget.measure(memory, gpu_memory):
            log(f"heads    {line}")

    yield from reports_of(pending, run_tasks(tasks, budget.slots), after_epoch, measured)


def load_features(job: HeadsJob, names: Sequence[str], log: Log = lambda line: None) -> None:
    """Read the named heads' features into memory, each that fits; `log` gets a line of others."""
    features = {f: cache for name in names for f, cache in job.heads[name].caches.items()}
    views = [cache for f in features for cache in job.views.get(f, {}).values()]
    for cache in [*features.values(), *views]:
        if not cache.load():
            log(f"heads    {cache.name}: larger than the free memory, read from disk")


def report_current(run: RunTraining) -> Generator[HeadReport, None, RunTraining]:
    """Yield the reports of heads that are up to date; return the training of the others."""
    current = [] if run.training.force else current_heads(run.job, run.names)
    for report in train_heads(run.job, current):
        yield replace(report, name=run.prefix + report.name)
    return replace(run, names=[name for name in run.names if name not in current])


def reports_of(
    runs: Sequence[RunTraining],
    answers: Answers,
    after_epoch: AfterEpoch = lambda progress: None,
    measured: Callable[[int, int], None] = lambda memory, gpu_memory: None,
) -> Iterator[HeadReport]:
    """Yield a report for each head that is trained in another process, from its task's answers.

    Raises `UserError` for what a worker refused before it began with its head, `StoppedError` for
    what the machine refused it, `RuntimeError` for what it raised.
    """
    started = time.monotonic()
    chosen_by = {r.prefix + name: r.job.configs[name].chosen_by for r in runs for name in r.names}
    with closing(answers):
        for answer in answers:
            name = answer.task.name
            answer.require_no_error(f"head {name}")
            if answer.kind == "event":
                measured(answer.content["memory"], answer.content["gpu_memory"])
                after_epoch(replace(Progress(**answer.content["progress"]), head=name))
            elif answer.kind == "done":
                yield replace(HeadReport(**answer.content), name=name)
            elif answer.kind == "died":
                seconds, by = time.monotonic() - started, chosen_by[name]
                error = (
                    f"its worker died {ATTEMPTS} times ({answer.content}); take fewer workers "
                    "(`--jobs`) if the memory is short"
                )
                yield HeadReport(name, "failed", None, by, 0, seconds, error)


def train_one(send: Send, name: str, training: object) -> dict[str, object]:
    """Train one head and return the fields of its report; the body of every task.

    After every epoch it sends its progress and its peak memory in bytes. Epochs restored from a
    checkpoint are not sent: they took no memory.
    """
    from torch.optim.optimizer import register_optimizer_step_post_hook

    peak, steps = watch_memory(), 0
    given = TypeAdapter(Training).validate_python(training)

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    register_optimizer_step_post_hook(count)
    job = heads_job(given.origin.load())
    if given.in_memory:
        load_features(job, [name])

    def after_epoch(progress: Progress) -> None:
        if steps:
            memory = {"memory": peak(), "gpu_memory": gpu_peak(given.device)}
            send({"progress": asdict(progress)} | memory)

    [report] = train_heads(job, [name], given.device, given.force, after_epoch)
    return asdict(report)
