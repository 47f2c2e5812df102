"""`ser cache`: inspect the cache, check it, and move it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ser.commands import cache_exchange
from ser.commands.cache_info import (
    cache_root,
    cached_features,
    describe_spec,
    feature_jobs,
    info_table,
    size,
)
from ser.commands.help import Group, Resuming, command
from ser.commands.logs import result
from ser.commands.options import PIPELINE, CacheFolder, Json, Overrides, PipelineFile, load_pipeline
from ser.commands.output import exit_code, print_frame, print_json
from ser.corpus.errors import UserError, plural

if TYPE_CHECKING:
    from ser.cache.upkeep import Folder

app = typer.Typer()
cache = typer.Typer(
    cls=Group, help="Inspect, verify and repair the cache; merge, export, import and push features."
)
cache.add_typer(cache_exchange.app)
app.add_typer(cache, name="cache", rich_help_panel="Tools")


@command(cache, "ser cache info\nser cache info --cache s3://bucket/cache --json")
def info(
    root: CacheFolder = None,
    as_json: Json = False,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> None:
    """List what is cached of each feature and what is missing.

    With the number of failed utterances, the size on disk, and the size to come. Of a large corpus
    20,000 utterances are looked at, and what is missing is estimated.
    """
    # with --cache, no pipeline is needed
    pipeline = None if root and not path.exists() else load_pipeline(path, overrides)
    root = root or cache_root(pipeline)
    rows = cached_features(root, pipeline)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    if not rows:
        typer.echo(f"{root}: nothing is cached")
        return
    print_frame(info_table(rows))
    for row in rows:
        label = f"{row.feature} {row.fingerprint}" if row.fingerprint else row.feature
        typer.echo(f"{label}: {describe_spec(row.spec)}")
        if row.is_estimated:
            typer.echo(
                f"{label}: {row.looked_at:,} of {row.expected:,} utterances were looked at; what "
                "is missing is estimated"
            )


@command(cache, "ser cache verify\nser cache verify whisper --repair")
def verify(
    features: list[str] | None = None,
    *,
    repair: bool = False,
    root: CacheFolder = None,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Compare the cache with its checksums.

    Exit code 1 when something is damaged and not repaired.

    Args:
        features: Features to check; by default all of them.
        repair: Drop damaged utterances, so that they are extracted again.
    """
    from ser.cache.upkeep import repair as drop_damaged

    root = root or cache_root(load_pipeline(path, overrides))
    damaged = 0
    for folder in _folders(root, features or []):
        damages = folder.verify()
        damaged += len(damages)
        for damage in damages:
            result(f"{folder.name}: {damage.reason}")
            for utterance in damage.utterances:
                result(f"  {utterance}")
        if not damages:
            count = plural(folder.index().height, "utterance")
            result(f"{folder.name} {folder.fingerprint}: {count}, checksums OK")
        elif repair:
            dropped = plural(len(drop_damaged(folder, damages)), "utterance")
            result(
                f"{folder.name}: {dropped} dropped, the others kept; `ser extract {folder.name}` "
                "extracts them again"
            )
    return exit_code(damaged and not repair)


@command(cache, "ser cache prune\nser cache prune --also other.yaml --yes")
def prune(
    *,
    also: list[Path] | None = None,
    yes: bool = False,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> None:
    """Delete the features that no pipeline names.

    Asks before anything is deleted.

    Args:
        also (FILE): Another pipeline whose features are kept (repeatable); none by default.
        yes: Delete without asking.
    """
    from ser.cache.upkeep import content, every_folder, remove, remove_deleted
    from ser.extract.forecast import fingerprints
    from ser.pipeline.file import cache_place

    pipeline = load_pipeline(path, overrides)
    root = cache_place(pipeline)
    remove_deleted(root)  # left by a prune that was killed
    keep: set[tuple[str, str]] = set()
    unclear: set[str] = set()  # text whose transcripts cannot be opened: any of it may be in use
    for one in (pipeline, *(load_pipeline(p, ()) for p in also or ())):
        for name, job in feature_jobs(one):
            if job is None:
                unclear.add(name)
            else:
                keep |= {(name, fingerprint) for fingerprint in fingerprints(job)}
    unwanted = [
        content(folder)
        for folder in every_folder(root)
        if folder.name not in unclear and (folder.name, folder.fingerprint) not in keep
    ]
    if not unwanted:
        result(f"{root}: every feature is named by a pipeline")
        return
    for held in unwanted:
        spec = {"model": held.folder.metadata.get("model")} | held.folder.spec
        count = f"{held.utterances:,} utterance" + ("" if held.utterances == 1 else "s")
        typer.echo(f"{held.folder.location}: {count}, {size(held.nbytes)} ({describe_spec(spec)})")
    counted = plural(len(unwanted), "feature")
    space = size(sum(held.nbytes for held in unwanted))
    if not yes and not _is_confirmed(f"Delete {counted} ({space})?"):
        result("nothing was deleted")
        return
    for held in unwanted:
        remove(held.folder)
    result(f"{counted} deleted ({space})")


def _is_confirmed(question: str) -> bool:
    """Ask on standard input; raises `UserError` at its end, and `typer.Abort` on Ctrl-C."""
    try:
        return typer.confirm(question)
    except (typer.Abort, RuntimeError) as error:  # the latter where standard input is closed
        typer.echo()  # ends the line of the question
        if isinstance(error.__context__, KeyboardInterrupt):
            raise typer.Abort("nothing was deleted") from error
        raise UserError(
            "standard input has no answer, so nothing was deleted; give --yes to delete without "
            "being asked."
        ) from error


@command(cache, "ser cache merge data/cache /mnt/node2/cache", cls=Resuming)
def merge(into: str, source: str) -> None:
    """Copy into one cache what only another holds.

    Args:
        into: Cache to copy into: a folder or URL.
        source: Cache to copy from: a folder or URL.
    """
    from ser.cache.upkeep import merge as merge_caches

    for feature, shards in merge_caches(into, source).items():
        result(f"{feature}: {plural(shards, 'shard')} copied")


def _folders(root: str, features: list[str]) -> "list[Folder]":
    from ser.cache.upkeep import every_folder

    folders = list(every_folder(root))
    names = {folder.name for folder in folders}
    for name in features:
        if name not in names:
            raise UserError(
                f"{root}: feature '{name}' is not in the cache, which holds "
                f"{', '.join(sorted(names)) or 'none'}."
            )
    return [folder for folder in folders if not features or folder.name in features]
