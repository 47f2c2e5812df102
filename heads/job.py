"""A job of training heads, and the spec that the fingerprint of each is taken of."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import polars as pl

from ser.cache.features import FeatureCache
from ser.cache.files import fingerprint
from ser.corpus.manifest import FURTHER, VOTE, Manifest
from ser.heads.config import PRIOR_CLIPS, HeadConfig
from ser.heads.training.views import Views, join_views, require_views, view_rows

Spec = dict[str, object]  # plain values
VERSION = 2  # raise it when a change of code changes the numbers


@dataclass(frozen=True)
class HeadsJob:
    """Heads to train on a corpus, and where their features and the views of these are.

    What it finds in the caches, it finds once: a job is of one moment. Raises `UserError` for a
    view that none of a head's features has, or of other weights.
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

    @cached_property
    def usable(self) -> list[str]:
        """The utterances that no feature failed for; see `usable_utterances`."""
        return usable_utterances(self.manifest, self.features.values())

    @cached_property
    def splits(self) -> dict[str, list[str]]:
        """The usable utterances of each split that has any."""
        return by_split(self.manifest, self.usable)

    @cached_property
    def heads(self) -> dict[str, "HeadJob"]:
        """The training of each head."""
        return {name: HeadJob(self, name, config) for name, config in self.configs.items()}

    def read_by(self, name: str) -> dict[str, FeatureCache]:
        """Return the features of a head, clean."""
        return {f: self.features[f] for f in self.configs[name].feature_names}


@dataclass(frozen=True)
class HeadJob:
    """The training of one head of a job."""

    job: HeadsJob
    name: str
    config: HeadConfig

    @property
    def folder(self) -> Path:
        """Return the folder of the head in the run."""
        return self.job.run / "heads" / self.name

    @cached_property
    def caches(self) -> Mapping[str, FeatureCache]:
        """What the head reads its features from, with rows of its views if it has any."""
        clean, names = self.job.read_by(self.name), self.config.views
        return join_views(clean, self.job.views, names, self._train) if names else clean

    @cached_property
    def spec(self) -> Spec:
        """Everything that the head's numbers depend on."""
        config, job, caches = self.config, self.job, self.caches
        spec: Spec = {
            "version": VERSION,
            # without defaults, so that a head does not go stale when there is a new option
            "config": config.model_dump(
                mode="json", exclude_defaults=True, exclude={"init", "log"}
            ),
            "classes": list(job.manifest.classes),
            "labels": labels_digest(config, job.manifest, job.usable),
            "features": {f: cache.fingerprint for f, cache in caches.items()},
            "rows": {f: _rows_digest(cache, job.usable) for f, cache in caches.items()},
        }
        if any(use.normalize == "speaker" for use in config.features):
            spec["speaker_prior"] = PRIOR_CLIPS
        spec |= revision_spec(config)
        if config.init is not None and config.init.is_file():
            spec["init"] = hashlib.sha256(config.init.read_bytes()).hexdigest()
        if config.views:
            drawn = view_rows(config.views, self._train)
            spec["views"] = {
                f: {v: c.fingerprint for v, c in job.views.get(f, {}).items() if v in config.views}
                for f in caches
            }
            spec["view_rows"] = {f: _rows_digest(cache, drawn) for f, cache in caches.items()}
        return spec

    @cached_property
    def fingerprint(self) -> str:
        """The hash of the spec."""
        return fingerprint(self.spec)

    @property
    def _train(self) -> list[str]:
        return self.job.splits.get("train", [])


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
