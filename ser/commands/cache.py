"""`ser cache`: look into the cache, check it, and move it about."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ser.commands.options import exit_code, load_pipeline, pipeline_option, print_frame, set_option

if TYPE_CHECKING:
    from cache.precision import Precision
    from cache.upkeep import Folder
    from extract.run import Job
    from ser.pipeline import Pipeline

cache_option = click.option(
    "--cache", "root", help="A cache folder or URL; by default the pipeline's."
)


@click.group("cache")
def cache_group() -> None:
    """Look into the cache, verify and repair it, merge, export and import."""


@cache_group.command("info")
@cache_option
@pipeline_option
@set_option
def info(root: str | None, path: Path, overrides: tuple[str, ...]) -> None:
    """Say what is cached of each feature, what is missing and failed, and the size to come."""
    import polars as pl

    from cache.upkeep import content, every_folder

    pipeline = _pipeline(root, path, overrides)
    wanted = _wanted(pipeline) if pipeline else {}
    rows = []
    for folder in every_folder(root or _cache(pipeline)):
        held = content(folder)
        expected = wanted.pop((folder.name, folder.fingerprint), None)
        rows.append(
            {
                "feature": folder.name,
                "fingerprint": folder.fingerprint,
                "made from": _in_words(folder.about),
                "utterances": f"{held.utterances:,}",
                "size": size(held.nbytes),
                "shards": held.shards,
                "failed": held.failed,
                "to extract": None if expected is None else _to_come(*expected),
                "named": None if pipeline is None else "yes" if expected else "no",
            }
        )
    for (name, fingerprint), expected in wanted.items():
        rows.append(
            dict.fromkeys(("utterances", "size", "shards", "failed"))
            | {"feature": name, "fingerprint": fingerprint, "made from": "not extracted yet"}
            | {"to extract": _to_come(*expected), "named": "yes"}
        )
    if not rows:
        click.echo(f"{root or _cache(pipeline)}: nothing is cached")
        return
    shown = ["feature", "utterances", "size", "shards", "failed", "to extract", "named"]
    print_frame(pl.DataFrame(rows, infer_schema_length=None).select(shown))
    for row in rows:
        click.echo(f"{row['feature']} {row['fingerprint']}: {row['made from']}")


def size(nbytes: int) -> str:
    """Return bytes as a person says them, in powers of ten."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if nbytes >= scale:
            return f"{nbytes / scale:.1f} {unit}"
    return f"{nbytes / 1e3:.1f} kB"


def _to_come(utterances: int, nbytes: int | None) -> str:
    if not utterances:
        return "nothing"
    return f"{utterances:,}" + ("" if nbytes is None else f", about {size(nbytes)}")


def _in_words(about: dict[str, Any]) -> str:
    said = {"model": about.get("model")} | about["spec"]
    return ", ".join(f"{key} {value}" for key, value in said.items() if value is not None)


@cache_group.command("verify")
@click.argument("features", nargs=-1)
@click.option("--repair", is_flag=True, help="Drop what is damaged, so that it is redone.")
@cache_option
@pipeline_option
@set_option
def verify(
    features: tuple[str, ...],
    repair: bool,
    root: str | None,
    path: Path,
    overrides: tuple[str, ...],
) -> int:
    """Check every byte of FEATURES (all by default); exit 1 when something is damaged."""
    from tqdm import tqdm

    from cache.upkeep import repair as mend

    root = root or _cache(_pipeline(root, path, overrides))
    damaged = 0
    for folder in _folders(root, features):

        def progress(shards: Iterable[str], label: str = folder.name) -> Iterable[str]:
            return tqdm(shards, label, unit="shard", leave=False, disable=None)

        damages = folder.verify(progress)
        damaged += len(damages)
        for damage in damages:
            click.echo(f"{folder.name}: {damage.reason}")
            for utterance in damage.utterances:
                click.echo(f"  {utterance}")
        if not damages:
            held = folder.index().height
            click.echo(f"{folder.name} {folder.fingerprint}: {held} utterances, every byte right")
        elif repair:
            gone = mend(folder, damages)
            click.echo(
                f"{folder.name}: {len(gone)} utterances dropped and the rest kept; "
                f"`ser extract {folder.name}` redoes them"
            )
    return exit_code(damaged and not repair)


