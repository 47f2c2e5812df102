"""A fine-tuning: a model, the corpus, the run, and the spec that its fingerprint is taken of.

The fingerprint covers the config, the digest of the initial weights, the labels, and each clip's
span and size (not its content, which would mean reading the corpus at every check).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ser.cache.files import fingerprint
from ser.corpus.manifest import Manifest
from ser.extract.extractor import parse_options
from ser.extract.job import Spec, options_spec
from ser.extract.models import Weights, resolve
from ser.extract.sources import Sources
from ser.finetune.config import FineTuneConfig
from ser.heads.job import labels_digest, revision_spec

VERSION = 1  # raise it when a change of code changes the numbers


@dataclass(frozen=True)
class FineTuneJob:
    """A model to fine-tune on the clips or texts of a corpus, and the run to write to.

    `transcripts` is the fingerprint of the recognised transcripts that a text model reads.
    """

    run: Path
    name: str
    config: FineTuneConfig
    manifest: Manifest
    sources: Sources
    transcripts: str | None = None
    groups: Sequence[str] = ()  # columns of the manifest that scores are split by

    @property
    def model_folder(self) -> Path:
        """The folder that the model is saved in."""
        return self.run / "finetuned" / self.name

    @property
    def head_folder(self) -> Path:
        """The folder that its head is saved in."""
        return self.run / "heads" / self.name


def finetune_spec(
    job: FineTuneJob, weights: Weights, sizes: Mapping[str, int], usable: Sequence[str]
) -> Spec:
    """Return what the fingerprint is taken of; `sizes` and `usable` are of the readable clips."""
    config = job.config
    spans = job.manifest.frame.select("utterance", "path", "start", "end").iter_rows()
    clips = [(*row, sizes[row[0]]) for row in spans if row[0] in sizes]
    model = config.model_dump(mode="json", exclude={"training", "model"})
    # without options at their default: models from before these counted stay up to date
    model["augment"] = {
        name: {"seed": view.seed} | view.model_dump(mode="json", exclude_defaults=True)
        for name, view in config.augment.items()
    }
    if not config.join:
        del model["join"]  # so that models from before this option stay up to date
    training = config.training.model_dump(mode="json", exclude_defaults=True, exclude={"log"})
    return {
        "version": VERSION,
        "config": training,
        "model": model,
        "weights": weights.digest,
        "classes": list(job.manifest.classes),
        "labels": labels_digest(config.training, job.manifest, usable),
        "clips": hashlib.sha256(repr(clips).encode()).hexdigest(),
        "transcripts": job.transcripts,
        **revision_spec(config.training),
    }


def feature_fingerprint(job: FineTuneJob) -> dict[str, str]:
    """Return the fingerprint of the saved model as a feature, which the head was trained on."""
    options = parse_options(job.config.as_feature(str(job.model_folder)))
    feature = options_spec(options, job.transcripts)
    return {job.name: fingerprint(feature | {"weights": resolve(str(job.model_folder)).digest})}
