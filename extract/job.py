"""A feature of a corpus as a job: what its fingerprint is taken of, and where it is cached."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ser.cache.features import FeatureCache
from ser.cache.transcripts import TranscriptCache
from ser.corpus.augment import View
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.extract.extractor import EXTRACTORS, Extractor, FeatureOptions
from ser.extract.models import Weights, resolve

Spec = dict[str, object]  # plain values


@dataclass(frozen=True)
class Job:
    """A named feature of a corpus, and the cache that it is extracted into."""

    name: str
    options: FeatureOptions
    manifest: Manifest
    audio: Path
    cache: str | Path  # a folder, or a URL
    transcripts: TranscriptCache | None = None  # what `of:` names, for kind text
    view: View | None = None  # extract changed clips instead

    @cached_property
    def extractor(self) -> type[Extractor]:
        """The class of its kind."""
        return EXTRACTORS.get(self.options.kind)

    @property
    def cache_class(self) -> type[FeatureCache] | type[TranscriptCache]:
        """The class of cache that it fills."""
        return TranscriptCache if self.extractor.gives == "transcripts" else FeatureCache

    @cached_property
    def spec(self) -> Spec:
        """Everything that changes the numbers, except for the weights.

        Options at their default are left out, so that a new option whose default is what was done
        before leaves every cache as it is; changing a default means raising the extractor's
        version.
        """
        words = None if self.transcripts is None else self.transcripts.fingerprint
        view = {} if self.view is None else {"view": self.view.spec()}
        return options_spec(self.options, words) | view


def options_spec(options: FeatureOptions, transcripts: str | None = None) -> Spec:
    """Return the spec of a clean feature; `transcripts` is the fingerprint of its words."""
    spec: Spec = options.model_dump(exclude=set(options.unnamed), exclude_defaults=True)
    spec["version"] = EXTRACTORS.get(options.kind).version
    return spec | ({"transcripts": transcripts} if transcripts is not None else {})


def full_spec(job: Job, download: bool = True) -> tuple[Spec, Weights | None]:
    """Return everything that changes the numbers, and where the weights are."""
    model = job.options.weights
    if model is None:
        return job.spec, None
    weights = resolve(model, download)
    return job.spec | {"weights": weights.digest}, weights


def open_feature(job: Job) -> FeatureCache | TranscriptCache:
    """Open the cache of a job: by its fingerprint if the weights are on this machine.

    A machine that trains heads needs no weights; there, the only cached folder that agrees with the
    options is opened. Raises `UserError` when there is none, or not just one.
    """
    kind = job.cache_class
    try:
        spec, _ = full_spec(job, download=False)
    except UserError:
        return kind.open(job.cache, job.name, job.spec)
    existing = kind.existing(job.cache, job.name, spec)
    return kind.open(job.cache, job.name, spec) if existing is None else existing
