"""One feature's folder: its spec, its index and its failures.

    <cache>/<feature>/<fingerprint>/
      feature.json      the spec and metadata; written first, never changed
      index.parquet     one row per utterance and shard (`ser.cache.index_file`)
      failed.parquet    utterance, error, when
      .staging/         shards being written; those of a dead writer are deleted by the next one

The fingerprint is taken of everything that changes the numbers, so another model, layer or window
has another folder and nothing is ever overwritten. Every row has two hashes of what it was computed
from: `stat` (cheap: size, time, span) and `source` (the content), so that changed audio is
extracted again, and audio that was copied or touched is not. The cache may be a URL: see
`ser.cache.remote`.
"""

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Self

import polars as pl

from ser.cache import failures, index_file
from ser.cache.files import DeniedError, alive, fingerprint, new_shard_name, remove_abandoned
from ser.cache.index_file import latest
from ser.cache.json_file import CHECKSUM, json_checksum
from ser.cache.metadata import (
    FORMAT,
    IDENTITY,
    METADATA_REMEDY,
    fitting,
    read_metadata,
    the_fitting,
)
from ser.cache.remote import Remote, Root, StorageError
from ser.corpus.atomic import host, remove, remove_leftovers, sync, write_durably
from ser.corpus.errors import DamagedError, UserError
from ser.corpus.progress import steps

COMMIT_SECONDS = 20.0  # the most work that a kill loses, however large a shard may be
PENDING = "unsent-"  # a finished shard in .staging whose upload failed


@dataclass(frozen=True)
class Damage:
    """The damage of a shard, with the utterances that cannot be read."""

    shard: str
    reason: str
    utterances: list[str]


