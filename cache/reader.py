"""Padded batches of several features at once, straight from mapped shards.

For a batch the rows are sorted by (shard, row), the kernel reads them ahead, and each
utterance is copied once, cast to float32 in the same pass, into a padded buffer that is used again.
A ring of threads stays ahead of the caller. There are no worker processes: the copy releases the
interpreter lock, and a mapped file needs no pickling.

A clip is read clean or from a view, an augmented copy that some features have. Where one feature of
a batch has the view but not this clip of it, all are read clean: the features of one clip are never
of different audio. A feature without the view (text: the words stay what they were) is read clean.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from ser.cache.features import FeatureCache
from ser.cache.strides import after_stride, as_layers, read_into, read_shape
from ser.corpus.errors import UserError
from ser.corpus.lookahead import ahead

if TYPE_CHECKING:
    import torch

POOL_BATCHES = 32  # batches that are sorted by length together


class Clip(NamedTuple):
    """An utterance as it is read: clean, or in a view of this name."""

    utterance: str
    view: str = ""


Clips = Sequence[str | Clip]  # an id alone is clean


@dataclass(frozen=True)
class FeatureInput:
    """A feature as a head reads it: `stride` k gives the mean of every k frames.

    `layer` picks one of a feature that was stored with all layers, or several, whose channels are
    put side by side. Raises `UserError` for a layer that does not exist.
    """

    cache: FeatureCache
    stride: int = 1
    layer: int | tuple[int, ...] | None = None
    views: Mapping[str, FeatureCache] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stored = self.cache.item_shape
        layers = stored[0] if len(stored) > 1 else 0
        for layer in self.layers or ():
            if not -layers <= layer < layers:
                stored_layers = f"layers 0 to {layers - 1}" if layers else "one layer"
                raise UserError(
                    f"{self.cache.location}: layer {layer} does not exist: this feature has "
                    f"{stored_layers}; correct `layer:` where a head reads {self.cache.name}."
                )

    @property
    def layers(self) -> list[int] | None:
        """Return the layers that are read, None for whatever is stored."""
        return as_layers(self.layer)

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Return the shape of one frame as it is read: (dim,) or (layers, dim)."""
        return read_shape(self.cache.item_shape, self.layers)

    @cached_property
    def _starts(self) -> dict[str, int]:
        """Where the places of each view start; those of the clean cache start at 0."""
        caches = {"": self.cache, **self.views}
        sizes = (len(cache.snapshot().utterance) for cache in caches.values())
        return dict(zip(caches, accumulate(sizes, initial=0), strict=False))

    def find(self, utterances: Sequence[str], view: str = "") -> np.ndarray:
        """Return the place of each utterance in a view: int64, -1 where it is not cached."""
        rows = (self.views[view] if view else self.cache).snapshot().find(utterances)
        return np.where(rows < 0, rows, rows + self._starts[view])

    def by_cache(self, places: np.ndarray) -> Iterator[tuple[FeatureCache, np.ndarray, np.ndarray]]:
        """Yield each cache that places are in, which of them these are, and their rows in it."""
        starts = list(self._starts.values())
        source = np.searchsorted(starts, places, "right") - 1
        for i, cache in enumerate((self.cache, *self.views.values())):
            if len(at := np.flatnonzero(source == i)):
                yield cache, at, places[at] - starts[i]


def find(features: Mapping[str, FeatureInput], clips: Clips) -> dict[str, np.ndarray]:
    """Return the place of each clip in each feature: int64 `(clips,)`, -1 where it is not cached.

    A clip is in its view only if every feature that has the view holds it.
    """
    utterances = [clip if isinstance(clip, str) else clip.utterance for clip in clips]
    places = {name: feature.find(utterances) for name, feature in features.items()}
    views = np.array(["" if isinstance(clip, str) else clip.view for clip in clips])
    for view in dict.fromkeys(v for feature in features.values() for v in feature.views):
        at = np.flatnonzero(views == view)
        in_view = {
            name: feature.find([utterances[i] for i in at], view)
            for name, feature in features.items()
            if view in feature.views
        }
        held = np.all([rows >= 0 for rows in in_view.values()], axis=0)
        for name, rows in in_view.items():
            places[name][at[held]] = rows[held]
    return places


def require(features: Mapping[str, FeatureInput], clips: Clips) -> dict[str, np.ndarray]:
    """Find every clip; raises `UserError` that counts and names those that are not cached."""
    places = find(features, clips)
    for name, feature in features.items():
        if (places[name] < 0).any():
            names = (clip if isinstance(clip, str) else clip.utterance for clip in clips)
            feature.cache.require(list(dict.fromkeys(names)))
    return places


def lengths_of(features: Mapping[str, FeatureInput], clips: Clips) -> dict[str, np.ndarray]:
    """Return the frames of each clip as each feature is read: int64 `(clips,)`."""
    return {name: _lengths(features[name], at) for name, at in require(features, clips).items()}


