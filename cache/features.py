"""Frame-level features of every utterance: many writers, many readers, one folder.

`FeatureCache.writer()` streams utterances into shards; `FeatureCache.frames()` gives a view of one
utterance; `cache.reader` makes padded batches. See `cache.folder` for the folder and `cache.shard`
for the bytes.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

import google_crc32c
import numpy as np
import polars as pl

from cache.folder import COMMIT_SECONDS, FeatureFolder, new_shard_name, write_durably
from cache.shard import ShardFrames, ShardWriter, read_rows
from corpus.errors import UserError

Precision = Literal["float16", "float32"]
SHARD_BYTES = 256 << 20


class FeatureCache(FeatureFolder):
    """Open one feature's frames; `about["item_shape"]` is (dim,) or (layers, dim)."""

    content: ClassVar[str] = "frames"
    INDEX: ClassVar[pl.Schema] = pl.Schema(
        {
            "utterance": pl.String,
            "row": pl.Int64,
            "length": pl.Int32,
            "crc32c": pl.UInt32,
            "stat": pl.UInt64,
            "source": pl.UInt64,
            "shard": pl.String,
            "created": pl.Int64,
        }
    )

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.item_shape: tuple[int, ...] = tuple(self.about["item_shape"])
        self.dim = self.item_shape[-1]
        self._shards_open: dict[str, ShardFrames] = {}
        self._snapshot: dict[str, tuple[str, int, int, int]] | None = None

    def _shards(self) -> list[str]:
        store = self.path / "data.zarr"
        return [p.name for p in store.iterdir() if p.is_dir()] if store.exists() else []

    def _shard_rows(self, shard: str) -> pl.DataFrame:
        return read_rows(self.path / "data.zarr" / shard, shard).select(self.INDEX.names())

    @contextmanager
    def writer(
        self,
        precision: Precision = "float16",
        shard_bytes: int = SHARD_BYTES,
        shard_seconds: float = COMMIT_SECONDS,
    ) -> Iterator["FeatureWriter"]:
        """Write utterances; what is left is committed on leaving, also after an exception."""
        store = self.path / "data.zarr"
        store.mkdir(exist_ok=True)
        self.staging.mkdir(exist_ok=True)
        self.sweep()
        if not (store / "zarr.json").exists():
            write_durably(store / "zarr.json", '{"zarr_format": 3, "node_type": "group"}')
        writer = FeatureWriter(self, precision, shard_bytes, shard_seconds)
        try:
            yield writer
            writer.commit()
        except BaseException:
            writer.abandon_or_commit()
            raise

    def snapshot(self) -> Mapping[str, tuple[str, int, int, int]]:
        """Return utterance -> (shard, row, length, crc32c), as of the first call."""
        if self._snapshot is None:
            index = self.index()
            columns = (index[c].to_list() for c in ("shard", "row", "length", "crc32c"))
            self._snapshot = dict(
                zip(index["utterance"].to_list(), zip(*columns, strict=True), strict=True)
            )
        return self._snapshot

    def require(self, utterances: Sequence[str]) -> None:
        """Raise `UserError` that counts and names utterances which are not cached."""
        snapshot = self.snapshot()
        absent = [u for u in utterances if u not in snapshot]
        if absent:
            named = ", ".join(absent[:3]) + (", …" if len(absent) > 3 else "")
            raise UserError(
                f"{self.path}: {len(absent)} of {len(utterances)} utterances are not cached "
                f"({named}); run `ser extract {self.name}`, or see failed.parquet there."
            )

    def lengths(self, utterances: Sequence[str]) -> np.ndarray:
        """Return the frames of each utterance: int64 `(utterances,)`."""
        snapshot = self.snapshot()
        return np.array([snapshot[u][2] for u in utterances], dtype=np.int64)

    def shard(self, name: str) -> ShardFrames:
        """Map a shard, once."""
        if name not in self._shards_open:
            self._shards_open[name] = ShardFrames(self.path / "data.zarr" / name)
        return self._shards_open[name]

    def frames(self, utterance: str, check: bool = False) -> np.ndarray:
        """Return one utterance as a read-only view `(frames, *item_shape)` in the stored dtype.

        With `check` the crc32c is compared first; raises `UserError` when it differs.
        """
        shard, row, length, crc = self.snapshot()[utterance]
        view = self.shard(shard).frames[row : row + length]
        view.flags.writeable = False
        if check and google_crc32c.value(view.tobytes()) != crc:
            raise UserError(
                f"{self.path / 'data.zarr' / shard}: the frames of '{utterance}' are damaged; "
                "delete that folder and extract again."
            )
        return view

    def moments(self, utterances: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of each channel over all frames, float64 `(dim,)`.

        One pass; a channel that never changes has deviation 1, so that it may be divided by.
        """
        count, total, squares = 0, np.zeros(self.item_shape), np.zeros(self.item_shape)
        for utterance in utterances:
            frames = self.frames(utterance).astype(np.float64)
            count += len(frames)
            total += frames.sum(axis=0)
            squares += (frames**2).sum(axis=0)
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        return mean, np.where(deviation > 1e-6 * (1 + np.abs(mean)), deviation, 1.0)

    def verify(self) -> list[str]:
        """Compare the crc32c of every utterance; return the damaged ones."""
        bad = []
        for utterance in self.snapshot():
            try:
                self.frames(utterance, check=True)
            except UserError:
                bad.append(utterance)
        return bad


class FeatureWriter:
    """Append utterances to shards of one worker; see `FeatureCache.writer`."""

    def __init__(
        self, cache: FeatureCache, precision: Precision, shard_bytes: int, shard_seconds: float
    ) -> None:
        self.cache = cache
        self.precision = precision
        self.shard_bytes = shard_bytes
        self.shard_seconds = shard_seconds
        self.overflowed: list[str] = []  # stored as float32 because float16 cannot hold them
        self._open: dict[str, ShardWriter] = {}
        self._since = time.monotonic()
        self._broken = False

    def append(self, utterance: str, frames: np.ndarray, stat: int, source: int) -> None:
        """Write one utterance `(frames, *item_shape)`; commits a shard when it is full or old.

        Raises `ValueError` for values that are not finite: they would poison every head.
        """
        peak = float(np.abs(frames).max())
        if not np.isfinite(peak):
            raise ValueError("the features hold NaN or infinite values")
        dtype: str = self.precision
        if dtype == "float16" and peak > float(np.finfo(np.float16).max):
            dtype = "float32"
            self.overflowed.append(utterance)
        try:
            if dtype not in self._open:
                staging = self.cache.staging / new_shard_name()
                self._open[dtype] = ShardWriter(staging, self.cache.item_shape, dtype)
            self._open[dtype].append(utterance, frames, stat, source)
        except OSError:
            self._broken = True  # a full disk: the half-written row must not be committed
            raise
        size = sum(shard.nbytes for shard in self._open.values())
        if size >= self.shard_bytes or time.monotonic() - self._since >= self.shard_seconds:
            self.commit()

    def commit(self) -> None:
        """Make everything appended so far visible and durable."""
        try:
            for dtype in list(self._open):
                shard = self._open[dtype]
                shard.commit(self.cache.path / "data.zarr" / shard.path.name)
                del self._open[dtype]
        except OSError:
            self._broken = True
            raise
        self._since = time.monotonic()

    def abandon_or_commit(self) -> None:
        """Keep what is whole when something else went wrong; drop what a full disk cut short."""
        if not self._broken:
            self.commit()
        for shard in self._open.values():
            shard.abandon()
        self._open.clear()
