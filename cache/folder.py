"""One feature's folder: what made it, what is in it, what failed.

    <cache>/<feature>/<fingerprint>/
      feature.json      what made it; written first, never changed
      index.parquet     one row an utterance and shard; derived, rebuilt from the shards at will
      failed.parquet    utterance, error, when
      .staging/         what is being written; a dead writer's leftovers are swept by the next one

A fingerprint names everything that changes the numbers, so another model, layer or window is
another folder and nothing is ever overwritten. Every row says what it was computed from by two
hashes: `stat` (cheap: size, time, span) and `source` (the content), so that changed audio is
extracted again and copied or touched audio is not. The cache may be a URL: see `cache.remote`.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

import polars as pl

from cache.files import (
    alive,
    fingerprint,
    host,
    new_shard_name,
    parquet,
    read_json,
    remove,
    sync_folder,
    write_durably,
)
from cache.remote import Remote, Root, StorageError
from corpus.errors import UserError

FORMAT = "ser-features/1"
COMMIT_SECONDS = 20.0  # the work that a kill can cost at the most, however large a shard may be
IDENTITY = ("format", "content", "feature", "fingerprint", "spec")
UNSENT = "unsent-"  # a finished shard in .staging that an upload failed for
FAILED = pl.Schema(
    {"utterance": pl.String(), "error": pl.String(), "when": pl.Datetime("us", "UTC")}
)


@dataclass(frozen=True)
class Damage:
    """Say what is wrong with a shard, and which of its utterances cannot be read."""

    shard: str
    reason: str
    utterances: list[str]


class FeatureFolder:
    """Hold one feature's folder; frames and transcripts build on it.

    `spec` is the plain mapping that the fingerprint is taken of; `about` is what a reader wants to
    know besides (dimension, frame rate, licence).
    """

    content: ClassVar[str]  # "frames" or "transcripts"
    store: ClassVar[str]  # the sub-folder of the shards
    suffix: ClassVar[str]  # of a shard's name there
    INDEX: ClassVar[pl.Schema]

    def __init__(self, path: Path, remote: Remote | None = None) -> None:
        self.path = path
        self.remote = remote
        about = read_json(path / "feature.json", "delete the folder and extract again")
        if about.get("format") != FORMAT or about.get("content") != self.content:
            raise UserError(
                f"{path / 'feature.json'}: it says {about.get('format')!r} and "
                f"{about.get('content')!r}, not {FORMAT!r} and {self.content!r}; delete the folder "
                "and extract again."
            )
        self.about: dict[str, Any] = about
        self.fingerprint: str = about["fingerprint"]
        self.name: str = about["feature"]

    @property
    def more(self) -> dict[str, Any]:
        """Return what `about` says besides the identity: what `create` takes of another folder."""
        return {key: value for key, value in self.about.items() if key not in IDENTITY}

    @property
    def location(self) -> str:
        """Return where the folder is, for messages: a path or a URL."""
        return self.remote.url if self.remote else str(self.path)

    @classmethod
    def create(
        cls, root: str | Path, name: str, spec: Mapping[str, Any], about: Mapping[str, Any]
    ) -> Self:
        """Open the folder of `spec` below a folder or URL, making it when it is not there yet."""
        path, remote = Root(root).folder(name, fingerprint(spec))
        if _is_there(path, remote):
            return cls(path, remote)
        path.mkdir(parents=True, exist_ok=True)
        said = {
            "format": FORMAT,
            "content": cls.content,
            "feature": name,
            "fingerprint": path.name,
            "spec": dict(spec),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_durably(path / "feature.json", json.dumps(said | dict(about), indent=1))
        if remote:
            remote.put("feature.json")
        return cls(path, remote)

    @classmethod
    def existing(cls, root: str | Path, name: str, spec: Mapping[str, Any]) -> Self | None:
        """Open the folder of exactly this `spec`, or return None."""
        path, remote = Root(root).folder(name, fingerprint(spec))
        return cls(path, remote) if _is_there(path, remote) else None

    @classmethod
    def open(cls, root: str | Path, name: str, wanted: Mapping[str, Any] | None = None) -> Self:
        """Open the one folder of this spec; its `weights` may be left out, or all of it.

        Reading a cache needs no model, so their digest may not be known where heads are trained.
        Raises `UserError` when nothing, something else, or more than one thing is cached.
        """
        folders = dict(Root(root).folders(name))
        if not folders:
            raise UserError(
                f"{root}/{name}: feature '{name}' is not in the cache; run `ser extract {name}` "
                "first."
            )
        specs = _specs(folders)
        wrong = {
            path: _differences(spec, wanted) if wanted is not None else []
            for path, spec in specs.items()
        }
        agreeing = [path for path, keys in wrong.items() if not keys]
        if len(agreeing) == 1:
            return cls(agreeing[0], folders[agreeing[0]])
        if agreeing:
            raise UserError(
                f"{root}/{name}: {len(agreeing)} fingerprints fit feature '{name}' and differ in "
                "their weights; delete the folder that is not wanted."
            )
        closest = min(folders, key=lambda path: len(wrong[path]))
        key = wrong[closest][0]
        raise UserError(
            f"{closest}: it was extracted with {_said(specs[closest], key)}, but pipeline.yaml "
            f"asks for {_said(wanted or {}, key)}; run `ser extract {name}`."
        )

    @classmethod
    def fitting(cls, root: str | Path, name: str, wanted: Mapping[str, Any]) -> list[str]:
        """Return the fingerprints that `open` would take."""
        specs = _specs(dict(Root(root).folders(name)))
        return [path.name for path, spec in specs.items() if not _differences(spec, wanted)]

    def index(self) -> pl.DataFrame:
        """Return the rows in force, one an utterance (the newest where several were written)."""
        return in_force(self._all_rows())

    def _all_rows(self) -> pl.DataFrame:
        path = self.path / "index.parquet"
        shards = self.shards()
        known = self.stored_index()
        if self.remote and set(known["shard"].unique()) != shards:
            self.remote.fetch("index.parquet", anew=True)
            known = self.stored_index()
        listed = set(known["shard"].unique())
        if listed == shards:
            return known
        new = [self._shard_rows(shard) for shard in sorted(shards - listed)]
        rows = pl.concat([known.filter(pl.col("shard").is_in(list(shards))), *new])
        with suppress(OSError):  # a read-only cache is rebuilt in memory at each opening
            write_durably(path, parquet(rows))
        return rows

    def stored_index(self) -> pl.DataFrame:
        """Read index.parquet as it lies there; empty when it is missing, damaged or older."""
        path = self.path / "index.parquet"
        if path.exists():
            with suppress(pl.exceptions.PolarsError, OSError):
                stored = pl.read_parquet(path)
                if stored.schema == self.INDEX:
                    return stored
        return pl.DataFrame(schema=self.INDEX)

    def shards(self) -> set[str]:
        """Name the committed shards."""
        if self.remote:
            return self.remote.committed(self.store)
        found = (self.path / self.store).glob(f"*{self.suffix}")
        return {p.name.removesuffix(self.suffix) for p in found if self.suffix or p.is_dir()}

    def _shard_rows(self, shard: str) -> pl.DataFrame:
        """Read a shard's rows, and fetch what that takes; raises `UserError` for a damaged one."""
        raise NotImplementedError

    def publish(self, staged: Path, shard: str) -> None:
        """Make a finished shard visible: uploaded where the cache is remote, then renamed."""
        place = f"{self.store}/{shard}{self.suffix}"
        if self.remote:
            unsent = self.staging / f"{UNSENT}{shard}"
            staged = staged.rename(unsent) if staged != unsent else staged
            self.remote.upload(staged, place)
        staged.rename(self.path / place)
        sync_folder(self.path / self.store)

    def prepare(self) -> None:
        """Make ready for a writer: sweep what a dead one left, send what could not be sent."""
        for folder in (self.path / self.store, self.staging):
            folder.mkdir(exist_ok=True)
        for left in self.staging.glob(f"{host()}-*"):
            if not alive(left.name):
                remove(left)
        for unsent in self.staging.glob(f"{UNSENT}{host()}-*"):
            shard = unsent.name.removeprefix(UNSENT)
            if not alive(shard) or shard.split("-")[1] == str(os.getpid()):
                with suppress(FileNotFoundError):  # another process has sent it
                    self.publish(unsent, shard)

    def write_index(self) -> None:
        """Bring index.parquet up to date, so that a new reader need not open every shard."""
        self._all_rows()
        if self.remote:
            self.remote.put("index.parquet")

    def verify(self, progress: Callable[[Iterable[str]], Iterable[str]] = iter) -> list[Damage]:
        """Check every byte of every shard; return what is damaged.

        The index is rebuilt from the shards. `progress` wraps the shards' names, as `tqdm` does.
        """
        shards = self.shards()
        listed = self.stored_index()
        damages = [
            Damage(shard, "it is listed in index.parquet and gone", rows["utterance"].to_list())
            for (shard,), rows in in_force(listed).group_by("shard", maintain_order=True)
            if shard not in shards
        ]
        index = [pl.DataFrame(schema=self.INDEX)]
        for shard in progress(sorted(shards)):
            rows, found = self._examine(shard, listed)
            if found and self.remote:  # it may be the copy here that is damaged
                remove(self.path / f"{self.store}/{shard}{self.suffix}")
                rows, found = self._examine(shard, listed)
            index.append(rows)
            damages += found
        with suppress(OSError):
            write_durably(self.path / "index.parquet", parquet(pl.concat(index)))
        return damages

    def _examine(self, shard: str, listed: pl.DataFrame) -> tuple[pl.DataFrame, list[Damage]]:
        reason = None
        try:
            rows = self._shard_rows(shard)
        except StorageError:  # not reached is not damaged
            raise
        except UserError as error:  # its rows may still be there, and the index knows where
            reason, rows = str(error), listed.filter(pl.col("shard") == shard)
        return rows, list(self._damaged(shard, rows, reason))

    def _damaged(self, shard: str, rows: pl.DataFrame, reason: str | None) -> Iterator[Damage]:
        """Yield a shard's damage, if any; `reason` is what is known of it already."""
        raise NotImplementedError

    def drop(self, shard: str) -> None:
        """Remove a shard at once; a reader that has it mapped keeps its snapshot."""
        place = f"{self.store}/{shard}{self.suffix}"
        if self.remote:
            self.remote.delete(place)
        self.staging.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            gone = (self.path / place).rename(self.staging / new_shard_name())
            sync_folder(self.path / self.store)
            remove(gone)

    def failed(self) -> pl.DataFrame:
        """Return what failed and has not been extracted since: utterance, error, when."""
        failures = self._failures()
        if not failures.height:
            return failures
        written = self.index().select("utterance", pl.from_epoch("created", "ns"))
        known = failures.join(written, on="utterance", how="left", maintain_order="left")
        mended = pl.col("created").dt.replace_time_zone("UTC") >= pl.col("when")
        return known.filter(~mended.fill_null(False)).select(FAILED.names())

    def _failures(self) -> pl.DataFrame:
        if self.remote:
            self.remote.fetch("failed.parquet", anew=True)
        path = self.path / "failed.parquet"
        return pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=FAILED)

    def record(self, failures: Mapping[str, str]) -> None:
        """Merge failures into failed.parquet, and take out what has been extracted since."""
        self.staging.mkdir(exist_ok=True)
        with (self.staging / "failed.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            now = datetime.now(UTC)
            new = pl.DataFrame(
                [(utterance, error, now) for utterance, error in failures.items()],
                schema=FAILED,
                orient="row",
            )
            old = self.failed().filter(~pl.col("utterance").is_in(list(failures)))
            merged = pl.concat([old, new]).sort("utterance")
            if merged.height or (self.path / "failed.parquet").exists():
                write_durably(self.path / "failed.parquet", parquet(merged))
                if self.remote:
                    self.remote.put("failed.parquet")

    @property
    def staging(self) -> Path:
        """Return the folder of what is being written."""
        return self.path / ".staging"


def in_force(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep the newest row of every utterance; the shard's name decides between equal times."""
    return rows.sort("created", "shard").unique("utterance", keep="last", maintain_order=True)


def missing(
    folder: FeatureFolder | None, stats: Mapping[str, int], source: Callable[[str], int]
) -> set[str]:
    """Name the utterances of `stats` that the folder lacks or that were made from something else.

    `source(utterance)` hashes the content; it is only called where the cheap hash differs, so a
    corpus that was copied or touched is read once and not extracted again.
    """
    if folder is None:
        return set(stats)
    index = folder.index()
    stored = dict(
        zip(index["utterance"], zip(index["stat"], index["source"], strict=True), strict=True)
    )
    return {
        u
        for u, stat in stats.items()
        if u not in stored or (stored[u][0] != stat and stored[u][1] != source(u))
    }


def _is_there(path: Path, remote: Remote | None) -> bool:
    if remote:
        return remote.fetch("feature.json", anew=True)
    return (path / "feature.json").exists()


def _specs(folders: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    return {path: read_json(path / "feature.json", "delete it")["spec"] for path in folders}


def _differences(spec: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    keys = sorted({*spec, *wanted} - ({"weights"} - set(wanted)))
    return [key for key in keys if spec.get(key) != wanted.get(key)]


def _said(spec: Mapping[str, Any], key: str) -> str:
    return f"{key}={spec[key]!r}" if key in spec else f"the default {key}"
