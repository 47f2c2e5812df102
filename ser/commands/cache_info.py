"""The contents of `ser cache info`: each feature as it is cached, and what is missing of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from ser.extract.job import Job
    from ser.pipeline.file import Pipeline


@dataclass
class CachedFeature:
    """A feature in the cache, or one of the pipeline that is not extracted yet (no counts).

    `spec` is what its fingerprint is taken of. `missing` and `missing_bytes` are the utterances
    still to be extracted and the bytes they take, None where that is not known; both are estimates
    where fewer than the `expected` utterances of the corpus were `looked_at`. `used`: the pipeline
    names it; None without a pipeline.
    """

    feature: str
    fingerprint: str | None  # None for text before its transcripts exist
    spec: dict[str, object] | None = None
    utterances: int | None = None
    bytes: int | None = None
    shards: int | None = None
    failed: int | None = None
    missing: int | None = None
    missing_bytes: int | None = None
    looked_at: int | None = None
    expected: int | None = None
    used: bool | None = None

    @property
    def is_estimated(self) -> bool:
        """Return whether `missing` is an estimate."""
        return self.looked_at is not None and self.looked_at != self.expected


def cache_root(pipeline: "Pipeline | None") -> str:
    """Return the folder or URL of a pipeline's cache."""
    from ser.pipeline.file import cache_place

    assert pipeline is not None  # load_pipeline has raised where there is neither
    return str(cache_place(pipeline))


def cached_features(cache: str, pipeline: "Pipeline | None") -> list[CachedFeature]:
    """List every feature of a cache, then those of the pipeline that are not in it."""
    from ser.cache.upkeep import content, every_folder

    wanted = _wanted(pipeline) if pipeline else {}
    used = None if pipeline is None else False
    rows = []
    for folder in every_folder(cache):
        unused = CachedFeature(folder.name, folder.fingerprint, used=used)
        row = wanted.pop((folder.name, folder.fingerprint), unused)
        held = content(folder)
        row.spec = {"model": folder.metadata.get("model")} | folder.spec
        row.utterances, row.bytes = held.utterances, held.nbytes
        row.shards, row.failed = held.shards, held.failed
        rows.append(row)
    return [*rows, *wanted.values()]


def info_table(rows: list[CachedFeature]) -> "pl.DataFrame":
    """Return the features as a table of text."""
    import polars as pl

    return pl.DataFrame(
        [
            {
                "feature": row.feature,
                "utterances": None if row.utterances is None else f"{row.utterances:,}",
                "size": None if row.bytes is None else size(row.bytes),
                "shards": row.shards,
                "failed": row.failed,
                "missing": _missing(row),
                "used": None if row.used is None else "yes" if row.used else "no",
            }
            for row in rows
        ],
        infer_schema_length=None,
    )


def _missing(row: CachedFeature) -> str | None:
    if row.used and not row.utterances and not row.missing:
        return "all"  # without the audio or the transcripts they cannot be counted
    if row.missing is None:
        return None
    if not row.missing:
        return "none found" if row.is_estimated else "none"
    space = "" if row.missing_bytes is None else f", about {size(row.missing_bytes)}"
    return f"{'about ' if row.is_estimated else ''}{row.missing:,}{space}"


def size(nbytes: int) -> str:
    """Return a number of bytes in the largest unit that fits, in powers of ten."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if nbytes >= scale:
            return f"{nbytes / scale:.1f} {unit}"
    return f"{nbytes / 1e3:.1f} kB"


def describe_spec(spec: dict[str, object] | None) -> str:
    """Return the model and options of a feature in one line."""
    if spec is None:
        return "not extracted yet"
    return ", ".join(f"{key} {value}" for key, value in spec.items() if value is not None)


def _wanted(pipeline: "Pipeline") -> dict[tuple[str, str | None], CachedFeature]:
    """Map each feature and fingerprint of the pipeline to what is still to be extracted of it."""
    from ser.extract.forecast import fingerprints, forecast

    wanted: dict[tuple[str, str | None], CachedFeature] = {}
    for name, job in feature_jobs(pipeline):
        if job is None:
            wanted[name, None] = CachedFeature(name, None, used=True)
            continue
        work = forecast(job)
        for fingerprint in fingerprints(job):
            wanted[name, fingerprint] = CachedFeature(
                name,
                fingerprint,
                missing=work.utterances,
                missing_bytes=work.nbytes,
                looked_at=work.looked_at,
                expected=work.expected,
                used=True,
            )
    return wanted


def feature_jobs(pipeline: "Pipeline") -> "Iterator[tuple[str, Job | None]]":
    """Yield every feature and view with its extraction.

    Text waits for its transcripts: before they exist its fingerprint is not known, and its job is
    None.
    """
    from ser.cache.remote import StorageError
    from ser.corpus.errors import UserError
    from ser.pipeline.file import read_manifest
    from ser.pipeline.jobs import feature_job
    from ser.stages.extract import with_views

    manifest = read_manifest(pipeline)
    for view in with_views(pipeline, list(pipeline.features)):
        try:
            yield view.name, feature_job(pipeline, manifest, *view)
        except StorageError:  # not reached is not absent
            raise
        except UserError:
            yield view.name, None
