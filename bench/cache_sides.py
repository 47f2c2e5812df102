"""The sides of `bench.cache`: each way of storing frames, as a competent user would write it.

Every reader gives the same plan as padded float32 batches `(batch, frames, dim)`; opening is
separate from reading, so that both can be timed. Before anything is timed, `check` compares a batch
with what was written: no side is fast because it is wrong.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ser.cache.features import FeatureCache
from ser.cache.precision import Precision, encode
from ser.cache.reader import BatchReader, FeatureInput, bucket
from ser.cache.shard import checksum

if TYPE_CHECKING:
    import torch

BATCH = 64
LONGEST = 1_000  # frames: 20 s
Plan = list[list[str]]
Epoch = Callable[[], "Iterable[torch.Tensor]"]


@dataclass(frozen=True)
class Corpus:
    """Utterances whose frames `(frames, dim)` float32 are slices of one shared array."""

    lengths: np.ndarray
    pool: np.ndarray

    @classmethod
    def msp_like(cls, count: int, dim: int) -> "Corpus":
        """Draw lengths like those of MSP-Podcast, 50 frames/s."""
        rng = np.random.default_rng(0)
        seconds = msp_seconds(count, rng)
        pool = rng.standard_normal((4 * LONGEST, dim), np.float32)
        return cls((seconds * 50).astype(np.int64), pool)

    @property
    def names(self) -> list[str]:
        return [f"MSP-PODCAST_{i // 100:04d}_{i % 100:04d}" for i in range(len(self.lengths))]

    @property
    def dim(self) -> int:
        return int(self.pool.shape[1])

    def frames(self, i: int) -> np.ndarray:
        start = i * 37 % (3 * LONGEST)
        return self.pool[start : start + self.lengths[i]]

    def first(self, count: int) -> "Corpus":
        return Corpus(self.lengths[:count], self.pool)

    def plan(self) -> list[list[str]]:
        """Return one epoch: every utterance once, random batches of similar length."""
        rng = np.random.default_rng(1)
        order = rng.permutation(len(self.lengths))
        names = self.names
        return [[names[i] for i in batch] for batch in bucket(order, self.lengths, BATCH, rng)]


def msp_seconds(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the seconds of clips like those of MSP-Podcast: lognormal, mean 5.7 s, 2-20 s."""
    seconds: np.ndarray = np.clip(rng.lognormal(np.log(5.7) - 0.18, 0.6, count), 2, 20)
    return seconds


@dataclass(frozen=True)
class Reader:
    """A side that opens its files once and then yields an epoch of batches at each call."""

    name: str
    files: Path  # the folder, or the file, that it reads
    open: Callable[[], AbstractContextManager[Epoch]]
    stored: str = "float16"


def write_pt(corpus: Corpus, folder: Path, dtype: str) -> None:
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(corpus.names):
        torch.save(
            torch.from_numpy(corpus.frames(i)).to(getattr(torch, dtype)), folder / f"{name}.pt"
        )


def write_hdf5(corpus: Corpus, file: Path) -> None:
    import h5py
    import torch

    with h5py.File(file, "w", libver="latest") as out:
        for i, name in enumerate(corpus.names):  # torch's cast is several times faster than numpy's
            out.create_dataset(name, data=torch.from_numpy(corpus.frames(i)).half().numpy())


def write_ours(corpus: Corpus, root: Path, precision: Precision = "float16") -> Path:
    cache = FeatureCache.create(root, "x", {}, {"item_shape": [corpus.dim], "frame_rate": 50.0})
    with cache.writer(precision=precision) as writer:
        for i, name in enumerate(corpus.names):
            writer.append(name, corpus.frames(i), 1, 2)
    return cache.path


def write_bare(corpus: Corpus, file: Path) -> None:
    """Cast and write the bytes that ours has as float16, and nothing else."""
    import torch

    with file.open("wb", buffering=0) as out:
        for i in range(len(corpus.lengths)):
            out.write(torch.from_numpy(corpus.frames(i)).half().numpy().data.cast("B"))


def write_guarded(corpus: Corpus, file: Path) -> None:
    """Write the same bytes with what ours promises: finite, with a crc32c, and on the disk."""
    with file.open("wb", buffering=0) as out:
        for i in range(len(corpus.lengths)):
            encoded = encode(corpus.frames(i), "float16")
            checksum(encoded)
            out.write(encoded.data.data.cast("B"))
        os.fsync(out.fileno())


