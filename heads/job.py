"""A job of training heads, and the spec that the fingerprint of each is taken of."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ser.cache.features import FeatureCache
from ser.corpus.manifest import FURTHER, VOTE, Manifest
from ser.heads.config import PRIOR_CLIPS, HeadConfig
from ser.heads.training.views import Views, join_views, require_views, view_rows

VERSION = 2  # raise it when a change of code changes the numbers


@dataclass(frozen=True)
class HeadsJob:
    """Heads to train on a corpus, and where their features and the views of these are.

    Raises `UserError` for a view that none of a head's features has, or of other weights.
    """

    run: Path
    configs: Mapping[str, HeadConfig]
    manifest: Manifest
    features: Mapping[str, FeatureCache]
    views: Views = field(default_factory=dict)
    groups: Sequence[str] = ()  # columns of the manifest that scores are split by

    def __post_init__(self) -> None:
        for name, config in self.configs.items():
            if config.views:
                require_views(name, self.read_by(name), self.views, config.views)

    def usable(self) -> list[str]:
        """List the utterances that no feature failed for; see `usable_utterances`."""
        return usable_utterances(self.manifest, self.features.values())

    def read_by(self, name: str) -> dict[str, FeatureCache]:
        """Return the features of a head, clean."""
        return {f: self.features[f] for f in self.configs[name].feature_names}


def usable_utterances(manifest: Manifest, features: Iterable[FeatureCache]) -> list[str]:
    """List the utterances that no feature failed for, in the order of the manifest.

    Raises `UserError` for an utterance that is neither cached nor listed as failed.
    """
    caches, failed = list(features), set[str]()
    for cache in caches:
        failed |= set(cache.failed()["utterance"])
    usable = [u for u in manifest.utterances() if u not in failed]
    for cache in caches:
        cache.require(usable)
    return usable


def open_features(job: HeadsJob, name: str, usable: Sequence[str]) -> Mapping[str, FeatureCache]:
    """Return what a head reads its features from, with rows of its views if it has any."""
    views, clean = job.configs[name].views, job.read_by(name)
    if not views:
        return clean
    return join_views(clean, job.views, views, by_split(job.manifest, usable).get("train", []))


def head_spec(
    job: HeadsJob, name: str, usable: Sequence[str], caches: Mapping[str, FeatureCache]
) -> dict[str, Any]:
    """Return everything that a head's numbers depend on; its hash is the head's fingerprint."""
    config = job.configs[name]
    spec: dict[str, Any] = {
        "version": VERSION,
        # without defaults, so that a head does not go stale when there is a new option
        "config": config.model_dump(mode="json", exclude_defaults=True, exclude={"init", "log"}),
        "classes": list(job.manifest.classes),
        "labels": labels_digest(config, job.manifest, usable),
        "features": {f: cache.fingerprint for f, cache in caches.items()},
        "rows": {f: _rows_digest(cache, usable) for f, cache in caches.items()},
    }
    if any(use.normalize == "speaker" for use in config.features):
        spec["speaker_prior"] = PRIOR_CLIPS
    spec |= revision_spec(config)
    if config.init is not None and config.init.is_file():
        spec["init"] = hashlib.sha256(config.init.read_bytes()).hexdigest()
    if config.views:
        drawn = view_rows(config.views, by_split(job.manifest, usable).get("train", []))
        spec["views"] = {
            f: {v: c.fingerprint for v, c in job.views.get(f, {}).items() if v in config.views}
            for f in caches
        }
        spec["view_rows"] = {f: _rows_digest(cache, drawn) for f, cache in caches.items()}
    return spec


def revision_spec(config: HeadConfig) -> dict[str, int]:
    """Return the revision of the head's architecture, nothing for the first."""
    revision = config.architecture.revision
    return {"revision": revision} if revision > 1 else {}


def labels_digest(config: HeadConfig, manifest: Manifest, usable: Sequence[str]) -> str:
    """Hash all that a head learns from the manifest about the usable utterances."""
    rows = manifest.frame.filter(pl.col("utterance").is_in(list(usable)))
    labels = rows.select("utterance", "split", "speaker", "emotion", *_learned(config, rows))
    return hashlib.sha256(labels.write_csv().encode()).hexdigest()


def _learned(config: HeadConfig, rows: pl.DataFrame) -> list[str]:
    """Name the columns of the manifest that a head learns from, beside the emotion."""
    columns: list[str] = list(config.attributes) if "attributes" in config.reads else []
    columns += ["gender"] if "gender" in config.reads else []
    prefixes = (VOTE, FURTHER) if config.votes.secondary else (VOTE,)
    if "votes" in config.reads:
        columns += [column for column in rows.columns if column.startswith(prefixes)]
    return columns


def _rows_digest(cache: FeatureCache, utterances: Sequence[str]) -> str:
    checksums = cache.snapshot().crc32c[cache.require(utterances)].astype("<u4")
    return hashlib.sha256(checksums.tobytes()).hexdigest()


def by_split(manifest: Manifest, usable: Sequence[str]) -> dict[str, list[str]]:
    """Return the utterances of each split that has any, in the order given."""
    splits: dict[str, list[str]] = {}
    for utterance, split in zip(usable, manifest.column("split", usable), strict=True):
        splits.setdefault(split, []).append(utterance)
    return splits
