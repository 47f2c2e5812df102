"""One feature's folder: what made it, what is in it, what failed.

    <cache>/<feature>/<fingerprint>/
      feature.json      what made it; written first, never changed
      index.parquet     one row an utterance and shard; derived, rebuilt from the shards at will
      failed.parquet    utterance, error, when
      .staging/         what is being written; a dead writer's leftovers are swept by the next one

A fingerprint names everything that changes the numbers, so another model, layer or window is
another folder and nothing is ever overwritten. Every row says what it was computed from by two
hashes: `stat` (cheap: size, time, span) and `source` (the content), so that changed audio is
extracted again and copied or touched audio is not.
"""

import fcntl
import io
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

import polars as pl

from cache.fingerprint import fingerprint
from corpus.errors import UserError

FORMAT = "ser-features/1"
COMMIT_SECONDS = 20.0  # the work that a kill can cost at the most, however large a shard may be
FAILED = pl.Schema(
    {"utterance": pl.String(), "error": pl.String(), "when": pl.Datetime("us", "UTC")}
)


class FeatureFolder:
    """Hold one feature's folder; frames and transcripts build on it.

    `spec` is the plain mapping that the fingerprint is taken of; `about` is what a reader wants to
    know besides (dimension, frame rate, licence).
    """

    content: ClassVar[str]  # "frames" or "transcripts"
    INDEX: ClassVar[pl.Schema]

    def __init__(self, path: Path) -> None:
        self.path = path
        about = _read_json(path / "feature.json")
        if about.get("format") != FORMAT or about.get("content") != self.content:
            raise UserError(
                f"{path / 'feature.json'}: it says {about.get('format')!r} and "
                f"{about.get('content')!r}, not {FORMAT!r} and {self.content!r}; delete the folder "
                "and extract again."
            )
        self.about: dict[str, Any] = about
        self.fingerprint: str = about["fingerprint"]
        self.name: str = about["feature"]

    @classmethod
    def create(
        cls, root: str | Path, name: str, spec: Mapping[str, Any], about: Mapping[str, Any]
    ) -> Self:
        """Open the folder of `spec`, making it when it is not there yet."""
        path = Path(root) / name / fingerprint(spec)
        if not (path / "feature.json").exists():
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
        return cls(path)

    @classmethod
    def open(cls, root: str | Path, name: str, spec: Mapping[str, Any]) -> Self | None:
        """Open the folder of exactly this `spec`, or return None."""
        path = Path(root) / name / fingerprint(spec)
        return cls(path) if (path / "feature.json").exists() else None

    @classmethod
    def find(cls, root: str | Path, name: str, wanted: Mapping[str, Any]) -> Self:
        """Find the one folder of this spec; its `weights` may be left out.

        Reading a cache needs no model, so their digest may not be known where heads are trained.
        Raises `UserError` when nothing, something else, or more than one thing is cached.
        """
        folders = sorted(p.parent for p in (Path(root) / name).glob("*/feature.json"))
        if not folders:
            raise UserError(
                f"{Path(root) / name}: feature '{name}' is not in the cache; run "
                f"`ser extract {name}` first."
            )
        specs = {folder: _read_json(folder / "feature.json")["spec"] for folder in folders}
        wrong = {folder: _differences(spec, wanted) for folder, spec in specs.items()}
        agreeing = [folder for folder, keys in wrong.items() if not keys]
        if len(agreeing) == 1:
            return cls(agreeing[0])
        if agreeing:
            raise UserError(
                f"{Path(root) / name}: {len(agreeing)} fingerprints fit feature '{name}' and "
                "differ in their weights; delete the folder that is not wanted."
            )
        closest = min(folders, key=lambda folder: len(wrong[folder]))
        key = wrong[closest][0]
        raise UserError(
            f"{closest}: it was extracted with {_said(specs[closest], key)}, but pipeline.yaml "
            f"asks for {_said(wanted, key)}; run `ser extract {name}`."
        )

    def index(self) -> pl.DataFrame:
        """Return the rows in force, one an utterance (the newest where several were written)."""
        rows = self._all_rows()
        return rows.sort("created", "shard").unique("utterance", keep="last", maintain_order=True)

    def _all_rows(self) -> pl.DataFrame:
        path = self.path / "index.parquet"
        shards = set(self._shards())
        known = pl.DataFrame(schema=self.INDEX)
        if path.exists():
            with suppress(pl.exceptions.PolarsError, OSError):
                stored = pl.read_parquet(path)
                if stored.schema == self.INDEX:
                    known = stored
        listed = set(known["shard"].unique())
        if listed == shards:
            return known
        new = [self._shard_rows(shard) for shard in sorted(shards - listed)]
        rows = pl.concat([known.filter(pl.col("shard").is_in(list(shards))), *new])
        with suppress(OSError):  # a read-only cache is rebuilt in memory at each opening
            write_durably(path, parquet(rows))
        return rows

    def _shards(self) -> list[str]:
        raise NotImplementedError

    def _shard_rows(self, shard: str) -> pl.DataFrame:
        raise NotImplementedError

    def failed(self) -> pl.DataFrame:
        """Return what failed and has not been extracted since: utterance, error, when."""
        path = self.path / "failed.parquet"
        failed = pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=FAILED)
        return failed.join(self.index(), on="utterance", how="anti")

    def record(self, failures: Mapping[str, str], succeeded: Iterable[str] = ()) -> None:
        """Merge failures into failed.parquet, and take out what has succeeded since."""
        self.staging.mkdir(exist_ok=True)
        with (self.staging / "failed.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = self.path / "failed.parquet"
            old = pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=FAILED)
            now = datetime.now(UTC)
            new = pl.DataFrame(
                [(utterance, error, now) for utterance, error in failures.items()],
                schema=FAILED,
                orient="row",
            )
            gone = [*failures, *succeeded]
            merged = pl.concat([old.filter(~pl.col("utterance").is_in(gone)), new])
            write_durably(path, parquet(merged.sort("utterance")))

    @property
    def staging(self) -> Path:
        """Return the folder of what is being written."""
        return self.path / ".staging"

    def sweep(self) -> None:
        """Remove what a writer of this machine left behind when it died."""
        host = _host()
        for left in self.staging.glob(f"{host}-*"):
            pid = left.name.removeprefix(f"{host}-").split("-")[0]
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(left, ignore_errors=True)


def new_shard_name() -> str:
    """Return a name that no other writer on any machine uses: host-pid-random."""
    return f"{_host()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"


def now_ns() -> int:
    """Return the time in ns since 1970, which orders rows that were written twice."""
    return time.time_ns()


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


def write_durably(path: Path, content: str | bytes) -> None:
    """Write a small file so that a power cut leaves the old one or the new one, whole.

    What a full disk cuts short is removed again.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _differences(spec: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    keys = sorted({*spec, *wanted} - ({"weights"} - set(wanted)))
    return [key for key in keys if spec.get(key) != wanted.get(key)]


def _said(spec: Mapping[str, Any], key: str) -> str:
    return f"{key}={spec[key]!r}" if key in spec else f"the default {key}"


def parquet(frame: pl.DataFrame) -> bytes:
    """Return a frame as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _host() -> str:
    return socket.gethostname().replace("-", "_").replace("/", "_") or "host"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: not readable ({error}); delete the folder and extract again."
        ) from error
    return said if isinstance(said, dict) else {}
