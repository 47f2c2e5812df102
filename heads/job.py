"""A job of training heads, and the spec that the fingerprint of each is taken of."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from ser.cache.features import FeatureCache
from ser.cache.files import fingerprint
from ser.cache.reader import Clip, Clips, FeatureInput, require
from ser.corpus.columns import FURTHER, VOTE
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.heads.config import HeadConfig
from ser.heads.feature_use import PRIOR_CLIPS

Spec = dict[str, object]  # plain values
Views = Mapping[str, Mapping[str, FeatureCache]]  # feature -> view -> its cache
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
        for name, head in self.heads.items():
            if head.config.views:
                require_views(name, head.caches, self.views, head.config.views)

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
    def caches(self) -> dict[str, FeatureCache]:
        """The features of the head, clean."""
        return {f: self.job.features[f] for f in self.config.feature_names}

    @cached_property
    def views(self) -> Views:
        """The views of each feature that the head reads."""
        read = {f: self.job.views.get(f, {}) for f in self.caches}
        names = self.config.views
        return {f: {v: views[v] for v in names if v in views} for f, views in read.items()}

    @cached_property
    def spec(self) -> Spec:
        """Everything that the head's numbers depend on."""
        config, job, caches = self.config, self.job, self.caches
        inputs = {f: FeatureInput(cache, views=self.views[f]) for f, cache in caches.items()}
        spec: Spec = {
            "version": VERSION,
            "config": config.spec(),
            "classes": list(job.manifest.classes),
            "labels": labels_digest(config, job.manifest, job.usable),
            "features": {f: cache.fingerprint for f, cache in caches.items()},
            "rows": _rows_digests(inputs, job.usable),
        }
        if any(use.normalize == "speaker" for use in config.features):
            spec["speaker_prior"] = PRIOR_CLIPS
        spec |= revision_spec(config)
        if config.init is not None and config.init.is_file():
            spec["init"] = hashlib.sha256(config.init.read_bytes()).hexdigest()
        if config.views:
            train = job.splits.get("train", [])
            spec["views"] = {
                f: {view: cache.fingerprint for view, cache in views.items()}
                for f, views in self.views.items()
            }
            drawn = [Clip(utterance, view) for view in config.views for utterance in train]
            spec["view_rows"] = _rows_digests(inputs, drawn)
        return spec

    @cached_property
    def fingerprint(self) -> str:
        """The hash of the spec."""
        return fingerprint(self.spec)


def require_views(
    head: str, features: Mapping[str, FeatureCache], views: Views, names: Sequence[str]
) -> None:
    """Raise `UserError` for a view that no feature has, or that was extracted by other weights."""
    for view in names:
        having = {f: views[f][view] for f in features if view in views.get(f, {})}
        if not having:
            raise UserError(
                f"heads.{head}.views: none of its features has the view '{view}'; put it under "
                "`augment:` of one and extract it, or leave it out."
            )
        for feature, cache in having.items():
            if _weights(cache) != _weights(features[feature]):
                raise UserError(
                    f"{cache.location}: the weights are not those of "
                    f"{features[feature].location}, whose view it is; run `ser extract {feature}`."
                )


def _weights(cache: FeatureCache) -> object:
    return cache.spec.get("weights")


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


def _rows_digests(inputs: Mapping[str, FeatureInput], clips: Clips) -> dict[str, str]:
    """Hash the checksums of clips in each feature."""
    digests = {}
    for name, places in require(inputs, clips).items():
        checksums = np.empty(len(places), "<u4")
        for cache, at, rows in inputs[name].by_cache(places):
            checksums[at] = cache.snapshot().crc32c[rows]
        digests[name] = hashlib.sha256(checksums.tobytes()).hexdigest()
    return digests


def by_split(manifest: Manifest, usable: Sequence[str]) -> dict[str, list[str]]:
    """Return the utterances of each split that has any, in the order given."""
    splits: dict[str, list[str]] = {}
    for utterance, split in zip(usable, manifest.column("split", usable), strict=True):
        splits.setdefault(split, []).append(utterance)
    return splits
