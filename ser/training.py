"""Many heads at once, each in a process of its own: `ser heads train-all --jobs`.

1. Report the heads that are current; with one left, or room for one, train in this process.
2. With `auto`, start one worker. After its first epoch it says how much memory it took at most, and
   then as many run as there are heads and cores, and as fit into 80 % of the memory that was free.
   The largest figure seen so far counts, so heads that read more make it fewer. With CUDA each
   worker has one GPU, and each GPU as many as its free memory holds.
3. Start the worker of a head again when it dies; it goes on from the checkpoint in the head's
   folder, so a minute is lost and not a bit is different. After three times the head has failed.

A worker costs a start of Python and torch, three seconds or so, and reads the pipeline itself.
"""

import os
import resource
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cache.features import available_memory
from corpus.errors import UserError
from extract.extractor import choose_device
from heads.job import HeadsJob
from heads.run import AfterEpoch, HeadReport, Progress, current_heads, train_heads
from ser.heads import Say, heads_job, load_features
from ser.pipeline import Pipeline
from ser.workers import (
    ATTEMPTS,
    Answers,
    Environment,
    Task,
    Tell,
    cores,
    environments,
    run_tasks,
    visible_gpus,
)

SHARE = 0.8  # of the free memory is for workers
CUDA_CONTEXT = 512 << 20  # bytes of a GPU that a process has beside PyTorch's, at most
SAMPLE_SECONDS = 0.05
BODY = "ser.training:train_one"


@dataclass(frozen=True)
class Call:
    """Say what a worker is told beside the name of its head: all plain values."""

    pipeline: Path
    overrides: Sequence[str] = ()
    device: str = "auto"
    force: bool = False
    in_memory: bool = False

    def task(self, name: str) -> Task:
        """Return the training of one head."""
        told = asdict(self) | {"pipeline": str(self.pipeline.resolve())}
        return Task(name, BODY, [name, told])


def train_with_jobs(
    job: HeadsJob,
    names: Sequence[str],
    call: Call,
    jobs: int | None,
    *,
    say: Say = lambda line: None,
    after_epoch: AfterEpoch = lambda progress: None,
) -> Iterator[HeadReport]:
    """Train heads with `jobs` processes of this machine, None for as many as fit; yield reports.

    `say` hears how many were chosen and why. The job is that of the call's pipeline. Raises
    `UserError` for what `train_heads` does.
    """
    left = yield from report_current(job, names, call.force)
    if not left:
        return
    call = replace(call, device=choose_device(call.device))
    limit = min(len(left), cores()) if jobs is None else min(len(left), jobs)
    if limit <= 1:
        if call.in_memory:
            load_features(job, left, say)
        yield from train_heads(job, left, call.device, call.force, after_epoch)
        return
    tasks = [call.task(name) for name in left]
    gpus = visible_gpus() if call.device == "cuda" else []
    if jobs is not None:
        slots = environments(limit, gpus)
        yield from reports_of(job, run_tasks(tasks, lambda: slots), after_epoch)
        return
    room = Room(limit, available_memory(), _free_on(gpus) if gpus else {})

    def measured(content: Mapping[str, Any]) -> None:
        line = room.measure(content["memory"], content["gpu_memory"])
        if line:
            say(f"heads    {line}")

    yield from reports_of(job, run_tasks(tasks, room.slots), after_epoch, measured)


def report_current(
    job: HeadsJob, names: Sequence[str], force: bool
) -> Generator[HeadReport, None, list[str]]:
    """Yield the reports of heads that are current; return the names of those that are not."""
    current = [] if force else current_heads(job, names)
    yield from train_heads(job, current)
    return [name for name in names if name not in current]


def reports_of(
    job: HeadsJob,
    answers: Answers,
    after_epoch: AfterEpoch = lambda progress: None,
    measured: Callable[[Mapping[str, Any]], None] = lambda content: None,
) -> Iterator[HeadReport]:
    """Yield a report of each head that is trained apart, by the answers of its tasks.

    Raises `UserError` for what a worker refused before it began with its head, `RuntimeError` for
    what it raised.
    """
    started = time.monotonic()
    with closing(answers):
        for answer in answers:
            name = answer.task.name
            if answer.kind == "event":
                measured(answer.content)
                after_epoch(Progress(**answer.content["progress"]))
            elif answer.kind == "done":
                yield HeadReport(**answer.content)
            elif answer.kind == "refused":
                raise UserError(answer.content)
            elif answer.kind == "raised":
                raise RuntimeError(f"head {name}:\n{answer.content}")
            elif answer.kind == "died":
                seconds, by = time.monotonic() - started, job.configs[name].chosen_by
                error = (
                    f"its worker died {ATTEMPTS} times ({answer.content}); take fewer workers "
                    "(`--jobs`) if the memory is short"
                )
                yield HeadReport(name, "failed", None, by, 0, seconds, error)


