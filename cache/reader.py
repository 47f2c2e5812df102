"""Padded batches of several features at once, straight from mapped shards.

For a batch the rows are sorted by (shard, row), the kernel is told to read them ahead, and each
utterance is copied once, cast to float32 in the same pass, into a padded buffer that is used again.
A ring of threads stays ahead of the caller. There are no worker processes: the copy releases the
interpreter lock, and a mapped file needs no pickling.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cache.features import FeatureCache

if TYPE_CHECKING:
    import torch

POOL_BATCHES = 32  # batches that are sorted by length together


@dataclass(frozen=True)
class Column:
    """Name one feature to read, and how: `stride` k gives the mean of every k frames."""

    cache: FeatureCache
    stride: int = 1

    def lengths(self, utterances: Sequence[str]) -> np.ndarray:
        """Return the frames of each utterance after the stride: int64 `(utterances,)`."""
        return -(-self.cache.lengths(utterances) // self.stride)


@dataclass(frozen=True)
class Batch:
    """Hold utterances and, per feature, frames `(batch, frames, *item_shape)` float32 and lengths.

    Frames beyond an utterance's length are zero. The buffers are used again: a batch is valid until
    the next one is asked for.
    """

    utterances: list[str]
    frames: "dict[str, torch.Tensor]"
    lengths: "dict[str, torch.Tensor]"


class Buffers:
    """Hold one batch's memory, grown when needed, pinned where a GPU will fetch it."""

    def __init__(self, pin: bool) -> None:
        self.pin = pin
        self._flat: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> "torch.Tensor":
        """Return a float32 view of this shape, contents undefined."""
        import torch

        size = int(np.prod(shape))
        if name not in self._flat or self._flat[name].numel() < size:
            self._flat[name] = torch.empty(size, dtype=torch.float32, pin_memory=self.pin)
        return self._flat[name][:size].view(shape)


def load_batch(
    columns: Mapping[str, Column], utterances: Sequence[str], buffers: Buffers | None = None
) -> Batch:
    """Read one batch; every feature is aligned by utterance id."""
    import torch

    buffers = buffers or Buffers(pin=False)
    frames, lengths = {}, {}
    for name, column in columns.items():
        count = column.lengths(utterances)
        shape = (len(utterances), int(count.max()), *column.cache.item_shape)
        frames[name] = buffers.take(name, shape)
        lengths[name] = torch.from_numpy(count)
        _fill(frames[name], column, utterances)
    return Batch(list(utterances), frames, lengths)


def _fill(out: "torch.Tensor", column: Column, utterances: Sequence[str]) -> None:
    import torch

    snapshot = column.cache.snapshot()
    places = sorted((*snapshot[u][:3], i) for i, u in enumerate(utterances))
    for shard, row, length, _ in places:
        column.cache.shard(shard).will_need(row, length)
    for shard, row, length, i in places:
        view = column.cache.shard(shard).frames[row : row + length]
        source = torch.from_numpy(view)
        if column.stride == 1:
            out[i, :length].copy_(source)
            out[i, length:].zero_()
        else:
            strided = _mean_of(source, column.stride)
            out[i, : len(strided)].copy_(strided)
            out[i, len(strided) :].zero_()


def _mean_of(frames: "torch.Tensor", stride: int) -> "torch.Tensor":
    """Return the mean of every `stride` frames; the last mean may be of fewer."""
    import torch

    whole = len(frames) // stride * stride
    means = [frames[:whole].float().view(-1, stride, *frames.shape[1:]).mean(1)] if whole else []
    if whole < len(frames):
        means.append(frames[whole:].float().mean(0, keepdim=True))
    return torch.cat(means)


class BatchReader:
    """Read batches ahead by `threads` threads, in a ring of buffers that outlives an epoch."""

    def __init__(self, columns: Mapping[str, Column], threads: int = 2, pin: bool = False) -> None:
        self.columns = columns
        self.threads = threads
        self._ring = [Buffers(pin) for _ in range(threads + 1)]

    def batches(self, plan: Sequence[Sequence[str]]) -> Iterator[Batch]:
        """Yield the batches of a plan, in its order; one plan at a time.

        Same plan, same values, whatever the number of threads. Raises `UserError` before the first
        batch when an utterance is not cached.
        """
        everyone = list(dict.fromkeys(u for utterances in plan for u in utterances))
        for column in self.columns.values():
            column.cache.require(everyone)
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[Future[Batch]] = deque()
            for i, utterances in enumerate(plan):
                buffers = self._ring[i % len(self._ring)]
                waiting.append(pool.submit(load_batch, self.columns, utterances, buffers))
                if len(waiting) == len(self._ring):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def bucket(
    order: Sequence[int] | np.ndarray,
    lengths: np.ndarray,
    batch: int,
    rng: np.random.Generator | None,
) -> list[list[int]]:
    """Cut positions into batches of similar length.

    `order` is a sequence of positions (an epoch, drawn by any sampler); pools of
    `POOL_BATCHES * batch` of it are sorted by `lengths[position]`, cut, and the batches shuffled.
    Every element of `order` is in exactly one batch. With `rng` None nothing is shuffled and the
    whole is one pool, for evaluation.
    """
    positions = np.asarray(order, dtype=np.int64)
    pool = POOL_BATCHES * batch if rng is not None else max(len(positions), 1)
    batches: list[list[int]] = []
    for start in range(0, len(positions), pool):
        part = positions[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch].tolist() for i in range(0, len(part), batch)]
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def padded_share(batches: Sequence[Sequence[int]], lengths: np.ndarray) -> float:
    """Return the share of frames in the batches that is padding, 0 to 1."""
    real = sum(int(lengths[np.asarray(b)].sum()) for b in batches)
    total = sum(len(b) * int(lengths[np.asarray(b)].max()) for b in batches)
    return 1 - real / total if total else 0.0
