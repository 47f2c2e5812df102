"""Maintenance of a cache: count it, repair it, merge two, delete features."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ser.cache.feature_writer import ShardWriter
from ser.cache.features import FeatureCache
from ser.cache.files import new_shard_name
from ser.cache.folder import Damage, FeatureFolder
from ser.cache.index_file import latest, stored
from ser.cache.metadata import read_metadata
from ser.cache.remote import DELETED, Root
from ser.cache.shard_check import intact
from ser.cache.transcripts import TranscriptCache, checksums
from ser.corpus import atomic
from ser.corpus.atomic import sync, sync_tree
from ser.corpus.errors import UserError
from ser.corpus.progress import steps

Folder = FeatureCache | TranscriptCache
CLASSES: dict[str, type[Folder]] = {c.content: c for c in (FeatureCache, TranscriptCache)}


@dataclass(frozen=True)
class Content:
    """The size of one feature's folder; `nbytes` counts shards, not the index."""

    folder: Folder
    utterances: int
    shards: int
    nbytes: int
    failed: int


def every_folder(root: str | Path, name: str | None = None) -> Iterator[Folder]:
    """Open every feature's folder of a cache, or those of one feature."""
    for path, remote in Root(root).folders(name):
        stated = read_metadata(path).content
        kind = CLASSES.get(stated)
        if kind is None:
            raise UserError(
                f"{path / 'feature.json'}: its content is {stated!r}, which this version "
                "does not know; delete the folder, or use the version that wrote it."
            )
        yield kind(path, remote)


def content(folder: Folder) -> Content:
    """Return the size of a folder; of a remote one, what its index has."""
    index, shards, failed = folder.index(ordered=False), folder.shards(), folder.failed()
    remote, store = folder.remote, folder.store
    nbytes = remote.nbytes(store) if remote else _bytes_below(folder.path / store)
    return Content(folder, index.height, len(shards), nbytes, failed.height)


def _bytes_below(place: str | Path) -> int:
    """Return the bytes of all files of a folder; a large cache has 80,000 of them."""
    total, folders = 0, []
    with suppress(FileNotFoundError), os.scandir(place) as entries:
        for entry in entries:
            if entry.is_dir():
                folders.append(entry.path)
            elif entry.is_file():
                total += entry.stat().st_size
    return total + sum(map(_bytes_below, folders))


def repair(folder: Folder, damages: Sequence[Damage]) -> list[str]:
    """Replace every damaged shard by one of its intact rows; return the utterances that are lost.

    The next extraction computes only those. `damages` is what `verify` has just returned.
    """
    for file in folder.damaged_files():
        atomic.remove(file)
    folder.prepare()
    before, shards = latest(stored(folder)), folder.shards()
    for damage in damages:
        if damage.shard in shards:
            rows = before.filter(pl.col("shard") == damage.shard)
            _rescue(folder, damage.shard, rows)
            folder.drop(damage.shard)
    folder.write_index()
    lost = {utterance for damage in damages for utterance in damage.utterances}
    return sorted(lost.difference(folder.index(ordered=False)["utterance"]))


def _rescue(folder: Folder, shard: str, rows: pl.DataFrame) -> None:
    """Write the intact rows of a shard to a new one with the same time of creation."""
    name = new_shard_name()
    if isinstance(folder, TranscriptCache):
        rows = rows.filter(checksums(rows) == rows["crc32c"])
        if rows.height:
            folder.write_part(rows.with_columns(shard=pl.lit(name)), name)
        return
    writer = None
    for row, encoded in intact(folder.path / folder.store / shard, rows):
        if writer is None:
            dtype = encoded.data.dtype.name
            writer = ShardWriter(folder.staging / name, folder.item_shape, dtype)
        writer.append(row.utterance, encoded, row.stat, row.source)
    if writer is not None:
        writer.finish(rows["created"][0])
        folder.publish(writer.path, name)


def merge(into: str | Path, source: str | Path) -> dict[str, int]:
    """Copy every shard of `source` that `into` lacks; return the shards copied per feature folder.

    Shards are copied whole and not checked before `verify`; where both have an utterance, the
    latest counts. Either side may be a URL. Run again after an interruption, it copies the rest.
    """
    folders = list(every_folder(source))
    if not folders:
        raise UserError(f"{source}: there is no feature in it; give the cache to copy from.")
    copied = {}
    for theirs in folders:
        ours = type(theirs).create(into, theirs.name, theirs.spec, theirs.extra_metadata)
        shape, their_shape = (cache.metadata.get("item_shape") for cache in (ours, theirs))
        if shape != their_shape:
            raise UserError(
                f"{ours.location}: its frames are of shape {shape}, those of {theirs.location} of "
                f"{their_shape}; they cannot be merged."
            )
        new = sorted(theirs.shards() - ours.shards())
        if new:
            ours.prepare()
        ours.clean()
        for shard in steps(new, ours.name, len(new), unit="shard", leave=False):
            ours.publish(_copy(theirs, ours, shard), shard)
        copied[f"{ours.name}/{ours.fingerprint}"] = len(new)
        ours.write_index()
        failed = theirs.failed()
        if failed.height:
            cached = set(ours.index(ordered=False)["utterance"])
            rows = zip(failed["utterance"], failed["error"], strict=True)
            ours.record({u: error for u, error in rows if u not in cached})
    return copied


def _copy(theirs: FeatureFolder, ours: FeatureFolder, shard: str) -> Path:
    place = f"{theirs.store}/{shard}{theirs.suffix}"
    source, staged = theirs.path / place, ours.staging / new_shard_name()
    if theirs.suffix:
        if theirs.remote:
            theirs.remote.fetch(place)
        shutil.copyfile(source, staged)
        sync(staged)
    else:
        if theirs.remote:
            theirs.remote.fetch_tree(place)
        _copy_tree(source, staged)
        sync_tree(staged)
    return staged


def _copy_tree(source: Path, target: Path) -> None:
    """Copy a folder; the modes are those of the umask, whatever the source's are."""
    for folder, _, files in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir()
        for name in files:
            shutil.copyfile(Path(folder) / name, place / name)


def remove(folder: Folder) -> None:
    """Delete a feature's folder; it is renamed first, so that no part of it is ever seen.

    `remove_deleted` deletes what a killed process left of it.
    """
    if folder.remote:
        folder.remote.delete("feature.json")
        folder.remote.delete("")
    parent = folder.path.parent
    renamed = parent / f"{DELETED}{folder.fingerprint}-{new_shard_name()}"
    folder.path.rename(renamed)
    sync(parent)
    _delete(renamed)


def remove_deleted(root: str | Path) -> None:
    """Delete what a killed `remove` left of folders."""
    for folder in Root(root).local.glob(f"*/{DELETED}*"):
        _delete(folder)


def _delete(folder: Path) -> None:
    with suppress(FileNotFoundError):  # another process is deleting it, too
        shutil.rmtree(folder)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()