def padded(frames: "Sequence[torch.Tensor]") -> "torch.Tensor":
    """Return a fresh padded float32 batch.

    For float32 it takes as long as torch's `pad_sequence`; for float16 half as long as
    `pad_sequence` with a cast before or after.
    """
    import torch

    out = torch.zeros(len(frames), max(map(len, frames)), frames[0].shape[1])
    for row, x in zip(out, frames, strict=True):
        row[: len(x)].copy_(x)
    return out


@dataclass(frozen=True)
class PtFiles:
    """A map-style dataset of one `.pt` an utterance."""

    folder: Path

    def __getitem__(self, name: str) -> "torch.Tensor":
        import torch

        frames: torch.Tensor = torch.load(self.folder / f"{name}.pt", weights_only=True)
        return frames


@contextmanager
def read_pt(folder: Path, plan: Plan, workers: int) -> Iterator[Epoch]:
    from torch.utils.data import DataLoader

    loader: DataLoader[object] = DataLoader(
        PtFiles(folder),  # type: ignore[arg-type]  # anything with __getitem__ is a dataset
        batch_sampler=plan,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=padded,
    )
    yield lambda: loader


@contextmanager
def read_hdf5(file: Path, plan: Plan) -> Iterator[Epoch]:
    import h5py
    import torch

    with h5py.File(file, "r") as source:

        def one(name: str) -> torch.Tensor:
            return torch.from_numpy(source[name][()])

        yield lambda: (padded([one(name) for name in names]) for names in plan)


@contextmanager
def read_zarr(path: Path, plan: Plan) -> Iterator[Epoch]:
    """Read our own store as a user of zarr-python would without our package."""
    import torch
    import zarr

    places: dict[str, tuple[Any, int, int]] = {}
    shard: Any
    for _, shard in zarr.open_group(path / "data.zarr", mode="r").groups():
        frames = shard["frames"]
        columns = (shard[name][:] for name in ("utterance", "row", "length"))
        for text, row, length in zip(*columns, strict=True):
            places[bytes(text).rstrip(b"\0").decode()] = (frames, int(row), int(length))

    def one(name: str) -> torch.Tensor:
        frames, row, length = places[name]
        return torch.from_numpy(frames[row : row + length])

    yield lambda: (padded([one(name) for name in names]) for names in plan)


@contextmanager
def read_ours(path: Path, plan: Plan, threads: int, check: bool = False) -> Iterator[Epoch]:
    reader = BatchReader({"x": FeatureInput(FeatureCache(path))}, threads=threads, check=check)
    yield lambda: (batch.frames["x"] for batch in reader.batches(plan))


def copy_limit(corpus: Corpus, plan: Plan, cast: bool) -> Callable[[], object]:
    """Return one epoch of copies from memory to memory, one thread: nothing reads faster.

    With `cast`, float16 frames are cast into a padded buffer and the rest is zeroed; without, as
    many bytes as the padded batch has are copied.
    """
    import torch

    lengths = dict(zip(corpus.names, corpus.lengths.tolist(), strict=True))
    shapes = [(len(names), max(lengths[name] for name in names), corpus.dim) for names in plan]
    sizes = [math.prod(shape) for shape in shapes]
    source, buffer = torch.ones(max(sizes)), torch.zeros(max(sizes))
    if not cast:
        return lambda: [buffer[:size].copy_(source[:size]) for size in sizes]
    half = {name: torch.from_numpy(corpus.frames(i)).half() for i, name in enumerate(corpus.names)}

    def cast_copy() -> None:
        for names, shape, size in zip(plan, shapes, sizes, strict=True):
            for row, name in zip(buffer[:size].view(shape), names, strict=True):
                row[: lengths[name]].copy_(half[name])
                row[lengths[name] :].zero_()

    return cast_copy


def check(reader: Reader, epoch: Epoch, corpus: Corpus, plan: Plan) -> None:
    """Read one epoch; raises `AssertionError` when its first batch is not what was written."""
    import torch

    batches = iter(epoch())
    first = next(batches).clone()  # a reader may use the memory again
    count = 1 + sum(1 for _ in batches)
    position = {name: i for i, name in enumerate(corpus.names)}
    dtype = torch.float32 if reader.stored == "float32" else torch.float16
    frames = [torch.from_numpy(corpus.frames(position[name])).to(dtype) for name in plan[0]]
    wanted = padded(frames)
    same = first.shape == wanted.shape and count == len(plan)
    error = float((first - wanted).norm() / wanted.norm()) if same else 1.0
    if error > (0.02 if reader.stored == "int8" else 0.0):
        raise AssertionError(f"{reader.name}: not the values that were written (error {error})")