@cache_group.command("prune")
@click.option("--also", type=Path, multiple=True, help="Another pipeline whose features stay.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pipeline_option
@set_option
def prune(also: tuple[Path, ...], yes: bool, path: Path, overrides: tuple[str, ...]) -> None:
    """Delete the features that no pipeline given names; asks first."""
    from cache.upkeep import content, every_folder, remove
    from ser.extraction import fingerprints

    pipeline = load_pipeline(path, overrides)
    keep: set[tuple[str, str]] = set()
    unclear: set[str] = set()  # text whose transcripts cannot be opened: any of it may be named
    for one in (pipeline, *(load_pipeline(p, ()) for p in also)):
        for name, job in _jobs(one):
            keep |= {(name, fingerprint) for fingerprint in fingerprints(job)} if job else set()
            unclear |= set() if job else {name}
    unwanted = [
        folder
        for folder in every_folder(pipeline.cache)
        if folder.name not in unclear and (folder.name, folder.fingerprint) not in keep
    ]
    if not unwanted:
        click.echo(f"{pipeline.cache}: every feature is named by a pipeline")
        return
    for folder in unwanted:
        held = content(folder)
        click.echo(
            f"{folder.location}: {held.utterances:,} utterances, {size(held.nbytes)} "
            f"({_in_words(folder.about)})"
        )
    if not yes and not click.confirm(f"delete these {len(unwanted)}?"):
        click.echo("nothing was deleted")
        return
    for folder in unwanted:
        remove(folder)
    click.echo(f"deleted {len(unwanted)}")


@cache_group.command("merge")
@click.argument("into")
@click.argument("source")
def merge(into: str, source: str) -> None:
    """Copy into the cache INTO what only SOURCE holds; folders or URLs."""
    from tqdm import tqdm

    from cache.upkeep import merge as merge_caches

    def progress(shards: Iterable[Any]) -> Iterable[Any]:
        return tqdm(shards, unit="shard", leave=False, disable=None)

    for feature, shards in merge_caches(into, source, progress).items():
        click.echo(f"{feature}: {shards} shards copied")


@cache_group.command("export")
@click.argument("feature")
@click.argument("out", type=Path)
@click.option("--format", "_format", type=click.Choice(["hdf5"]), default="hdf5", show_default=True)
@click.option("--view", is_flag=True, help="Point into the shards instead of copying them.")
@cache_option
@pipeline_option
@set_option
def export(
    feature: str,
    out: Path,
    *,
    _format: str,
    view: bool,
    root: str | None,
    path: Path,
    overrides: tuple[str, ...],
) -> int:
    """Write FEATURE to the file OUT, one dataset an utterance; exit 1 when some are damaged."""
    from cache.exchange import export_hdf5
    from cache.features import FeatureCache
    from corpus.errors import UserError

    if root:
        cache = FeatureCache.open(root, feature)
    else:
        opened = _opened(load_pipeline(path, overrides), feature)
        if not isinstance(opened, FeatureCache):
            raise UserError(
                f"{opened.location}: '{feature}' holds words, no frames; see data/*.parquet there."
            )
        cache = opened
    report = export_hdf5(cache, out, view)
    click.echo(f"{out}: {report.count} utterances")
    return _say_failed(report.failed)


@cache_group.command("import")
@click.argument("feature")
@click.argument("source", type=Path)
@click.option("--frame-rate", type=float, help="Frames per second; our own exports say it.")
@click.option("--precision", type=click.Choice(["float16", "float32", "int8"]), default="float16")
@cache_option
@pipeline_option
@set_option
def import_command(
    feature: str,
    source: Path,
    *,
    frame_rate: float | None,
    precision: "Precision",
    root: str | None,
    path: Path,
    overrides: tuple[str, ...],
) -> int:
    """Add arrays made elsewhere as FEATURE: an HDF5 file, or a folder of .npy, .pt, .safetensors.

    In the pipeline, `FEATURE: {kind: imported}` then names them.
    """
    from cache.exchange import import_features

    root = root or str(load_pipeline(path, overrides).cache)
    report = import_features(source, root, feature, frame_rate=frame_rate, precision=precision)
    click.echo(
        f"{root}/{feature}/{report.fingerprint}: {report.count} imported, "
        f"{report.skipped} were there"
    )
    return _say_failed(report.failed)


def _opened(pipeline: "Pipeline", feature: str) -> "Folder":
    from extract.run import open_feature
    from ser.extraction import extraction_order, feature_job
    from ser.pipeline import read_manifest

    extraction_order(pipeline, [feature])  # says what is known when it is not
    return open_feature(feature_job(pipeline, read_manifest(pipeline), feature))


def _say_failed(failed: dict[str, str]) -> int:
    for utterance, reason in failed.items():
        click.echo(f"  {utterance}: {reason}")
    return exit_code(failed)


def _pipeline(root: str | None, path: Path, overrides: tuple[str, ...]) -> "Pipeline | None":
    """Read the pipeline; with a cache named, only if there is one."""
    return None if root and not path.exists() else load_pipeline(path, overrides)


def _cache(pipeline: "Pipeline | None") -> str:
    assert pipeline is not None  # _pipeline has raised where neither was given
    return str(pipeline.cache)


def _folders(root: str, features: tuple[str, ...]) -> "list[Folder]":
    from cache.upkeep import every_folder
    from corpus.errors import UserError

    folders = list(every_folder(root))
    names = {folder.name for folder in folders}
    for name in features:
        if name not in names:
            raise UserError(
                f"{root}: feature '{name}' is not in the cache; there are "
                f"{', '.join(sorted(names)) or 'none'}."
            )
    return [folder for folder in folders if not features or folder.name in features]


def _wanted(pipeline: "Pipeline") -> dict[tuple[str, str], tuple[int, int | None]]:
    """Name each feature's fingerprint, with what is still to be extracted of it."""
    from ser.extraction import fingerprints, forecast

    wanted: dict[tuple[str, str], tuple[int, int | None]] = {}
    for name, job in _jobs(pipeline):
        if job is not None:
            to_come = forecast(job)
            wanted |= {(name, fingerprint): to_come for fingerprint in fingerprints(job)}
    return wanted


def _jobs(pipeline: "Pipeline") -> "Iterator[tuple[str, Job | None]]":
    """Yield every feature and view with its extraction.

    Text waits for its transcripts: before there are any, its fingerprint is not known, and it has
    none here.
    """
    from cache.remote import StorageError
    from corpus.errors import UserError
    from ser.extraction import feature_job, with_views
    from ser.pipeline import read_manifest

    manifest = read_manifest(pipeline)
    for name in with_views(pipeline, list(pipeline.features)):
        try:
            yield name, feature_job(pipeline, manifest, name)
        except StorageError:  # not reached is not absent
            raise
        except UserError:
            yield name, None
