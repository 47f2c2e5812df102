"""Fine-tune a model on a run's corpus; what comes of it is a feature, and a head.

    runs/<run>/finetuned/<name>/   config.json, model.safetensors, preprocessor or tokenizer:
                                   `model:` of a feature; adapter/ has LoRA's adapters by themselves
    runs/<run>/heads/<name>/       history.csv, head.safetensors, logits.h5 and last head.json, as
                                   any other head has them

The weights are saved with adapters merged, and the logits are those of the saved weights. It is
current when its fingerprint is: its config, the digest of the weights it began with, the labels,
and of each clip its span and size (not its content: that would read the corpus at every look).
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from cache.files import fingerprint, write_durably
from cache.logits import HeadLogits
from corpus.check import require_speaker_disjoint
from corpus.errors import UserError
from corpus.manifest import Manifest
from extract.extractor import parse_options
from extract.models import Weights, resolve
from extract.run import described_options
from extract.sources import Sources
from heads.fit import save_weights, split_logits
from heads.job import by_split, labels_digest, read_done
from heads.run import HeadReport, Progress
from heads.training.checkpoint import Checkpoint
from heads.training.losses import outputs_of
from heads.training.targets import Labelled, count_genders, labelled
from heads.training.tracking import tracked
from heads.training.trainer import Trained, dev_scores
from score.report.provenance import PACKAGES, machine, versions
from ser.finetune.clips import Clips
from ser.finetune.config import FineTuneConfig
from ser.finetune.module import FineTuned
from ser.finetune.processes import Processes
from ser.finetune.trainer import FineTuner, Kept, answered

VERSION = 1  # raise it when a change of code changes the numbers
AfterEpoch = Callable[[Progress], None]


@dataclass(frozen=True)
class FineTuneJob:
    """Say what to fine-tune: a named model on the clips or texts of a corpus, into a run.

    `transcripts` is the fingerprint of those that a text model reads, if they were recognised.
    """

    run: Path
    name: str
    config: FineTuneConfig
    manifest: Manifest
    sources: Sources
    transcripts: str | None = None

    @property
    def model_folder(self) -> Path:
        """Return where the model is saved."""
        return self.run / "finetuned" / self.name

    @property
    def head_folder(self) -> Path:
        """Return where its head is saved."""
        return self.run / "heads" / self.name


def fine_tune(
    job: FineTuneJob,
    processes: Processes | None = None,
    *,
    force: bool = False,
    after_epoch: AfterEpoch = lambda progress: None,
) -> HeadReport:
    """Fine-tune, unless what there is is current; go on where a training was interrupted.

    Every process of a group calls it. Raises `UserError` for a speaker in two splits, an empty
    train split, weights that are not to be had, or a loss that is no longer a number.
    """
    processes = processes or Processes()
    started, said = time.monotonic(), job.config.training
    require_speaker_disjoint(job.manifest)
    weights = resolve(job.config.model)
    sizes = job.sources.sizes()
    usable = [u for u in job.manifest.utterances() if u in sizes]
    made_from = _made_from(job, weights, sizes, usable)
    done, mark = read_done(job.run, job.name), fingerprint(made_from)
    processes.wait()  # or one could see what another writes
    if (
        done.get("fingerprint") == mark
        and (job.model_folder / "config.json").exists()
        and not force
    ):
        score, epochs = done["score"], done["epochs"]
        return HeadReport(job.name, "current", score, said.chosen_by, epochs, done["seconds"])

    def told(row: Mapping[str, Any]) -> None:
        score, epoch = row.get(f"dev_{said.chosen_by}"), int(row["epoch"]) + 1
        epochs = sum(stage.epochs for stage in said.stages)
        passed = time.monotonic() - started
        after_epoch(Progress(job.name, None, epoch, epochs, score, passed))

    rows = {s: labelled(said, job.manifest, us) for s, us in by_split(job.manifest, usable).items()}
    if "train" not in rows:
        raise UserError(
            f"{job.manifest.source}: no utterance of the train split can be read; mark some rows "
            "with split 'train' that have audio, or words."
        )
    tuner = tuner_of(job, weights, rows, processes)
    trained = _trained(job, tuner, mark, told)
    done = _results(job, tuner, trained, rows, made_from)
    done |= {"seconds": round(time.monotonic() - started, 1)}
    if processes.first:
        write_durably(job.head_folder / "head.json", json.dumps(done, indent=1))
        for path in job.head_folder.glob(".*.checkpoint*"):
            path.unlink()
    processes.wait()
    return HeadReport(
        job.name, "trained", done["score"], said.chosen_by, done["epochs"], done["seconds"]
    )


def tuner_of(
    job: FineTuneJob, weights: Weights, rows: Mapping[str, Labelled], processes: Processes
) -> FineTuner:
    """Return the trainer of a job; `rows` are those of each split that can be read."""
    config, genders = job.config, count_genders(job.config.training, job.manifest)
    outputs = outputs_of(config.training, len(job.manifest.classes), genders)
    module = FineTuned.build(job.name, config, weights, outputs)
    train = rows["train"]
    pin = processes.device.type == "cuda"
    return FineTuner(
        config,
        module,
        Clips(config, module.encoder, job.sources, train, pin),
        job.manifest.classes,
        train=train,
        dev=rows.get("dev", train.take([])),
        genders=genders,
        processes=processes,
    )


def _trained(
    job: FineTuneJob, tuner: FineTuner, mark: str, told: Callable[[Mapping[str, Any]], None]
) -> Trained:
    """Train, or go on with it; only the first process writes and tells."""
    folder, first = job.head_folder, tuner.processes.first
    # of another number of processes, another training: each has its own batches
    mark = f"{mark} of {tuner.processes.size}"
    epoch, step = (Checkpoint(folder / f".{at}.checkpoint", mark) for at in ("epoch", "step"))
    if not first:
        epoch, step = _ReadOnly(epoch.path, mark), _ReadOnly(step.path, mark)
        return tuner.fit(to=Kept(epoch, step))
    folder.mkdir(parents=True, exist_ok=True)
    with tracked(job.config.training, folder, "head") as track:

        def heard(row: Mapping[str, Any]) -> None:
            track(row)
            told(row)

        return tuner.fit(heard, Kept(epoch, step))


class _ReadOnly(Checkpoint):
    """Read what the first process wrote."""

    def write(self, state: dict[str, Any], now: bool = False) -> None:
        """Write nothing."""


def _results(
    job: FineTuneJob,
    tuner: FineTuner,
    trained: Trained,
    rows: Mapping[str, Labelled],
    made_from: dict[str, Any],
) -> dict[str, Any]:
    """Score every split with what is kept, write all but the marker; return what that says."""
    module, config, first = tuner.kept, job.config, tuner.processes.first
    learned = sum(p.numel() for p in tuner.module.trainable())
    part = job.model_folder.with_name(f".{job.name}.part")
    if first:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    module.merge(part / "adapter" if first else None)
    said = {split: _heard(tuner, known) for split, known in rows.items()}
    if first:
        (job.head_folder / "head.json").unlink(missing_ok=True)
        module.to("cpu").encoder.save(part)
        shutil.rmtree(job.model_folder, ignore_errors=True)
        part.rename(job.model_folder)
        save_weights(job.head_folder / "head.safetensors", module.head.state_dict())
        history = pl.DataFrame(trained.history)
        write_durably(job.head_folder / "history.csv", history.write_csv())
        _write_logits(job, said, made_from)
    dev = dev_scores(*said["dev"]) if "dev" in said else {}
    return {
        "head": job.name,
        "kind": "finetuned",
        "fingerprint": fingerprint(made_from),
        "made_from": made_from | {"features": _feature(job) if first else {}},
        "model": config.model_dump(mode="json", exclude={"training"}),
        "config": config.training.model_dump(mode="json"),
        "frames": {job.name: list(module.encoder.item_shape)},
        "outputs": tuner.outputs,
        "weights": ["head"],
        "trainable_parameters": learned,
        "parameters": sum(p.numel() for p in module.parameters()),
        "best_epochs": {"head": trained.best_epoch},
        "score": dev.get(f"dev_{config.training.chosen_by}", trained.best_score),
        "dev": dev,
        "failed": _failed(job, tuner, said),
        "epochs": len(trained.history),
        "processes": tuner.processes.size,
        "machine": machine() | {"device": tuner.device.type},
        "versions": versions((*PACKAGES, "peft", "accelerate")),
    }


def _heard(tuner: FineTuner, known: Labelled) -> tuple[Labelled, dict[str, Any]]:
    """Return the rows of a split that could be read, and what is said of them."""
    outputs = tuner.predict(known.utterances)
    heard = answered(outputs)
    return known.take(heard.nonzero()[0]), {name: of[heard] for name, of in outputs.items()}


def _write_logits(
    job: FineTuneJob, said: Mapping[str, tuple[Labelled, Any]], made_from: Mapping[str, Any]
) -> None:
    training = job.config.training
    rows = {
        split: split_logits(known, of, "in-sample" if split == "train" else "held-out")
        for split, (known, of) in said.items()
    }
    HeadLogits(
        head=job.name,
        classes=job.manifest.classes,
        fingerprint=fingerprint(dict(made_from)),
        features={job.config.model: made_from["weights"]},
        splits=rows,
        attributes=training.attributes if "attributes" in training.gives else (),
    ).write(job.head_folder / "logits.h5")


def _made_from(
    job: FineTuneJob, weights: Weights, sizes: Mapping[str, int], usable: Sequence[str]
) -> dict[str, Any]:
    config = job.config
    spans = job.manifest.frame.select("utterance", "path", "start", "end").iter_rows()
    clips = [(*row, sizes[row[0]]) for row in spans if row[0] in sizes]
    said = config.model_dump(mode="json", exclude={"training", "model"})
    if not config.join:
        del said["join"]  # what was made before there was one is still current
    training = config.training.model_dump(mode="json", exclude_defaults=True, exclude={"log"})
    return {
        "version": VERSION,
        "config": training,
        "model": said,
        "weights": weights.digest,
        "classes": list(job.manifest.classes),
        "labels": labels_digest(config.training, job.manifest, usable),
        "clips": hashlib.sha256(repr(clips).encode()).hexdigest(),
        "transcripts": job.transcripts,
    }


def _failed(
    job: FineTuneJob, tuner: FineTuner, said: Mapping[str, tuple[Labelled, Any]]
) -> dict[str, str]:
    """Say what there are no logits of, and why."""
    heard = {u for known, _ in said.values() for u in known.utterances}
    reasons = job.sources.unusable | tuner.clips.failed
    absent = [u for u in job.manifest.utterances() if u not in heard]
    return {u: reasons.get(u, "another process could not read it") for u in absent}


def _feature(job: FineTuneJob) -> dict[str, str]:
    """Return the fingerprint that the saved model has as a feature: what the head was made of."""
    options = parse_options(job.config.as_feature(str(job.model_folder)))
    spec = described_options(options, job.transcripts)
    return {job.name: fingerprint(spec | {"weights": resolve(str(job.model_folder)).digest})}