def _lengths(feature: FeatureInput, places: np.ndarray) -> np.ndarray:
    stored = np.empty(len(places), np.int64)
    for cache, at, rows in feature.by_cache(places):
        stored[at] = cache.snapshot().length[rows]
    return after_stride(stored, feature.stride)


@dataclass(frozen=True)
class Batch:
    """Utterances and, per feature, frames `(batch, frames, *item_shape)` float32 and lengths.

    Frames beyond an utterance's length are zero. The buffers are reused: a batch is valid until
    the next one is read.
    """

    utterances: list[str]
    frames: "dict[str, torch.Tensor]"
    lengths: "dict[str, torch.Tensor]"


def _fill(out: "torch.Tensor", feature: FeatureInput, places: np.ndarray, check: bool) -> None:
    for cache, at, rows in feature.by_cache(places):
        snapshot = cache.snapshot()
        order = np.lexsort((snapshot.row[rows], snapshot.shard[rows]))
        for row in rows[order]:
            shard = cache.shard(snapshot.shard_names[snapshot.shard[row]])
            shard.will_need(int(snapshot.row[row]), int(snapshot.length[row]))
        for i in order.tolist():
            # select and narrow cost a third of an index expression
            target, encoded = out.select(0, int(at[i])), cache.encoded(int(rows[i]), check)
            read_into(target, encoded, feature.stride, feature.layers)


class BatchReader:
    """A reader of batches: `threads` threads read ahead into a ring of buffers."""

    def __init__(
        self,
        features: Mapping[str, FeatureInput],
        threads: int = 2,
        pin: bool = False,
        check: bool = False,
    ) -> None:
        self.features = features
        self.threads = threads
        self.pin = pin  # where a GPU will fetch the batches
        self.check = check
        self._ring: list[dict[str, torch.Tensor]] = [{} for _ in range(threads + 1)]

    def batches(
        self, plan: Sequence[Clips], missing: Literal["error", "skip"] = "error"
    ) -> Iterator[Batch]:
        """Yield the batches of a plan, in its order; one plan at a time.

        Same plan, same values, whatever the number of threads. Utterances that are not cached raise
        `UserError` before the first batch, or with `missing="skip"` are left out (of `Batch`, which
        names those it holds; a batch of nothing is not yielded). With `check` a damaged utterance
        raises `UserError`.
        """
        names, places = self._resolve(plan, missing)
        self._reserve(places)

        def load(i: int) -> Batch:
            return self._load(names[i], places[i], self._ring[i % len(self._ring)])

        yield from ahead(load, range(len(names)), self.threads, most=self.threads)

    def _load(
        self,
        utterances: list[str],
        places: Mapping[str, np.ndarray],
        buffers: "dict[str, torch.Tensor]",
    ) -> Batch:
        import torch

        frames, lengths = {}, {}
        for name, feature in self.features.items():
            count = _lengths(feature, places[name])
            shape = (len(utterances), int(count.max()), *feature.item_shape)
            frames[name] = self._view(buffers, name, shape)
            lengths[name] = torch.from_numpy(count)
            _fill(frames[name], feature, places[name], self.check)
        return Batch(utterances, frames, lengths)

    def _view(
        self, buffers: "dict[str, torch.Tensor]", name: str, shape: tuple[int, ...]
    ) -> "torch.Tensor":
        """Return a float32 view of this shape, contents undefined; its buffer grows when needed."""
        import torch

        size = int(np.prod(shape))
        if name not in buffers or buffers[name].numel() < size:
            # threads that are not in the caller's inference mode write into it
            with torch.inference_mode(False):
                buffers[name] = torch.empty(size, dtype=torch.float32, pin_memory=self.pin)
        return buffers[name][:size].view(shape)

    def _reserve(self, places: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Let every buffer have room for the largest batch: growing would touch fresh pages."""
        for name, feature in self.features.items():
            rows = (len(batch[name]) * _lengths(feature, batch[name]).max() for batch in places)
            shape = (int(max(rows, default=0)), *feature.item_shape)
            for buffers in self._ring:
                self._view(buffers, name, shape)

    def _resolve(
        self, plan: Sequence[Clips], missing: str
    ) -> tuple[list[list[str]], list[dict[str, np.ndarray]]]:
        """Find every clip of a plan once, which for a whole epoch is much cheaper."""
        flat = [clip for batch in plan for clip in batch]
        places_of = (require if missing == "error" else find)(self.features, flat)
        cached = np.all([rows >= 0 for rows in places_of.values()], axis=0)
        batches, places, start = [], [], 0
        for batch in plan:
            keep = start + np.flatnonzero(cached[start : start + len(batch)])
            start += len(batch)
            if len(keep):
                clips = (flat[i] for i in keep)
                batches.append([c if isinstance(c, str) else c.utterance for c in clips])
                places.append({name: rows[keep] for name, rows in places_of.items()})
        return batches, places


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
