"""The GPUs of this machine and the parts of them (MIG), named as CUDA_VISIBLE_DEVICES takes them.

A process of CUDA sees one part of a divided GPU at most, and its numbers depend on CUDA's order. So
each worker is given one device by its UUID, as `nvidia-smi -L` lists them.
"""

import os
import re
import subprocess

from ser.corpus.errors import UserError

COMMAND = ("nvidia-smi", "-L")
UUID = re.compile(r"\(UUID: ((?:GPU|MIG)-[^)\s]+)\)")
SECONDS = 30.0  # for the driver to answer


def gpus_of(device: str) -> list[str]:
    """Name the GPUs of a device for CUDA_VISIBLE_DEVICES: all of `cuda`, one of `cuda:1`.

    A device of another type has none. Raises `UserError` for a GPU that is not visible.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return []
    gpus = _visible()
    if not gpus:
        raise UserError(f"--device {device}: no GPU is visible; use `--device cpu`.")
    if index and int(index) >= len(gpus):
        raise UserError(
            f"--device {device}: there is no such GPU; the last one is cuda:{len(gpus) - 1}."
        )
    return [gpus[int(index)]] if index else gpus


def _visible() -> list[str]:
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        given = [name.strip() for name in visible.split(",")]
        parts = [name for name in given if name.startswith("MIG-")]
        # PyTorch counts one part, whatever the variable names
        return list(dict.fromkeys(parts)) if parts else given[:count]
    gpus = uuids(list_gpus()) if count else []
    # another number of whole GPUs: the driver lists some that PyTorch cannot use
    whole = all(gpu.startswith("GPU-") for gpu in gpus)
    return gpus if gpus and not (whole and len(gpus) != count) else [str(i) for i in range(count)]


def list_gpus() -> str:
    """Return what `nvidia-smi -L` prints, nothing where there is no such command."""
    try:
        return subprocess.run(
            COMMAND, capture_output=True, text=True, timeout=SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def uuids(listed: str) -> list[str]:
    """Return the UUIDs in a list by `nvidia-smi -L`, of a divided GPU those of its parts.

    Example:
        >>> uuids("GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c)")
        ['GPU-5d5ba0d6-d33d-2b2c']
    """
    names: list[str] = []
    for name in UUID.findall(listed):
        if name.startswith("MIG-") and names and names[-1].startswith("GPU-"):
            names.pop()  # the GPU that this is the first part of
        names.append(name)
    return names
