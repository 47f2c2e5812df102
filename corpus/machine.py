"""The machine: its processor, memory, GPUs and threads, and the versions of the packages on it.

Every command imports this module, so what takes time is imported where it is used.
"""

import os
import platform
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ser.version import __version__

PACKAGES = ("numpy", "polars", "scikit-learn", "lightgbm", "torch", "transformers")
FEW = 4  # cores
_limited = False


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the version of Python, of ser and of every package that is installed."""
    from importlib.metadata import PackageNotFoundError, version

    installed = {"python": platform.python_version(), "ser": __version__}
    for package in packages:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def machine() -> dict[str, Any]:
    """Return platform, cpu, cores, memory_gb and gpu (names); None for what is unknown."""
    import psutil

    return {
        "platform": platform.platform(),
        "cpu": _named(Path("/proc/cpuinfo"), "model name") or platform.processor() or None,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": _gpus(Path("/proc/driver/nvidia/gpus")),
    }


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_threads() -> None:
    """Give each call of a library one thread where there are few cores, unless it is set already.

    torch, CTranslate2 and LightGBM read OMP_NUM_THREADS when they load. On two cores a second
    thread made a training step 16 times slower and an encoder 3 times.
    """
    global _limited  # noqa: PLW0603
    if cores() <= FEW and "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"
        _limited = True


def idle_cores() -> int:
    """Return how many cores one call leaves idle because of `limit_threads`."""
    return cores() - 1 if _limited else 0


def available_memory() -> int:
    """Return the bytes that are free without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


def private_memory() -> int:
    """Return the bytes of resident memory of this process that it does not share.

    Pages of the feature files are not counted: all workers share them, and the kernel takes them
    back when it needs them. macOS does not report what is shared, so there all is counted.
    """
    import psutil

    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))


def peak_memory() -> int:
    """Return the highest resident memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _gpus(folder: Path) -> str | None:
    """Read the names that NVIDIA's driver gives; GPUs of other makers are not listed."""
    names = [_named(file, "Model") for file in sorted(folder.glob("*/information"))]
    return ", ".join(filter(None, names)) or None


def _named(file: Path, key: str) -> str | None:
    """Return the value of the first `key : value` line of a file."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return None
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == key), None)
