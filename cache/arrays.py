"""Arrays that others made: HDF5, NumPy, PyTorch and safetensors files, by utterance.

Each array is read when it is needed, and nothing is ever unpickled.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args
from urllib.parse import unquote

import h5py
import numpy as np

from ser.cache.files import fingerprint, hash64
from ser.cache.precision import Encoded, Precision
from ser.cache.shard import checksum
from ser.cache.zarr_nodes import is_zarr
from ser.corpus.errors import UserError, first_line

if TYPE_CHECKING:
    import torch

FORMAT = "ser-features-hdf5/1"
SUFFIXES = (".npy", ".pt", ".pth", ".safetensors")
# the usual names of the arrays in a group that has one array for all utterances
FRAMES = ("frames", "features", "embeddings", "data", "values")
IDS = ("utterance", "utterances", "ids", "id", "keys", "names")


@dataclass(frozen=True)
class Array:
    """One array to import; the `content_hash` is only known for an export of ours."""

    file: Path
    stat_hash: int
    read: Callable[[], object]
    content_hash: int | None = None


@dataclass(frozen=True)
class ArrayNames:
    """The names of the arrays in a Zarr group that has one array for all utterances.

    Those that are None are found by their usual names, as "frames", "lengths", "offsets", "ids".
    """

    frames: str | None = None
    lengths: str | None = None
    offsets: str | None = None
    ids: str | None = None


USUAL_NAMES = ArrayNames()


class Origin(NamedTuple):
    """What an export states of its cache, so that it is imported as the same cache."""

    spec: dict[str, object]
    about: dict[str, object]
    precision: Precision


def origin_of(attributes: Mapping[str, object], form: str) -> Origin | None:
    """Return what an export of ours states of its cache, None for what others wrote.

    Raises `ValueError` for another format than `form`, and for damaged attributes.
    """
    stated = str(attributes.get("format", ""))
    if not stated.startswith("ser-"):
        return None
    if stated != form:
        raise ValueError(f"its format is '{stated}', not '{form}'")
    spec, about, precision = (attributes.get(key) for key in ("spec", "about", "precision"))
    if not isinstance(spec, dict) or fingerprint(spec) != attributes.get("fingerprint"):
        raise ValueError("its spec and its fingerprint do not agree")
    if not isinstance(about, dict) or precision not in get_args(Precision):
        raise ValueError("its attributes are damaged")
    return Origin(spec, about, cast(Precision, precision))


def load(array: Array) -> np.ndarray:
    """Read one array, `(frames, …)` float16 or float32; `(dim,)` is one frame.

    Raises `ValueError` for one that cannot be used.
    """
    try:
        frames = np.asarray(array.read())
    except Exception as error:  # every library has its own errors for a damaged file
        raise ValueError(f"not readable ({first_line(error)})") from error
    if frames.dtype.kind not in "fiu":
        raise ValueError(f"it holds {frames.dtype}, not numbers")
    if frames.ndim not in (1, 2, 3) or not frames.size:
        raise ValueError(
            f"its shape {frames.shape} is not (frames, dim) with one frame or more, or (dim,)"
        )
    if frames.dtype not in (np.float16, np.float32):
        with np.errstate(over="ignore"):  # infinite then, and refused
            frames = frames.astype(np.float32)
    return frames[None] if frames.ndim == 1 else frames


@contextmanager
def opened(
    source: Path, names: ArrayNames = USUAL_NAMES
) -> Iterator[tuple[dict[str, Array], Origin | None]]:
    """Yield the arrays by utterance, and the origin of an export of ours."""
    if is_zarr(source):
        from ser.cache.zarr_import import arrays_in_zarr

        yield arrays_in_zarr(source, names)
        return
    if names != USUAL_NAMES:
        raise UserError(
            f"{source}: it is not a Zarr store, so names of arrays cannot be given; leave them out."
        )
    if source.is_dir():
        yield _in_folder(source), None
        return
    if not source.exists():
        raise UserError(f"{source}: there is no such file or folder; check the name.")
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise UserError(
            f"{source}: not a folder of arrays, a Zarr store or an HDF5 file "
            f"({first_line(error)}); give one of these."
        ) from error
    with file:
        try:
            content = _in_hdf5(source, file)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise UserError(
                f"{source}: not usable ({first_line(error)}); export it again."
            ) from error
        yield content


def _in_hdf5(source: Path, file: h5py.File) -> tuple[dict[str, Array], Origin | None]:
    attributes = dict(file.attrs)
    for key in ("spec", "about"):
        if isinstance(text := attributes.get(key), str):
            attributes[key] = json.loads(text)
    origin = origin_of(attributes, FORMAT)
    paths: list[str] = []
    file.visititems(lambda path, x: paths.append(path) if isinstance(x, h5py.Dataset) else None)
    if origin is None:
        _refuse_one_array_for_all(source, paths)
        stat_hash = _stat_hash(source)
        arrays = {p: Array(source, stat_hash, partial(_read_hdf5, file, p)) for p in sorted(paths)}
        return arrays, None
    datasets = cast("Mapping[str, Any]", file)
    arrays = {}
    for path in paths:
        stat_hash, content, crc = map(int, datasets[path].attrs["ser"])
        arrays[unquote(path)] = Array(
            source, stat_hash, partial(_read_hdf5, file, path, crc), content
        )
    return dict(sorted(arrays.items())), origin


def _refuse_one_array_for_all(source: Path, paths: Sequence[str]) -> None:
    """Raise `UserError` for a group with an array of frames beside one of ids."""
    names: dict[str, list[str]] = {}
    for path in paths:
        names.setdefault(path.rpartition("/")[0], []).append(path.rpartition("/")[2])
    for group, inner in names.items():
        frames, ids = (next((n for n in usual if n in inner), None) for usual in (FRAMES, IDS))
        if frames and ids:
            raise UserError(
                f"{source / group}: '{frames}' beside '{ids}' is one array for all utterances, "
                "which is read from Zarr stores only; write a dataset for each utterance."
            )


def _in_folder(source: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for file in sorted(source.rglob("*")):
        if file.suffix not in SUFFIXES or not file.is_file():
            continue
        name = file.relative_to(source).with_suffix("").as_posix()
        for utterance, read in sorted(_readers(file, name).items()):
            if other := arrays.get(utterance):
                raise UserError(
                    f"{file}: utterance '{utterance}' is in {other.file} too; keep one."
                )
            arrays[utterance] = Array(file, _stat_hash(file), read)
    return dict(sorted(arrays.items()))


def _readers(file: Path, name: str) -> dict[str, Callable[[], object]]:
    """Return a function that reads each array, by utterance: `name` where there is only one."""
    if file.suffix == ".npy":
        return {name: partial(np.load, file, allow_pickle=False)}
    if file.suffix != ".safetensors":
        return {name: partial(_read_torch, file)}
    from safetensors import SafetensorError, safe_open

    keys = [""]  # of a damaged file: the error is reported when the tensor is read
    with suppress(SafetensorError, OSError), safe_open(file, framework="pt") as tensors:
        keys = list(tensors.keys()) or keys
    return {key if len(keys) > 1 else name: partial(_read_safetensors, file, key) for key in keys}


def _read_hdf5(file: Mapping[str, Any], path: str, crc: int | None = None) -> object:
    frames = file[path][()]
    if crc is not None and checksum(Encoded(frames)) != crc:
        raise ValueError("the crc32c of the frames differs")
    return frames


def _read_safetensors(file: Path, key: str) -> object:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:  # numpy has no bfloat16
        return _numpy(tensors.get_tensor(key))


def _read_torch(file: Path) -> object:
    import torch

    loaded = torch.load(file, map_location="cpu", weights_only=True)
    values = loaded.values() if isinstance(loaded, dict) else [loaded]
    tensors = [x for x in values if isinstance(x, torch.Tensor)]
    if len(tensors) != 1:
        raise ValueError(f"it holds {len(tensors)} tensors, not one")
    return _numpy(tensors[0])


def _numpy(tensor: "torch.Tensor") -> object:
    readable = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
    return readable.numpy(force=True)


def _stat_hash(file: Path) -> int:
    stat = file.stat()
    return hash64(repr((stat.st_size, stat.st_mtime_ns)).encode())
