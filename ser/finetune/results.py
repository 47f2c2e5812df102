"""The results of a fine-tuning: the saved model, its head, the logits and the record."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from ser.cache.checksums import checksums
from ser.cache.files import fingerprint
from ser.cache.logits import HeadLogits
from ser.cache.swap import replace_folder
from ser.corpus.atomic import clear, keep_umask, remove, write_durably
from ser.corpus.machine import PACKAGES, machine, versions
from ser.finetune.job import FineTuneJob, feature_fingerprint
from ser.finetune.trainer import FineTuner, readable_rows
from ser.heads.fit import group_cells, group_columns, save_weights, split_logits
from ser.heads.record import FILE
from ser.heads.training.dev import dev_scores
from ser.heads.training.targets import Labelled
from ser.heads.training.trainer import Trained


def write_results(
    job: FineTuneJob,
    tuner: FineTuner,
    trained: Trained,
    rows: Mapping[str, Labelled],
    spec: dict[str, Any],
) -> dict[str, Any]:
    """Score every split with the best weights; write all files but the record, and return it."""
    module, config, first = tuner.kept, job.config, tuner.processes.first
    learned = sum(p.numel() for p in tuner.module.trainable())
    part = job.model_folder.with_name(f".{job.name}.part")
    if first:
        remove(part)
        part.mkdir(parents=True)
    module.merge(part / "adapter" if first else None)
    outputs = {split: _outputs(tuner, split_rows) for split, split_rows in rows.items()}
    if first:
        module.to("cpu").encoder.save(part)
        keep_umask(part)
        clear(job.head_folder / FILE)
        replace_folder(part, job.model_folder)
        save_weights(job.head_folder / "head.safetensors", module.head.state_dict())
        history = pl.DataFrame(trained.history)
        write_durably(job.head_folder / "history.csv", history.write_csv())
        _write_logits(job, outputs, spec)
    dev = dev_scores(*outputs["dev"], config.training.metrics) if "dev" in outputs else {}
    files = ("head.safetensors", "history.csv", "logits.h5")
    return {
        "head": job.name,
        "kind": "finetuned",
        "fingerprint": fingerprint(spec),
        "made_from": spec | {"features": feature_fingerprint(job) if first else {}},
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
        "synthetic": job.manifest.synthetic_share(outputs["train"][0].utterances),
        "failed": _failed(job, tuner, outputs),
        "epochs": len(trained.history),
        "processes": tuner.processes.size,
        "machine": machine() | {"device": tuner.device.type},
        "versions": versions((*PACKAGES, "peft", "accelerate")),
        "checksums": checksums(job.head_folder, files) if first else {},
    }


def _outputs(tuner: FineTuner, rows: Labelled) -> tuple[Labelled, dict[str, Any]]:
    """Return the rows of a split that could be read, and the model's outputs for them."""
    outputs = tuner.predict(rows.utterances)
    readable = readable_rows(outputs)
    return rows.take(readable.nonzero()[0]), {
        name: values[readable] for name, values in outputs.items()
    }


def _write_logits(
    job: FineTuneJob, outputs: Mapping[str, tuple[Labelled, Any]], spec: Mapping[str, Any]
) -> None:
    training = job.config.training
    groups = group_columns(job.manifest, job.groups)
    rows = {
        split: split_logits(
            split_rows,
            values,
            "in-sample" if split == "train" else "held-out",
            groups=group_cells(job.manifest, groups, split_rows.utterances),
        )
        for split, (split_rows, values) in outputs.items()
    }
    HeadLogits(
        head=job.name,
        classes=job.manifest.classes,
        fingerprint=fingerprint(dict(spec)),
        features={job.config.model: spec["weights"]},
        splits=rows,
        attributes=training.attributes if "attributes" in training.gives else (),
        groups=groups,
        synthetic=job.manifest.synthetic_share(job.manifest.utterances()),
    ).write(job.head_folder / "logits.h5")


def _failed(
    job: FineTuneJob, tuner: FineTuner, outputs: Mapping[str, tuple[Labelled, Any]]
) -> dict[str, str]:
    """Return the utterances without logits, with the reason for each."""
    scored = {u for rows, _ in outputs.values() for u in rows.utterances}
    reasons = job.sources.unusable | tuner.clips.failed
    missing = [u for u in job.manifest.utterances() if u not in scored]
    return {u: reasons.get(u, "another process could not read it") for u in missing}
