"""`ser cache export` and `ser cache import`: features to and from files of other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ser.commands.cache_info import cache_root
from ser.commands.help import argument, command, flag, option
from ser.commands.logs import result
from ser.commands.options import PIPELINE, CacheFolder, Overrides, PipelineFile, load_pipeline
from ser.commands.output import exit_code
from ser.corpus.errors import UserError, plural

if TYPE_CHECKING:
    from ser.cache.upkeep import Folder
    from ser.pipeline.file import Pipeline

app = typer.Typer()


@command(
    app, "ser cache export whisper whisper.h5\nser cache export whisper whisper.zarr --format zarr"
)
def export(
    feature: Annotated[str, argument("FEATURE", "Feature to export.")],
    out: Annotated[Path, argument("OUT", "File, or folder of a Zarr store, to write.")],
    *,
    form: Annotated[
        Literal["hdf5", "zarr"],
        flag(
            "--format",
            "HDF5 has a dataset for each utterance, Zarr one array and the offsets in it.",
        ),
    ] = "hdf5",
    view: Annotated[
        bool, flag("--view", "Point into the cache's shards instead of copying (HDF5 only).")
    ] = False,
    root: CacheFolder = None,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Write a feature to one HDF5 file or Zarr store.

    `ser cache import` reads it back. Exit code 1 when some utterances are damaged.
    """
    from ser.cache.exchange import export_hdf5
    from ser.cache.features import FeatureCache
    from ser.cache.zarr_export import export_zarr

    if view and form == "zarr":
        raise UserError("--view: only an HDF5 file can point into the cache; leave it out.")
    if root:
        opened: Folder = FeatureCache.open(root, feature)
    else:
        opened = open_feature(load_pipeline(path, overrides), feature)
    if not isinstance(opened, FeatureCache):
        raise UserError(
            f"{opened.location}: '{feature}' holds transcripts, not frames; read data/*.parquet "
            "in it."
        )
    report = export_zarr(opened, out) if form == "zarr" else export_hdf5(opened, out, view)
    result(f"{out}: {plural(report.count, 'utterance')}")
    return _list_failed(report.failed)


@command(
    app,
    "ser cache import mine features.h5 --frame-rate 50\n"
    "ser cache import mine folder_of_npy --frame-rate 50 --precision float32\n"
    "ser cache import mine store.zarr --frame-rate 50 --frames hidden --ids file",
    name="import",
)
def import_(
    feature: Annotated[str, argument("FEATURE", "Name that the feature gets.")],
    source: Annotated[
        Path,
        argument(
            "SOURCE",
            "HDF5 file, Zarr store (v2, v3 or in a zip file), or folder of .npy, .pt or "
            ".safetensors files.",
        ),
    ],
    *,
    frame_rate: Annotated[
        float | None,
        option("HZ", "Frames per second; by default what `ser cache export` has written."),
    ] = None,
    precision: Annotated[
        Literal["float16", "float32", "int8"],
        typer.Option(help="Type that the values are stored as."),
    ] = "float16",
    frames: Annotated[
        str | None,
        option(
            "NAME",
            "Zarr array with the frames of all utterances; by default its usual names are tried.",
        ),
    ] = None,
    ids: Annotated[
        str | None, option("NAME", "Zarr array with their utterance ids; by default as --frames.")
    ] = None,
    lengths: Annotated[
        str | None,
        option("NAME", "Zarr array with their numbers of frames; by default as --frames."),
    ] = None,
    offsets: Annotated[
        str | None,
        option(
            "NAME", "Zarr array with the first frame of each utterance; by default as --frames."
        ),
    ] = None,
    root: CacheFolder = None,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Import arrays from elsewhere as a feature.

    In the pipeline, `FEATURE: {kind: imported}` then names it. Exit code 1 when some arrays cannot
    be used.
    """
    from ser.cache.exchange import import_features
    from ser.cache.zarr_import import ArrayNames

    root = root or cache_root(load_pipeline(path, overrides))
    names = ArrayNames(frames=frames, lengths=lengths, offsets=offsets, ids=ids)
    report = import_features(
        source, root, feature, frame_rate=frame_rate, precision=precision, names=names
    )
    result(
        f"{root}/{feature}/{report.fingerprint}: {report.count} imported, {report.skipped} already "
        "cached"
    )
    return _list_failed(report.failed)


def open_feature(pipeline: "Pipeline", feature: str) -> "Folder":
    """Open what is cached of a feature of the pipeline."""
    from ser.extract.job import open_feature
    from ser.pipeline.file import read_manifest
    from ser.pipeline.jobs import feature_job
    from ser.stages.extract import extraction_order

    extraction_order(pipeline, [feature])  # raises with the names of the features for another one
    return open_feature(feature_job(pipeline, read_manifest(pipeline), feature))


def _list_failed(failed: dict[str, str]) -> int:
    for utterance, reason in failed.items():
        result(f"  {utterance}: {reason}")
    return exit_code(failed)