class FeatureFolder:
    """One feature's folder; the base class of the caches of frames and of transcripts.

    `spec` is the plain mapping that the fingerprint is taken of. `metadata` is the content of
    feature.json: the spec, and what else a reader needs (dimension, frame rate, licence).
    """

    content: ClassVar[str]  # "frames" or "transcripts"
    store: ClassVar[str]  # the sub-folder of the shards
    suffix: ClassVar[str]  # of a shard's name there
    INDEX: ClassVar[pl.Schema]

    def __init__(self, path: Path, remote: Remote | None = None) -> None:
        self.path = path
        self.remote = remote
        metadata = read_metadata(path)
        if metadata.content != self.content:
            problem = f"its content is {metadata.content!r}, not {self.content!r}"
            raise DamagedError(path / "feature.json", problem, METADATA_REMEDY)
        self.name, self.fingerprint = metadata.feature, metadata.fingerprint
        self.spec, self.metadata = metadata.spec, metadata.values

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.location!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the location only; the files are mapped again when it is read."""
        return type(self), (self.path, self.remote)

    @property
    def extra_metadata(self) -> dict[str, object]:
        """Return the metadata without the folder's identity, as `create` takes it."""
        return {key: value for key, value in self.metadata.items() if key not in IDENTITY}

    @property
    def location(self) -> str:
        """Return where the folder is, for messages: a path or a URL."""
        return self.remote.url if self.remote else str(self.path)

    @classmethod
    def create(
        cls, root: str | Path, name: str, spec: Mapping[str, object], metadata: Mapping[str, object]
    ) -> Self:
        """Open the folder of `spec` in a cache (a folder or URL); make it if it does not exist."""
        path, remote = Root(root).folder(name, fingerprint(spec))
        if _exists(path, remote):
            return cls(path, remote)
        path.mkdir(parents=True, exist_ok=True)
        identity = {
            "format": FORMAT,
            "content": cls.content,
            "feature": name,
            "fingerprint": path.name,
            "spec": dict(spec),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        record = identity | dict(metadata)
        record |= {CHECKSUM: int(json_checksum(record), 16)}
        write_durably(path / "feature.json", json.dumps(record, indent=1))
        if remote:
            remote.put("feature.json")
        return cls(path, remote)

    @classmethod
    def existing(cls, root: str | Path, name: str, spec: Mapping[str, object]) -> Self | None:
        """Open the folder of exactly this `spec`, or return None."""
        path, remote = Root(root).folder(name, fingerprint(spec))
        return cls(path, remote) if _exists(path, remote) else None

    @classmethod
    def has_lost_record(cls, root: str | Path, name: str, spec: Mapping[str, object]) -> bool:
        """Return whether there are shards of this `spec` without their feature.json."""
        path, remote = Root(root).folder(name, fingerprint(spec))
        if _exists(path, remote):
            return False
        return bool(remote.committed(cls.store)) if remote else (path / cls.store).is_dir()

    @classmethod
    def open(
        cls, root: str | Path, name: str, required: Mapping[str, object] | None = None
    ) -> Self:
        """Open the one folder that fits this spec; the spec may lack `weights`, or be None.

        Reading a cache needs no model, so the digest of its weights may be unknown where heads are
        trained.
        Raises `UserError` when nothing, something else, or more than one thing is cached.
        """
        folders = dict(Root(root).folders(name))
        path = the_fitting(folders, f"{root}/{name}", name, required)
        return cls(path, folders[path])

    @classmethod
    def fitting(cls, root: str | Path, name: str, required: Mapping[str, object]) -> list[str]:
        """Return the fingerprints of the folders that `open` would accept."""
        return [path.name for path in fitting(dict(Root(root).folders(name)), required)]

    def index(self, ordered: bool = True) -> pl.DataFrame:
        """Return the latest row of each utterance.

        They are in the order in which they were written, or without `ordered` in any, as sorting a
        million takes longer than reading them.
        """
        rows = latest(index_file.updated(self))
        return rows.sort("created", "shard", maintain_order=True) if ordered else rows

    def shards(self) -> set[str]:
        """Return the names of the committed shards."""
        if self.remote:
            return self.remote.committed(self.store)
        paths = (self.path / self.store).glob(f"*{self.suffix}")
        return {p.name.removesuffix(self.suffix) for p in paths if self.suffix or p.is_dir()}

    def shard_rows(self, shard: str, check: bool = True) -> pl.DataFrame:
        """Read a shard's rows, fetching it if remote; raises `UserError` for a damaged one.

        Without `check` single rows are not checked for damage.
        """
        raise NotImplementedError

    def publish(self, staged: Path, shard: str) -> None:
        """Make a finished shard visible: uploaded where the cache is remote, then renamed."""
        place = f"{self.store}/{shard}{self.suffix}"
        if self.remote:
            pending = self.staging / f"{PENDING}{shard}"
            staged = staged.rename(pending) if staged != pending else staged
            self.remote.upload(staged, place)
        staged.rename(self.path / place)
        sync(self.path / self.store)

    def prepare(self) -> None:
        """Prepare the folder for a writer: delete what a dead one left, upload what is pending."""
        for folder in (self.path / self.store, self.staging):
            folder.mkdir(exist_ok=True)
        self.clean()
        for pending in self.staging.glob(f"{PENDING}{host()}-*"):
            shard = pending.name.removeprefix(PENDING)
            if not alive(shard) or shard.split("-")[1] == str(os.getpid()):
                with suppress(FileNotFoundError):  # another process has uploaded it
                    self.publish(pending, shard)

    def clean(self) -> None:
        """Delete what dead writers left; on a read-only disk it stays."""
        for folder in (self.path, self.path / self.store, self.staging):
            remove_leftovers(folder)
        remove_abandoned(self.staging, keep=PENDING)

    def write_index(self) -> None:
        """Update index.parquet, so that a new reader need not open every shard."""
        index_file.updated(self)
        if self.remote:
            self.remote.put("index.parquet")

    def verify(self) -> list[Damage]:
        """Check every byte of every shard and rebuild the index; return the damage."""
        self.clean()
        shards = self.shards()
        listed = index_file.stored(self)
        damages = [Damage("", problem, []) for problem in self.damaged_files().values()]
        damages += [
            Damage(shard, "it is listed in index.parquet, but missing", rows["utterance"].to_list())
            for (shard,), rows in latest(listed).group_by("shard", maintain_order=True)
            if shard not in shards
        ]
        index = [pl.DataFrame(schema=self.INDEX)]
        for shard in steps(sorted(shards), self.name, len(shards), unit="shard", leave=False):
            rows, damage = self._examine(shard, listed)
            if damage and self.remote:  # perhaps only the copy in the mirror is damaged
                remove(self.path / f"{self.store}/{shard}{self.suffix}")
                rows, damage = self._examine(shard, listed)
            index.append(rows)
            damages += [damage] if damage else []
        rows = pl.concat(index)
        if not rows.equals(index_file.stored(self, checked=True)):
            index_file.write(self, rows)
        return damages

    def damaged_files(self) -> dict[Path, str]:
        """Return the damaged files beside the shards; without them `prepare` makes new ones."""
        try:
            failures.read(self)
        except DeniedError:
            raise
        except UserError as error:
            return {self.path / "failed.parquet": str(error)}
        return {}

    def _examine(self, shard: str, listed: pl.DataFrame) -> tuple[pl.DataFrame, Damage | None]:
        reason = None
        try:
            rows = self.shard_rows(shard, check=False)
        except (StorageError, DeniedError):  # unreachable does not mean damaged
            raise
        except UserError as error:  # its rows may be undamaged, and the index has their places
            reason, rows = str(error), listed.filter(pl.col("shard") == shard)
        return rows, self._damage(shard, rows, reason)

    def _damage(self, shard: str, rows: pl.DataFrame, reason: str | None) -> Damage | None:
        """Return a shard's damage, if any; `reason` is what is known of it so far."""
        raise NotImplementedError

    def drop(self, shard: str) -> None:
        """Delete a shard; a reader that has it mapped can still read it."""
        place = f"{self.store}/{shard}{self.suffix}"
        if self.remote:
            self.remote.delete(place)
        self.staging.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            deleted = (self.path / place).rename(self.staging / new_shard_name())
            sync(self.path / self.store)
            remove(deleted)

    def failed(self) -> pl.DataFrame:
        """Return what failed and has not been extracted since: utterance, error, when.

        Raises `UserError` when the list is damaged.
        """
        return failures.failed(self)

    def record(self, errors: Mapping[str, str], current: Collection[str] = ()) -> None:
        """Merge failures into failed.parquet; see `ser.cache.failures.record`."""
        failures.record(self, errors, current)

    @property
    def staging(self) -> Path:
        """Return the folder of unfinished shards."""
        return self.path / ".staging"


def _exists(path: Path, remote: Remote | None) -> bool:
    if remote:
        return remote.fetch("feature.json", again=True)
    return (path / "feature.json").exists()
