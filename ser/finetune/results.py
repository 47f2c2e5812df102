"""The results of a fine-tuning: the saved model, its head, the logits and the record."""

import time
from collections.abc import Mapping

import polars as pl

from ser.cache.files import fingerprint
from ser.cache.swap import replace_folder
from ser.corpus.atomic import clear, keep_umask, remove
from ser.corpus.machine import PACKAGES, machine, versions
from ser.extract.job import Spec
from ser.finetune.batches import ClipBatches
from ser.finetune.job import FineTuneJob, feature_fingerprint
from ser.finetune.module import FineTuned
from ser.heads.files import ScoredRows, write_files
from ser.heads.record import FILE, HeadRecord
from ser.heads.run import remove_leftovers
from ser.heads.training.targets import Labelled
from ser.heads.training.task import dev_scores
from ser.heads.training.trainer import Trained, Trainer, trainable


def write_results(
    job: FineTuneJob,
    trainer: Trainer[ClipBatches],
    trained: Trained,
    rows: Mapping[str, Labelled],
    *,
    spec: Spec,
    started: float,
) -> None:
    """Score every split with the best weights; the first process writes the files, last the record.

    `started` is the time at which the training began, of `time.monotonic`.
    """
    module, config, processes = trained.module, job.config, trainer.processes
    assert isinstance(module, FineTuned)
    learned = sum(p.numel() for p in trainable(trainer.module))
    part = job.model_folder.with_name(f".{job.name}.part")
    if processes.first:
        remove(part)
        part.mkdir(parents=True)
    module.merge(part / "adapter" if processes.first else None)
    scored = _scored(trainer.data, module, rows)
    if not processes.first:
        return
    module.to("cpu").encoder.save(part)
    keep_umask(part)
    clear(job.head_folder / FILE)
    replace_folder(part, job.model_folder)
    checksums = _write_head(job, trained, scored, spec)
    dev = scored.get("dev")
    scores = dev_scores(dev.labels, dev.outputs, config.training.metrics) if dev else {}
    HeadRecord(
        head=job.name,
        kind="finetuned",
        fingerprint=fingerprint(spec),
        made_from=spec | {"features": feature_fingerprint(job)},
        model=config.model_dump(mode="json", exclude={"training"}),
        config=config.training.model_dump(mode="json"),
        frames={job.name: list(module.encoder.item_shape)},
        outputs=dict(trainer.task.outputs),
        weights=["head"],
        trainable_parameters=learned,
        parameters=sum(p.numel() for p in module.parameters()),
        best_epochs={"head": trained.best_epoch},
        score=scores.get(f"dev_{config.training.chosen_by}", trained.best_score),
        dev=dict(scores),
        synthetic=job.manifest.synthetic_share(scored["train"].labels.utterances),
        failed=_failed(job, trainer.data.clips.failed, scored),
        epochs=len(trained.history),
        processes=processes.size,
        machine=machine() | {"device": processes.device.type},
        versions=versions((*PACKAGES, "peft", "accelerate")),
        checksums=checksums,
        seconds=round(time.monotonic() - started, 1),
    ).write(job.head_folder / FILE)
    remove_leftovers(job.head_folder, done=True)


def _write_head(
    job: FineTuneJob, trained: Trained, scored: Mapping[str, ScoredRows], spec: Spec
) -> dict[str, str]:
    """Write the files of the head but its record; return their checksums."""
    assert isinstance(trained.module, FineTuned)
    return write_files(
        job.head_folder,
        job.config.training,
        job.manifest,
        scored,
        weights={"head": trained.module.head.state_dict()},
        tables={"history": pl.DataFrame(trained.history)},
        fingerprint=fingerprint(spec),
        features={job.config.model: str(spec["weights"])},
        groups=job.groups,
    )


def _scored(
    data: ClipBatches, module: FineTuned, rows: Mapping[str, Labelled]
) -> dict[str, ScoredRows]:
    """Return the rows of every split that could be read, with the outputs for them."""
    module.eval()
    return {
        split: ScoredRows(
            *data.scored(module, split_rows),
            kind="in-sample" if split == "train" else "held-out",
        )
        for split, split_rows in rows.items()
    }


def _failed(
    job: FineTuneJob, unreadable: Mapping[str, str], scored: Mapping[str, ScoredRows]
) -> dict[str, str]:
    """Return the utterances without logits, with the reason for each."""
    with_logits = {u for rows in scored.values() for u in rows.labels.utterances}
    reasons = job.sources.unusable | dict(unreadable)
    missing = [u for u in job.manifest.utterances() if u not in with_logits]
    return {u: reasons.get(u, "another process could not read it") for u in missing}
