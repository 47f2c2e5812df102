"""Fine-tune a model on a run's corpus; the result is both a feature and a head.

    runs/<run>/finetuned/<name>/   config.json, model.safetensors, preprocessor or tokenizer:
                                   `model:` of a feature; adapter/ has the LoRA adapters alone
    runs/<run>/heads/<name>/       history.csv, head.safetensors, logits.h5 and last head.json, as
                                   for any other head

The weights are saved with adapters merged, and the logits are those of the saved weights. The
result is up to date when its fingerprint matches (`ser.finetune.job`).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ser.cache.files import fingerprint
from ser.cache.locks import locked
from ser.cache.swap import recover_folder
from ser.corpus.check import require_speaker_disjoint
from ser.corpus.errors import BusyError, UserError
from ser.extract.models import Weights, resolve
from ser.finetune.clips import Clips
from ser.finetune.job import FineTuneJob, feature_fingerprint, finetune_spec
from ser.finetune.module import FineTuned
from ser.finetune.processes import Processes
from ser.finetune.results import write_results
from ser.finetune.trainer import Checkpoints, FineTuner
from ser.heads.job import by_split
from ser.heads.record import FILE, HeadRecord
from ser.heads.run import LOCK, HeadReport, Progress, read_undamaged, remove_leftovers
from ser.heads.training.checkpoint import Checkpoint
from ser.heads.training.objective import outputs_of
from ser.heads.training.targets import Labelled, count_genders, labelled
from ser.heads.training.tracking import tracked
from ser.heads.training.trainer import Trained

AfterEpoch = Callable[[Progress], None]


def fine_tune(
    job: FineTuneJob,
    processes: Processes | None = None,
    *,
    force: bool = False,
    after_epoch: AfterEpoch = lambda progress: None,
) -> HeadReport:
    """Fine-tune, unless the saved model is up to date; resume an interrupted training.

    Called by every process of a group. Raises `UserError` for a speaker in two splits, an empty
    train split, missing weights, or a loss that is not finite.
    """
    processes = processes or Processes()
    training = job.config.training
    require_speaker_disjoint(job.manifest)
    weights = resolve(job.config.model)
    sizes = job.sources.sizes()
    usable = [u for u in job.manifest.utterances() if u in sizes]
    spec = finetune_spec(job, weights, sizes, usable)
    record, mark = None if force else _undamaged(job), fingerprint(spec)
    processes.wait()  # otherwise one could see the files of another
    if record is not None and record.fingerprint == mark:
        score, epochs = record.score, record.epochs
        return HeadReport(job.name, "current", score, training.chosen_by, epochs, record.seconds)
    with _locked(job, processes):
        return _fine_tune(job, processes, weights, spec, after_epoch)


@contextmanager
def _locked(job: FineTuneJob, processes: Processes) -> Iterator[None]:
    """Lock the model's head in the first process; raise `BusyError` in all if it is locked."""
    with ExitStack() as stack:
        busy = None
        if processes.first:
            try:
                lock = locked(job.head_folder / LOCK, f"'{job.name}' is being fine-tuned")
                stack.enter_context(lock)
                remove_leftovers(job.head_folder)
            except BusyError as error:
                busy = error
        refused = torch.tensor([float(busy is not None)], device=processes.device)
        if float(processes.summed(refused)):
            raise busy or BusyError(f"'{job.name}' is being fine-tuned by another process.")
        yield


def _fine_tune(
    job: FineTuneJob,
    processes: Processes,
    weights: Weights,
    spec: dict[str, Any],
    after_epoch: AfterEpoch,
) -> HeadReport:
    started, training = time.monotonic(), job.config.training
    sizes, mark = job.sources.sizes(), fingerprint(spec)
    usable = [u for u in job.manifest.utterances() if u in sizes]

    def report(row: Mapping[str, Any]) -> None:
        score, epoch = row.get(f"dev_{training.chosen_by}"), int(row["epoch"]) + 1
        epochs = sum(stage.epochs for stage in training.stages)
        elapsed = time.monotonic() - started
        after_epoch(Progress(job.name, None, epoch, epochs, score, elapsed))

    splits = by_split(job.manifest, usable)
    rows = {split: labelled(training, job.manifest, ids) for split, ids in splits.items()}
    if "train" not in rows:
        raise UserError(
            f"{job.manifest.source}: no utterance of the train split can be read; give some rows "
            "with audio, or words, the split 'train'."
        )
    tuner = build_tuner(job, weights, rows, processes)
    trained = _trained(job, tuner, mark, report)
    record = write_results(job, tuner, trained, rows, spec)
    record |= {"seconds": round(time.monotonic() - started, 1)}
    if processes.first:
        HeadRecord.model_validate(record).write(job.head_folder / FILE)
        remove_leftovers(job.head_folder, done=True)
    processes.wait()
    return HeadReport(
        job.name,
        "trained",
        record["score"],
        training.chosen_by,
        record["epochs"],
        record["seconds"],
    )


def _undamaged(job: FineTuneJob) -> HeadRecord | None:
    """Return the record of a fine-tuned model if it and its head are undamaged, otherwise None."""
    recover_folder(job.model_folder)
    record = read_undamaged(job.run, job.name)
    try:
        unchanged = record is not None and feature_fingerprint(job) == record.features
    except (UserError, OSError):  # config.json is missing, or a folder instead of a file
        return None
    return record if unchanged else None


def build_tuner(
    job: FineTuneJob, weights: Weights, rows: Mapping[str, Labelled], processes: Processes
) -> FineTuner:
    """Return the trainer of a job; `rows` are the readable rows of each split."""
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
    job: FineTuneJob, tuner: FineTuner, mark: str, report: Callable[[Mapping[str, Any]], None]
) -> Trained:
    """Train, or resume training; only the first process writes and reports."""
    folder, first = job.head_folder, tuner.processes.first
    # with another number of processes the batches differ, so it is another training
    mark = f"{mark} of {tuner.processes.size}"
    epoch, step = (Checkpoint(folder / f".{at}.checkpoint", mark) for at in ("epoch", "step"))
    if not first:
        epoch, step = _ReadOnly(epoch.path, mark), _ReadOnly(step.path, mark)
        return tuner.fit(checkpoints=Checkpoints(epoch, step))
    folder.mkdir(parents=True, exist_ok=True)
    with tracked(job.config.training, folder, "head") as track:

        def after_epoch(row: Mapping[str, Any]) -> None:
            track(row)
            report(row)

        return tuner.fit(after_epoch, Checkpoints(epoch, step))


class _ReadOnly(Checkpoint):
    """A checkpoint that is read but not written: that of another process than the first."""

    def write(self, state: dict[str, Any], now: bool = False) -> None:
        """Write nothing."""
