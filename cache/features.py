"""Frame-level features of every utterance: many writers, many readers, one folder.

`FeatureCache.writer()` streams utterances into shards; `FeatureCache.frames()` gives a view of one
utterance; `cache.reader` makes padded batches. See `cache.folder` for the folder and `cache.shard`
for the bytes.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl

from cache.files import AGAIN, new_shard_name, now_ns, write_durably
from cache.folder import COMMIT_SECONDS, Damage, FeatureFolder, in_force
from cache.precision import Encoded, Precision, encode, moments, values
from cache.remote import Remote
from cache.shard import (
    ShardFrames,
    ShardWriter,
    checksum,
    intact,
    read_rows,
    require_whole,
)
from corpus.errors import UserError

SHARD_BYTES = 256 << 20
HEAVY = ("frames/c", "scale/c")  # of a remote shard, what is fetched only when it is read


class Snapshot:
    """Find utterances in an index of any size: columns, and one sorted array of hashes.

    Nothing here is a Python object an utterance: a million of them take 100 MB and half a second.
    """

    def __init__(self, rows: pl.DataFrame) -> None:
        for seed in count():
            hashes = rows["utterance"].hash(seed).to_numpy()
            self._order = np.argsort(hashes)
            self._hashes = hashes[self._order]
            if (self._hashes[1:] != self._hashes[:-1]).all():
                break
            rows = in_force(rows)  # or two ids share a hash, which another seed mends
        self._seed = seed
        self.utterance = rows["utterance"]
        self.shard_names: list[str] = rows["shard"].unique().sort().to_list()
        self.shard = rows["shard"].cast(pl.Enum(self.shard_names)).to_physical().to_numpy()
        self.position, self.row, self.length, self.crc32c = (
            rows[name].to_numpy() for name in ("position", "row", "length", "crc32c")
        )

    def find(self, utterances: Sequence[str]) -> np.ndarray:
        """Return where each utterance is in the columns: int64, -1 where it is not cached."""
        wanted = pl.Series(utterances, dtype=pl.String)
        if not len(self.utterance) or not len(wanted):
            return np.full(len(wanted), -1, dtype=np.int64)
        places = np.searchsorted(self._hashes, wanted.hash(self._seed).to_numpy())
        found = self._order[np.minimum(places, len(self._order) - 1)]
        same = (self.utterance.gather(found) == wanted).to_numpy()
        return np.where(same, found, -1)

    def require(self, utterances: Sequence[str], cache: "FeatureCache") -> np.ndarray:
        """Find every utterance; raises `UserError` that counts and names the absent ones."""
        found = self.find(utterances)
        absent = [utterances[int(i)] for i in np.flatnonzero(found < 0)]
        if absent:
            named = ", ".join(absent[:3]) + (", …" if len(absent) > 3 else "")
            raise UserError(
                f"{cache.location}: {len(absent)} of {len(utterances)} utterances are not cached "
                f"({named}); run `ser extract {cache.name}`, or see failed.parquet there."
            )
        return found


class FeatureCache(FeatureFolder):
    """Open one feature's frames; `about["item_shape"]` is (dim,) or (layers, dim)."""

    content: ClassVar[str] = "frames"
    store: ClassVar[str] = "data.zarr"
    suffix: ClassVar[str] = ""
    INDEX: ClassVar[pl.Schema] = pl.Schema(
        {
            "utterance": pl.String,
            "position": pl.Int32,
            "row": pl.Int64,
            "length": pl.Int32,
            "crc32c": pl.UInt32,
            "stat": pl.UInt64,
            "source": pl.UInt64,
            "shard": pl.String,
            "created": pl.Int64,
        }
    )

    def __init__(self, path: Path, remote: Remote | None = None) -> None:
        super().__init__(path, remote)
        self.item_shape: tuple[int, ...] = tuple(self.about["item_shape"])
        self.dim = self.item_shape[-1]
        self._shards_open: dict[str, ShardFrames] = {}
        self._snapshot: Snapshot | None = None

    def _shard_rows(self, shard: str) -> pl.DataFrame:
        if self.remote:
            self.remote.fetch_tree(f"{self.store}/{shard}", leave=HEAVY)
        return read_rows(self.path / self.store / shard, shard).select(self.INDEX.names())

    @contextmanager
    def writer(
        self,
        precision: Precision = "float16",
        shard_bytes: int = SHARD_BYTES,
        shard_seconds: float = COMMIT_SECONDS,
    ) -> Iterator["FeatureWriter"]:
        """Write utterances; what is left is committed on leaving, also after an exception."""
        self.prepare()
        group = self.path / self.store / "zarr.json"
        if not group.exists():
            write_durably(group, '{"zarr_format": 3, "node_type": "group"}')
            if self.remote:
                self.remote.put(f"{self.store}/zarr.json")
        writer = FeatureWriter(self, precision, shard_bytes, shard_seconds)
        try:
            yield writer
            writer.commit()
        except BaseException:
            writer.abandon_or_commit()
            raise
        self.write_index()

    def snapshot(self) -> Snapshot:
        """Return the index as of the first call: what is written later is not seen."""
        if self._snapshot is None:
            self._snapshot = Snapshot(self._all_rows())
        return self._snapshot

    def require(self, utterances: Sequence[str]) -> np.ndarray:
        """Return each utterance's place in the snapshot.

        Raises `UserError` that counts and names utterances which are not cached.
        """
        return self.snapshot().require(utterances, self)

    def lengths(self, utterances: Sequence[str]) -> np.ndarray:
        """Return the frames of each utterance: int64 `(utterances,)`."""
        lengths: np.ndarray = self.snapshot().length[self.require(utterances)]
        return lengths.astype(np.int64)

    def shard(self, name: str) -> ShardFrames:
        """Map a shard, once."""
        if name not in self._shards_open:
            path = self.path / self.store / name
            try:
                self._shards_open[name] = ShardFrames(path)
            except UserError:
                if not self.remote:
                    raise
                self.remote.fetch_tree(f"{self.store}/{name}")  # what is not here yet
                self._shards_open[name] = ShardFrames(path)
        return self._shards_open[name]

    def load(self, share: float = 0.5) -> bool:
        """Read all shards into memory if they take no more than this share of what is free.

        Returns whether they did; reading goes on from the files when not.
        """
        names = self.snapshot().shard_names
        size = sum(self.shard(name).file.stat().st_size for name in names)
        if size > share * available_memory():
            return False
        for name in names:
            self._shards_open[name] = ShardFrames(self.path / self.store / name, in_memory=True)
        return True

    def encoded(self, place: int, check: bool = False) -> Encoded:
        """Return one utterance as it is stored, by its place in the snapshot.

        With `check` the crc32c is compared first; raises `UserError` when it differs.
        """
        snapshot = self.snapshot()
        shard = self.shard(snapshot.shard_names[snapshot.shard[place]])
        row, length = int(snapshot.row[place]), int(snapshot.length[place])
        encoded = shard.encoded(row, length, int(snapshot.position[place]))
        if check and checksum(encoded) != snapshot.crc32c[place]:
            utterance = snapshot.utterance[int(place)]
            raise UserError(f"{shard.path}: the frames of '{utterance}' are damaged; {AGAIN}.")
        return encoded

    def frames(self, utterance: str, check: bool = False) -> np.ndarray:
        """Return one utterance `(frames, *item_shape)`, read-only.

        A view in the stored dtype, or float32 computed from int8. Raises `UserError` when it is not
        cached, or with `check` when its crc32c differs.
        """
        view = values(self.encoded(int(self.require([utterance])[0]), check))
        view.flags.writeable = False
        return view

    def moments(self, utterances: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return `cache.precision.moments` of these utterances."""
        return moments(self.item_shape, map(self.encoded, self.require(utterances)))

    def _damaged(self, shard: str, rows: pl.DataFrame, reason: str | None) -> Iterator[Damage]:
        path = self.path / self.store / shard
        if self.remote:
            self.remote.fetch_tree(f"{self.store}/{shard}")
        good = {row["utterance"] for row, _ in intact(path, rows)}
        bad = [u for u in rows["utterance"] if u not in good]
        try:
            require_whole(path)
        except UserError as error:
            reason = reason or str(error)
        if reason or bad:
            said = reason or f"{path}: the frames of {len(bad)} utterances are damaged"
            yield Damage(shard, said, bad)


class FeatureWriter:
    """Append utterances to shards of one worker; see `FeatureCache.writer`."""

    def __init__(
        self, cache: FeatureCache, precision: Precision, shard_bytes: int, shard_seconds: float
    ) -> None:
        self.cache = cache
        self.precision: Precision = precision
        self.shard_bytes = shard_bytes
        self.shard_seconds = shard_seconds
        self.overflowed: list[str] = []  # stored as float32 because float16 cannot hold them
        self.nbytes = 0  # of frames, as stored
        self._open: dict[str, ShardWriter] = {}
        self._since = time.monotonic()
        self._broken = False

    def append(self, utterance: str, frames: np.ndarray, stat: int = 0, source: int = 0) -> None:
        """Write one utterance `(frames, *item_shape)`; commits a shard when it is full or old.

        Raises `ValueError` for another shape, no frames, and values that are not finite.
        """
        if frames.shape[1:] != self.cache.item_shape or not len(frames):
            expected = ", ".join(map(str, ("n", *self.cache.item_shape)))
            raise ValueError(f"the features are of shape {frames.shape}, not ({expected})")
        encoded = encode(frames, self.precision)
        if self.precision == "float16" and encoded.data.dtype == np.float32:
            self.overflowed.append(utterance)
        self.append_encoded(utterance, encoded, stat, source)

    def append_encoded(self, utterance: str, encoded: Encoded, stat: int, source: int) -> None:
        """Write one utterance as it is stored elsewhere."""
        dtype = encoded.data.dtype.name
        try:
            if dtype not in self._open:
                staging = self.cache.staging / new_shard_name()
                self._open[dtype] = ShardWriter(staging, self.cache.item_shape, dtype)
            self._open[dtype].append(utterance, encoded, stat, source)
            self.nbytes += encoded.data.nbytes
        except BaseException:  # a full disk, Ctrl-C: a half-written row must not be committed
            self._broken = True
            raise
        size = sum(shard.nbytes for shard in self._open.values())
        if size >= self.shard_bytes or time.monotonic() - self._since >= self.shard_seconds:
            self.commit()

    def commit(self) -> None:
        """Make everything appended so far visible and durable."""
        try:
            for dtype in list(self._open):
                shard = self._open[dtype]
                shard.finish(now_ns())
                del self._open[dtype]
                self.cache.publish(shard.path, shard.path.name)
        except BaseException:  # what is half finished must not be finished again
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


def available_memory() -> int:
    """Return the bytes that can be taken without swapping, as Linux says; elsewhere 0."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return 0
    said = dict(line.split(":") for line in meminfo.read_text().splitlines())
    return int(said["MemAvailable"].split()[0]) * 1024
