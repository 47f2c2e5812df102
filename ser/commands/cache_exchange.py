"""Features to and from other places: files of other programs, and the Hugging Face hub.

`ser cache export`, `import`, `push` and `pull`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from ser.commands.cache_info import cache_root
from ser.commands.help import Resuming, command
from ser.commands.logs import result
from ser.commands.options import PIPELINE, CacheFolder, Overrides, PipelineFile, load_pipeline
from ser.commands.output import exit_code
from ser.corpus.errors import UserError, plural

if TYPE_CHECKING:
    from ser.cache.features import FeatureCache
    from ser.cache.upkeep import Folder
    from ser.corpus.manifest import Manifest
    from ser.pipeline.file import Pipeline

app = typer.Typer()


@command(
    app, "ser cache export whisper whisper.h5\nser cache export whisper whisper.zarr --format zarr"
)
def export(
    feature: str,
    out: Path,
    *,
    form: Literal["hdf5", "zarr"] = "hdf5",
    view: bool = False,
    root: CacheFolder = None,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Write a feature to one HDF5 file or Zarr store.

    `ser cache import` reads it back. Exit code 1 when some utterances are damaged.

    Args:
        feature: Feature to export.
        out: File, or folder of a Zarr store, to write.
        form (--format): HDF5 has a dataset for each utterance, Zarr one array and the offsets in
            it.
        view: Point into the cache's shards instead of copying (HDF5 only).
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
    cls=Resuming,
)
def import_(
    feature: str,
    source: Path,
    *,
    frame_rate: float | None = None,
    precision: Literal["float16", "float32", "int8"] = "float16",
    frames: str | None = None,
    ids: str | None = None,
    lengths: str | None = None,
    offsets: str | None = None,
    root: CacheFolder = None,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> int:
    """Import arrays from elsewhere as a feature.

    In the pipeline, `FEATURE: {kind: imported}` then names it. Exit code 1 when some arrays cannot
    be used.

    Args:
        feature: Name that the feature gets.
        source: HDF5 file, Zarr store (v2, v3 or in a zip file), or folder of .npy, .pt or
            .safetensors files.
        frame_rate (HZ): Frames per second; by default what `ser cache export` has written.
        precision: Type that the values are stored as.
        frames (NAME): Zarr array with the frames of all utterances; by default its usual names are
            tried.
        ids (NAME): Zarr array with their utterance ids; by default as --frames.
        lengths (NAME): Zarr array with their numbers of frames; by default as --frames.
        offsets (NAME): Zarr array with the first frame of each utterance; by default as --frames.
    """
    from ser.cache.arrays import ArrayNames
    from ser.cache.exchange import import_features

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


@command(
    app,
    "ser cache push whisper hf:owner/ravdess-whisper\n"
    "ser cache push prosody hf:owner/calls-prosody --licence CC-BY-4.0 --private",
)
def push(
    feature: str,
    place: str,
    *,
    licence: str | None = None,
    private: bool = False,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> None:
    """Push a feature of the pipeline to the Hugging Face hub, with its card.

    Refused where the licence of the corpus forbids to pass on what is computed from it.

    Args:
        feature: Feature to push.
        place (hf:OWNER/NAME): Repository of data sets; created if it does not exist.
        licence (TEXT): Licence of the corpus, where ser does not know it; by default the one that
            its importer states.
        private: Create the repository as a private one.
    """
    from ser.cache.features import FeatureCache
    from ser.cache.hub import HubRepo
    from ser.cache.hub_features import push_feature
    from ser.packing.corpora import terms_of_features
    from ser.packing.hub_card import feature_card
    from ser.pipeline.file import read_manifest

    repo = HubRepo.parse(place, "feature")
    repo.require_writable()
    pipeline = load_pipeline(path, overrides)
    manifest = read_manifest(pipeline)
    terms = terms_of_features(pipeline.corpus.manifest, manifest, licence)
    cache = open_feature(pipeline, feature)
    if not isinstance(cache, FeatureCache):
        raise UserError(
            f"{cache.location}: '{feature}' holds transcripts; push a feature of frames."
        )
    _require_shareable(cache, manifest)
    commit = push_feature(cache, repo, feature_card(cache, manifest, terms, repo), private)
    count = plural(cache.index().height, "utterance")
    result(f"{repo}@{commit}: {count} pushed; `ser cache pull {repo}` gets them")


def _require_shareable(cache: "FeatureCache", manifest: "Manifest") -> None:
    """Raise `UserError` for utterances of another corpus, and for a model in a local folder."""
    others = set(cache.index()["utterance"]) - set(manifest.frame["utterance"])
    if others:
        raise UserError(
            f"{cache.location}: {plural(len(others), 'utterance')} in it, as '{min(others)}', are "
            "not in the manifest, so their licence is not known; extract this corpus to a cache of "
            "its own."
        )
    model = cache.metadata.get("model")
    if isinstance(model, str) and (Path(model).is_absolute() or Path(model).exists()):
        raise UserError(
            f"{cache.location}: its model is a folder of this machine ({model}), which others "
            "lack; extract with a model of the hub."
        )


@command(
    app,
    "ser cache pull hf:owner/ravdess-whisper\n"
    "ser cache pull hf:owner/ravdess-whisper@main --cache data/cache",
)
def pull(
    place: str,
    *,
    root: CacheFolder = None,
    path: PipelineFile = PIPELINE,
    overrides: Overrides = None,
) -> None:
    """Add a feature of the Hugging Face hub to the cache.

    All checksums are compared before it is added.

    Args:
        place (hf:OWNER/NAME): Repository, perhaps with @revision.
    """
    from ser.cache.hub import HubRepo
    from ser.cache.hub_features import pull_feature

    repo = HubRepo.parse(place, "feature")
    root = root or cache_root(load_pipeline(path, overrides))
    pulled = pull_feature(repo, root)
    result(
        f"{root}/{pulled.feature}/{pulled.fingerprint}: {plural(pulled.utterances, 'utterance')}, "
        f"checksums OK, {plural(pulled.new_shards, 'new shard')}"
    )


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