def train_one(tell: Tell, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Train one head and return the fields of its report; the body of every task.

    After every epoch it tells how far it is and what it took at most, in bytes. Epochs that it only
    finds in a checkpoint are not told of: they took no memory.
    """
    from torch.optim.optimizer import register_optimizer_step_post_hook

    peak, call, steps = watch_memory(), Call(**told), 0

    def count(*_: Any) -> None:
        nonlocal steps
        steps += 1

    register_optimizer_step_post_hook(count)
    job = heads_job(Pipeline.load(call.pipeline, call.overrides))
    if call.in_memory:
        load_features(job, [name])

    def after_epoch(progress: Progress) -> None:
        if steps:
            took = {"memory": peak(), "gpu_memory": _gpu_peak(call.device)}
            tell({"progress": asdict(progress)} | took)

    [report] = train_heads(job, [name], call.device, call.force, after_epoch)
    return asdict(report)


@dataclass
class Room:
    """Say how many workers there is room for; one, until the first has been measured.

    `most` is what heads and cores allow. Memory is in bytes: `free` before there were workers (0
    where that is not known), `gpus` that of each GPU by its name.
    """

    most: int
    free: int
    gpus: Mapping[str, int] = field(default_factory=dict)
    jobs: int = field(default=1, init=False)
    _peak: int = field(default=0, init=False)
    _gpu_peak: int = field(default=0, init=False)

    def slots(self) -> list[Environment]:
        """Return the environment of each worker that may run now."""
        share = self.jobs if self._peak else self.most  # of the cores
        return environments(share, self._places() or list(self.gpus))[: self.jobs]

    def measure(self, peak: int, gpu_peak: int) -> str:
        """Count what a worker took at most; return what is chosen and why, if that is new."""
        if peak <= self._peak and gpu_peak <= self._gpu_peak:
            return ""
        before = self.jobs if self._peak else 0
        self._peak, self._gpu_peak = max(peak, self._peak), max(gpu_peak, self._gpu_peak)
        room = {f"{self.most} by heads and cores": self.most}
        if self.free:
            by_memory = int(SHARE * self.free / self._peak)
            each = f"{self._peak / 1e9:.2f} GB each, {self.free / 1e9:.1f} GB were free"
            room[f"{by_memory} by memory ({each})"] = by_memory
        if self.gpus:
            by_gpu = len(self._places())
            room[f"{by_gpu} by GPU memory ({self._gpu_peak / 1e9:.2f} GB each)"] = by_gpu
        self.jobs = max(1, min(room.values()))
        if self.jobs == before:
            return ""
        return f"{self.jobs} at a time, the least of {', '.join(room)}"

    def _places(self) -> list[str]:
        """Name the GPU of each worker that fits, in turn."""
        each = self._gpu_peak + CUDA_CONTEXT
        fits = {gpu: int(SHARE * free / each) for gpu, free in self.gpus.items()}
        turns = range(max(fits.values(), default=0))
        return [gpu for turn in turns for gpu in fits if fits[gpu] > turn]


def free_gpu_memory(_tell: Tell) -> list[int]:
    """Return the free bytes of each visible GPU; a task of its own, as asking takes up some."""
    import torch

    return [torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())]


def _free_on(gpus: Sequence[str]) -> dict[str, int]:
    task = Task("GPUs", "ser.training:free_gpu_memory", [])
    *_, answer = run_tasks([task], lambda: [os.environ])
    if answer.kind != "done":
        raise RuntimeError(f"the memory of the GPUs: {answer.content}")
    return dict(zip(gpus, answer.content, strict=True))


def _gpu_peak(device: str) -> int:
    if device != "cuda":
        return 0
    import torch

    return int(torch.cuda.max_memory_reserved())  # what it allocated, and what it keeps beside that


def watch_memory() -> Callable[[], int]:
    """Return a function that returns the most bytes this process has had to itself so far.

    Not ru_maxrss: that counts pages of the feature files too, which all workers share and which the
    kernel takes back when it needs them.
    """
    most = _own_memory()

    def look() -> None:
        nonlocal most
        while True:
            most = max(most, _own_memory())
            time.sleep(SAMPLE_SECONDS)

    threading.Thread(target=look, daemon=True).start()
    return lambda: most


def _own_memory() -> int:
    status = Path("/proc/self/status")
    if not status.exists():  # macOS, where ru_maxrss is in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return sum(int(said[key].split()[0]) * 1024 for key in ("RssAnon", "RssShmem"))
