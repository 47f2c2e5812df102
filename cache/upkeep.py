"""Keep a cache in order: count it, repair it, merge two, remove what is not wanted."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from cache.features import FeatureCache
from cache.files import new_shard_name, read_json, sync_folder
from cache.folder import Damage, FeatureFolder, in_force
from cache.remote import Root
from cache.shard import ShardWriter, intact
from cache.transcripts import TranscriptCache, checksums
from corpus.errors import UserError

Folder = FeatureCache | TranscriptCache
CLASSES: dict[str, type[Folder]] = {c.content: c for c in (FeatureCache, TranscriptCache)}


@dataclass(frozen=True)
class Content:
    """Say what one feature's folder holds; `nbytes` counts shards, not the index."""

    folder: Folder
    utterances: int
    shards: int
    nbytes: int
    failed: int


def every_folder(root: str | Path, name: str | None = None) -> Iterator[Folder]:
    """Open every feature's folder of a cache, or those of one feature."""
    for path, remote in Root(root).folders(name):
        said = read_json(path / "feature.json", "delete the folder and extract again")
        kind = CLASSES.get(str(said.get("content")))
        if kind is None:
            raise UserError(
                f"{path / 'feature.json'}: it holds {said.get('content')!r}, which this version "
                "does not know; delete the folder, or use the version that wrote it."
            )
        yield kind(path, remote)


def content(folder: Folder) -> Content:
    """Count what a folder holds; for a remote one, what the index says."""
    index = folder.index()
    return Content(
        folder, index.height, len(folder.shards()), _nbytes(folder), folder.failed().height
    )


def _nbytes(folder: Folder) -> int:
    if folder.remote:
        return folder.remote.nbytes(folder.store)
    return sum(f.stat().st_size for f in (folder.path / folder.store).rglob("*") if f.is_file())


def repair(folder: Folder, damages: Sequence[Damage]) -> list[str]:
    """Replace every damaged shard by one of its intact rows; return the utterances that are gone.

    The next extraction redoes just those. Call it with what `verify` has just found.
    """
    folder.prepare()
    before, shards = in_force(folder.stored_index()), folder.shards()
    gone: list[str] = []
    for damage in damages:
        rows = before.filter(pl.col("shard") == damage.shard)
        if damage.shard in shards:
            _rescue(folder, damage.shard, rows)
            folder.drop(damage.shard)
        gone += damage.utterances
    folder.write_index()
    left = set(folder.index()["utterance"])
    return sorted(u for u in set(gone) if u not in left)


def _rescue(folder: Folder, shard: str, rows: pl.DataFrame) -> None:
    """Write what is intact of a shard to a new one, as old as the first."""
    name = new_shard_name()
    if isinstance(folder, TranscriptCache):
        rows = rows.filter(checksums(rows) == rows["crc32c"])
        if rows.height:
            folder.write_part(rows.with_columns(shard=pl.lit(name)), name)
        return
    kept = None
    for row, encoded in intact(folder.path / folder.store / shard, rows):
        if kept is None:
            dtype = encoded.data.dtype.name
            kept = ShardWriter(folder.staging / name, folder.item_shape, dtype)
        kept.append(row["utterance"], encoded, row["stat"], row["source"])
    if kept is not None:
        kept.finish(rows["created"][0])
        folder.publish(kept.path, name)


def merge(
    into: str | Path,
    source: str | Path,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, int]:
    """Copy every shard of `source` that `into` lacks; return the shards copied per feature folder.

    Shards are copied whole and checked by nobody until `verify`; where both hold an utterance, the
    newest counts. Either side may be a URL. Run again after an interruption, it copies the rest.
    """
    copied = {}
    for theirs in every_folder(source):
        ours = type(theirs).create(into, theirs.name, theirs.about["spec"], theirs.more)
        if ours.about.get("item_shape") != theirs.about.get("item_shape"):
            raise UserError(
                f"{ours.location}: its frames are of shape {ours.about.get('item_shape')}, those "
                f"of {theirs.location} of {theirs.about.get('item_shape')}; they cannot be merged."
            )
        ours.prepare()
        new = sorted(theirs.shards() - ours.shards())
        for shard in progress(new):
            ours.publish(_copy(theirs, ours, shard), shard)
        copied[f"{ours.name}/{ours.fingerprint}"] = len(new)
        failed = theirs.failed()
        if failed.height:
            there = set(ours.index()["utterance"])
            rows = zip(failed["utterance"], failed["error"], strict=True)
            ours.record({u: error for u, error in rows if u not in there})
        ours.write_index()
    return copied


def _copy(theirs: FeatureFolder, ours: FeatureFolder, shard: str) -> Path:
    place = f"{theirs.store}/{shard}{theirs.suffix}"
    source, staged = theirs.path / place, ours.staging / new_shard_name()
    if theirs.suffix:
        if theirs.remote:
            theirs.remote.fetch(place)
        shutil.copyfile(source, staged)
    else:
        if theirs.remote:
            theirs.remote.fetch_tree(place)
        shutil.copytree(source, staged)
    for path in [staged, *staged.rglob("*")]:
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    return staged


def remove(folder: Folder) -> None:
    """Delete a feature's folder: feature.json first, so that it is gone at once."""
    if folder.remote:
        folder.remote.delete("feature.json")
        folder.remote.delete("")
    (folder.path / "feature.json").unlink(missing_ok=True)
    shutil.rmtree(folder.path)
    if not any(folder.path.parent.iterdir()):
        folder.path.parent.rmdir()
