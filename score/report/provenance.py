"""What a run was made on and with: the machine, and the versions of what computes.

Asked of the operating system and of the packages' metadata, so nothing heavy is imported.
"""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("ser", "numpy", "polars", "scikit-learn", "lightgbm", "torch", "transformers")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the version of Python and of every package that is installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return platform, cpu, cores, memory_gb and gpu (names); null is what cannot be known."""
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
    """Read the names that NVIDIA's driver gives; other makers' GPUs are not told."""
    named = [_named(file, "Model") for file in sorted(folder.glob("*/information"))]
    return ", ".join(filter(None, named)) or None


def _named(file: Path, key: str) -> str | None:
    """Return the value of the first `key : value` line of a file."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return None
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for found, _, value in pairs if found.strip() == key), None)
