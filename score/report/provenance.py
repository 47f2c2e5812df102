"""The machine and the package versions that a run was made with.

Read from the operating system and the packages' metadata, so nothing heavy is imported.
"""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ser.version import __version__

PACKAGES = ("numpy", "polars", "scikit-learn", "lightgbm", "torch", "transformers")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the version of Python, of ser and of every package that is installed."""
    installed = {"python": platform.python_version(), "ser": __version__}
    for package in packages:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def machine() -> dict[str, Any]:
    """Return platform, cpu, cores, memory_gb and gpu (names); None for what is unknown."""
    names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
    memory = None
    if "SC_PHYS_PAGES" in names:
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return {
        "platform": platform.platform(),
        "cpu": _named(Path("/proc/cpuinfo"), "model name") or platform.processor() or None,
        "cores": os.cpu_count(),
        "memory_gb": memory,
        "gpu": _gpus(Path("/proc/driver/nvidia/gpus")),
    }


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
