"""Frame-level features of every utterance: many writers, many readers, one folder.

`FeatureCache.writer()` streams utterances into shards; `FeatureCache.frames()` gives a view of one
utterance; `ser.cache.reader` makes padded batches. See `ser.cache.folder` for the folder and
`ser.cache.shard` for the bytes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import polars as pl

from ser.cache.feature_writer import SHARD_BYTES, FeatureWriter
from ser.cache.folder import Damage, FeatureFolder
from ser.cache.index_file import Snapshot, updated
from ser.cache.metadata import METADATA_REMEDY
from ser.cache.precision import Encoded, Precision, moments, values
from ser.cache.remote import Remote
from ser.cache.shard import Shard, checksum, is_foreign, open_shard, read_rows
from ser.cache.shard_check import intact, require_whole
from ser.corpus.atomic import write_durably
from ser.corpus.errors import DamagedError, UserError, plural
from ser.corpus.machine import available_memory

if TYPE_CHECKING:
    import zarr

GROUP = b'{"zarr_format": 3, "node_type": "group"}'
HEAVY = ("frames/c", "scale/c")  # folders of a remote shard, fetched when they are read


class FeatureCache(FeatureFolder):
    """The frames of one feature, as `ser extract` writes them; `open` finds it in a cache.

    Args:
        path: the folder of one version of the feature.
        remote: where the folder is mirrored from, for a cache in object storage.

    `item_shape` is the shape of a frame, (dim,) or (layers, dim).

        >>> cache = FeatureCache.open("data/cache", "voice")
        >>> cache.item_shape, cache.frames("0").dtype.name
        ((16,), 'float16')
    """

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
        self.item_shape: tuple[int, ...] = self._item_shape()
        self.dim = self.item_shape[-1]
        self._shards_open: dict[str, Shard] = {}
        self._snapshot: Snapshot | None = None

    def _item_shape(self) -> tuple[int, ...]:
        stated = self.metadata.get("item_shape")
        sizes = stated if isinstance(stated, list) else []
        if not sizes or not all(type(size) is int and size > 0 for size in sizes):
            problem = "the shape of a frame is missing"
            raise DamagedError(self.path / "feature.json", problem, METADATA_REMEDY)
        return tuple(sizes)

    def shard_rows(self, shard: str, check: bool = True) -> pl.DataFrame:
        """Read a shard's rows; see `FeatureFolder.shard_rows`."""
        if self.remote:
            self.remote.fetch_tree(f"{self.store}/{shard}", leave=HEAVY)
        return read_rows(self.path / self.store / shard, shard).select(self.INDEX.names())

    @contextmanager
    def writer(
        self, precision: Precision = "float16", shard_bytes: int = SHARD_BYTES
    ) -> Iterator["FeatureWriter"]:
        """Write utterances; what is left is committed on leaving, also after an exception."""
        self.prepare()
        writer = FeatureWriter(self, precision, shard_bytes)
        try:
            yield writer
            writer.commit()
        except BaseException:
            writer.abandon_or_commit()
            raise
        self.write_index()

    def prepare(self) -> None:
        """Prepare the folder for a writer; see `FeatureFolder.prepare`."""
        super().prepare()
        if not self._group.exists():
            write_durably(self._group, GROUP)
            if self.remote:
                self.remote.put(f"{self.store}/zarr.json")

    @property
    def _group(self) -> Path:
        """Return the file that makes the folder of the shards a Zarr group."""
        return self.path / self.store / "zarr.json"

    def damaged_files(self) -> dict[Path, str]:
        """Return the damaged files beside the shards; see `FeatureFolder.damaged_files`."""
        damaged = super().damaged_files()
        if self._group.exists() and self._group.read_bytes() != GROUP:
            damaged[self._group] = f"{self._group}: it is damaged"
        return damaged

    @property
    def group(self) -> "zarr.Group":
        """The store as a read-only `zarr.Group`; each group in it is a shard.

        For a remote cache it reads the storage itself and not the mirror. Raises `UserError` where
        nothing has been written yet, or the storage is not reached.

        >>> cache = FeatureCache.create("cache", "toy", {}, {"item_shape": [2]})
        >>> with cache.writer() as writer:
        ...     writer.append("anna", np.ones((3, 2), np.float32))
        >>> ((name, shard),) = cache.group.groups()
        >>> shard["frames"].shape, shard["length"][:].tolist()
        ((3, 2), [3])
        """
        import zarr

        if self.remote:
            return self.remote.group(self.store)
        if not self._group.exists():
            raise UserError(
                f"{self.location}: nothing has been written yet; run `ser extract --all`."
            )
        return zarr.open_group(self.path / self.store, mode="r")

    def snapshot(self) -> Snapshot:
        """Return the index as of the first call, without what is written later."""
        if self._snapshot is None:
            self._snapshot = Snapshot(updated(self))
        return self._snapshot

    def require(self, utterances: Sequence[str]) -> np.ndarray:
        """Return each utterance's place in the snapshot.

        Raises `UserError` that counts and names utterances which are not cached.
        """
        rows = self.snapshot().find(utterances)
        absent = [utterances[int(i)] for i in np.flatnonzero(rows < 0)]
        if absent:
            named = ", ".join(absent[:3]) + (", …" if len(absent) > 3 else "")
            raise UserError(
                f"{self.location}: {len(absent)} of {len(utterances)} utterances are not cached "
                f"({named}); run `ser extract {self.name}`, or see failed.parquet in that folder."
            )
        return rows

    def lengths(self, utterances: Sequence[str]) -> np.ndarray:
        """Return the frames of each utterance: int64 `(utterances,)`."""
        lengths: np.ndarray = self.snapshot().length[self.require(utterances)]
        return lengths.astype(np.int64)

    def shard(self, name: str) -> Shard:
        """Open a shard, once; raises `UserError` that names the file when it is damaged."""
        if name not in self._shards_open:
            path = self.path / self.store / name
            try:
                if self.remote and is_foreign(path):
                    self.remote.fetch_tree(f"{self.store}/{name}")
                shard = open_shard(path)
            except UserError:
                if not self.remote:
                    raise
                self.remote.fetch_tree(f"{self.store}/{name}")  # what was not fetched yet
                shard = open_shard(path)
            if shard.shape[1:] != self.item_shape:
                raise UserError(
                    f"{path / 'frames'}: its frames are of shape {list(shard.shape[1:])}, not "
                    f"{list(self.item_shape)} as feature.json states; {self.remedy}."
                )
            self._shards_open[name] = shard
        return self._shards_open[name]

    @property
    def remedy(self) -> str:
        """Return the remedy for damage, for messages."""
        return f"run `ser cache verify {self.name} --repair`, then `ser extract {self.name}`"

    def load(self) -> bool:
        """Read all shards into memory if they take no more than half of what is free.

        Returns whether it did; otherwise frames are still read from the files.
        """
        names = self.snapshot().shard_names
        size = sum(self.shard(name).nbytes for name in names)
        if size > available_memory() / 2:
            return False
        for name in names:
            self._shards_open[name] = open_shard(self.path / self.store / name, in_memory=True)
        return True

    def encoded(self, place: int, check: bool = False) -> Encoded:
        """Return one utterance as it is stored, by its place in the snapshot.

        With `check` the crc32c is compared first. Raises `UserError` when it differs, or when the
        disk cannot read the rows.
        """
        snapshot = self.snapshot()
        shard = self.shard(snapshot.shard_names[snapshot.shard[place]])
        row, length = int(snapshot.row[place]), int(snapshot.length[place])
        problem = "are damaged (their crc32c differs)"
        try:
            encoded = shard.encoded(row, length, int(snapshot.position[place]))
            if not check:
                return encoded
            shard.fetch(row, length)
            if checksum(encoded) == snapshot.crc32c[place]:
                return encoded
        except ValueError:
            problem = "are not at the rows that the index has"
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        raise UserError(
            f"{shard.file}: the frames of '{snapshot.utterance[int(place)]}' in feature "
            f"'{self.name}' {problem}; {self.remedy}."
        )

    def frames(self, utterance: str, check: bool = False) -> np.ndarray:
        """Return one utterance `(frames, *item_shape)`, read-only.

        A view in the stored dtype, or float32 computed from int8. Raises `UserError` when it is not
        cached, or with `check` when its crc32c differs.
        """
        view = values(self.encoded(int(self.require([utterance])[0]), check))
        view.flags.writeable = False
        return view

    def moments(self, utterances: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the `moments` of these utterances; raises `UserError` for damage."""
        read = (self.encoded(place, check=True) for place in self.require(utterances))
        return moments(self.item_shape, read)

    def _damage(self, shard: str, rows: pl.DataFrame, reason: str | None) -> Damage | None:
        path = self.path / self.store / shard
        if self.remote:
            self.remote.fetch_tree(f"{self.store}/{shard}")
        good = {row.utterance for row, _ in intact(path, rows)}
        bad = [u for u in rows["utterance"] if u not in good]
        try:
            require_whole(path)
        except UserError as error:
            reason = reason or str(error)
        if bad:
            reason = reason or f"{path}: the frames of {plural(len(bad), 'utterance')} are damaged"
        return Damage(shard, reason, bad) if reason else None
