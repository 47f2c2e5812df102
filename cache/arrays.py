"""Arrays that others made: HDF5, NumPy, PyTorch and safetensors files, by utterance.

Nothing is read until it is asked for, and nothing is ever unpickled.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import h5py
import numpy as np

from cache.files import fingerprint, hash64
from cache.precision import Encoded
from cache.shard import checksum
from corpus.errors import UserError

FORMAT = "ser-features-hdf5/1"
SUFFIXES = (".npy", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class Array:
    """Hold one array to import; only a file of ours says the `source`."""

    file: Path
    stat: int
    read: Callable[[], Any]
    source: int | None = None


def load(array: Array) -> np.ndarray:
    """Read one array, `(frames, …)` float16 or float32; raises `ValueError` for an unusable one."""
    try:
        frames = np.asarray(array.read())
    except Exception as error:  # every library has its own errors for a damaged file
        raise ValueError(f"not readable ({short(error)})") from error
    if frames.dtype.kind not in "fiu":
        raise ValueError(f"it holds {frames.dtype}, not numbers")
    if frames.ndim not in (1, 2, 3) or not frames.size:
        raise ValueError(f"its shape {frames.shape} is not (frames, dim) with one frame or more")
    if frames.dtype not in (np.float16, np.float32):
        with np.errstate(over="ignore"):  # infinite then, and refused
            frames = frames.astype(np.float32)
    return frames[None] if frames.ndim == 1 else frames


@contextmanager
def opened(source: Path) -> Iterator[tuple[dict[str, Array], Any]]:
    """Yield the arrays by utterance, and the (spec, about, precision) that a file of ours says."""
    if source.is_dir():
        yield _in_folder(source), None
        return
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise UserError(
            f"{source}: it is no folder and no HDF5 file ({short(error)}); give one of these."
        ) from error
    with file:
        try:
            content = _in_hdf5(source, file)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise UserError(f"{source}: not usable ({short(error)}); export it again.") from error
        yield content


def _in_hdf5(source: Path, file: h5py.File) -> tuple[dict[str, Array], Any]:
    said = str(file.attrs.get("format", ""))
    if said.startswith("ser-") and said != FORMAT:
        raise ValueError(f"its format is '{said}', not '{FORMAT}'")
    paths: list[str] = []
    file.visititems(lambda path, x: paths.append(path) if isinstance(x, h5py.Dataset) else None)
    if said != FORMAT:
        stat = _stat(source)
        return {p: Array(source, stat, partial(_read_hdf5, file, p)) for p in paths}, None
    spec, about = (json.loads(file.attrs[key]) for key in ("spec", "about"))
    if fingerprint(spec) != file.attrs["fingerprint"]:
        raise ValueError("its spec and its fingerprint do not agree")
    arrays = {}
    for path in paths:
        stat, content, crc = map(int, file[path].attrs["ser"])
        arrays[unquote(path)] = Array(source, stat, partial(_read_hdf5, file, path, crc), content)
    return arrays, (spec, about, file.attrs["precision"])


def _in_folder(source: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for file in sorted(source.rglob("*")):
        if file.suffix not in SUFFIXES or not file.is_file():
            continue
        read = partial(np.load, allow_pickle=False) if file.suffix == ".npy" else _read_torch
        found: dict[str, Callable[[], Any]]
        found = {file.relative_to(source).with_suffix("").as_posix(): partial(read, file)}
        if file.suffix == ".safetensors":
            keys = _safetensors_keys(file)
            ids = keys if len(keys) > 1 else found
            found = {u: partial(_read_safetensors, file, k) for u, k in zip(ids, keys, strict=True)}
        for utterance in sorted(found.keys() & arrays.keys()):
            other = arrays[utterance].file
            raise UserError(f"{file}: utterance '{utterance}' is in {other} too; keep one.")
        arrays |= {u: Array(file, _stat(file), read) for u, read in found.items()}
    return arrays


def _safetensors_keys(file: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            return list(tensors.keys()) or [""]
    except (SafetensorError, OSError):
        return [""]  # what is wrong is said when it is read


def _read_hdf5(file: h5py.File, path: str, crc: int | None = None) -> Any:
    frames = file[path][()]
    if crc is not None and checksum(Encoded(frames)) != crc:
        raise ValueError("the crc32c of the frames differs")
    return frames


def _read_safetensors(file: Path, key: str) -> Any:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:  # numpy has no bfloat16
        return _numpy(tensors.get_tensor(key))


def _read_torch(file: Path) -> Any:
    import torch

    loaded = torch.load(file, map_location="cpu", weights_only=True)
    held = loaded.values() if isinstance(loaded, dict) else [loaded]
    tensors = [x for x in held if isinstance(x, torch.Tensor)]
    if len(tensors) != 1:
        raise ValueError(f"it holds {len(tensors)} tensors, not one")
    return _numpy(tensors[0])


def _numpy(tensor: Any) -> Any:
    known = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
    return known.numpy(force=True)


def _stat(file: Path) -> int:
    stat = file.stat()
    return hash64(repr((stat.st_size, stat.st_mtime_ns)).encode())


def short(error: Exception) -> str:
    """Return the first sentence of what a library says."""
    return next(iter(str(error).splitlines()), type(error).__name__).split(". ")[0]
