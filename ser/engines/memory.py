"""How many heads fit into memory at a time, and what a process of one takes."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ser.corpus.errors import plural
from ser.corpus.machine import private_memory
from ser.engines.workers import Environment, Send, Task, environments, run_tasks
from ser.extract.devices import device_type

SHARE = 0.8  # of the free memory, for workers
CUDA_CONTEXT = 512 << 20  # bytes of a GPU that a process has beside PyTorch's, at most
SAMPLE_SECONDS = 0.05
FREE = "ser.engines.memory:free_gpu_memory"  # the body of a task


@dataclass
class MemoryBudget:
    """The number of workers that heads, cores and memory allow; 1 until one has been measured.

    `limit` is what heads and cores allow. Memory is in bytes: `free` before there were workers (0
    where that is not known), `gpus` that of each GPU by its name.
    """

    limit: int
    free: int
    gpus: Mapping[str, int] = field(default_factory=dict)
    jobs: int = field(default=1, init=False)
    _peak: int = field(default=0, init=False)
    _gpu_peak: int = field(default=0, init=False)

    def slots(self) -> list[Environment]:
        """Return the environment of each worker that may run now."""
        share = self.jobs if self._peak else self.limit  # of the cores
        return environments(share, self._places() or list(self.gpus))[: self.jobs]

    def measure(self, peak: int, gpu_peak: int) -> str:
        """Count a worker's peak memory; return the new number of workers and why, if it changed."""
        if peak <= self._peak and gpu_peak <= self._gpu_peak:
            return ""
        before = self.jobs if self._peak else 0
        self._peak, self._gpu_peak = max(peak, self._peak), max(gpu_peak, self._gpu_peak)
        limits = self._limits()
        self.jobs = max(1, min(count for count, _ in limits))
        if self.jobs == before:
            return ""
        reasons = ", ".join(f"{count} by {reason}" for count, reason in limits)
        return f"training {plural(self.jobs, 'head')} at a time (limits: {reasons})"

    def _limits(self) -> list[tuple[int, str]]:
        """Return how many workers each resource allows, and which one it is."""
        limits = [(self.limit, "heads and cores")]
        if self.free:
            sizes = f"{self._peak / 1e9:.2f} GB each, {self.free / 1e9:.1f} GB free"
            limits.append((int(SHARE * self.free / self._peak), f"memory ({sizes})"))
        if self.gpus:
            reason = f"GPU memory ({self._gpu_peak / 1e9:.2f} GB each)"
            limits.append((len(self._places()), reason))
        return limits

    def _places(self) -> list[str]:
        """Name the GPU of each worker that fits, in turn."""
        peak = self._gpu_peak + CUDA_CONTEXT
        fits = {gpu: int(SHARE * free / peak) for gpu, free in self.gpus.items()}
        turns = range(max(fits.values(), default=0))
        return [gpu for turn in turns for gpu in fits if fits[gpu] > turn]


def free_gpu_memory(_send: Send) -> tuple[str, int]:
    """Return the name and the free bytes of the GPU of this worker: the query takes memory."""
    import torch

    return os.environ["CUDA_VISIBLE_DEVICES"], torch.cuda.mem_get_info()[0]


def free_on(gpus: Sequence[str], body: str = FREE) -> dict[str, int]:
    """Return the free bytes of each of these GPUs; a process of each, as one may see one only."""
    tasks = [Task(f"GPU {gpu}", body, []) for gpu in gpus]
    slots = environments(len(gpus), gpus)
    free: dict[str, int] = {}
    for answer in run_tasks(tasks, lambda: slots):
        if answer.kind == "done":
            free |= dict([answer.content])
        elif answer.kind not in {"event", "lost"}:
            raise RuntimeError(f"the memory of {answer.task.name}: {answer.content}")
    return {gpu: free[gpu] for gpu in gpus if gpu in free}


def gpu_peak(device: str) -> int:
    """Return the most bytes of its GPU that this process has had reserved, 0 on a CPU."""
    if device_type(device) != "cuda":
        return 0
    import torch

    return int(torch.cuda.max_memory_reserved())  # allocated and cached


def watch_memory() -> Callable[[], int]:
    """Return a function that returns this process's peak private memory so far, in bytes."""
    peak = private_memory()

    def sample() -> None:
        nonlocal peak
        while True:
            peak = max(peak, private_memory())
            time.sleep(SAMPLE_SECONDS)

    threading.Thread(target=sample, daemon=True).start()
    return lambda: peak
