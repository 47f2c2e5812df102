"""Processes that a benchmark starts: what they cost, and functions that need a fresh one."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
PROGRAM = str(Path(sys.executable).parent / "ser")  # of this environment


@dataclass(frozen=True)
class Cost:
    """The cost of a process: seconds, CPU seconds, and the most memory it had."""

    wall: float
    cpu: float
    gb: float
    fit: float = 0.0  # of the wall time, the bare fit
    fit_cpu: float = 0.0


def measured(
    command: Sequence[str], checkout: Path | None = None, folder: Path | None = None
) -> tuple[Cost, str]:
    """Run a process of the code in `checkout`, by default here; return its cost and its output.

    It runs in `folder`. Its bytecode is kept, as where ser is installed, even if the environment
    says otherwise.
    """
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str((checkout or Path()).absolute())}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6), printed


def in_fresh_process(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a process of its own, whose memory is not that of this one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def memory_mb(key: str, pid: int | str = "self") -> float:
    """Return the resident memory of a process in MB: VmRSS, or VmHWM, the highest so far.

    VmHWM is reset for a new program; `ru_maxrss` begins with that of the parent.
    """
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition(f"{key}:")[2].split()[0]) / 1000
