"""Fine-tune a model on a run's corpus; the result is both a feature and a head.

    runs/<run>/finetuned/<name>/   config.json, model.safetensors, preprocessor or tokenizer:
                                   `model:` of a feature; adapter/ has the LoRA adapters alone
    runs/<run>/heads/<name>/       history.csv, head.safetensors, logits.h5 and last head.json, as
                                   for any other head

The weights are saved with adapters merged, and the logits are those of the saved weights. The
result is up to date when its fingerprint matches (`ser.finetune.job`).
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch

from ser.cache.files import fingerprint
from ser.cache.locks import locked
from ser.cache.swap import recover_folder
from ser.corpus.check import require_speaker_disjoint
from ser.corpus.errors import BusyError, UserError
from ser.extract.models import Weights, resolve
from ser.finetune.adapting import optimizer, parameter_groups
from ser.finetune.batches import ClipBatches
from ser.finetune.clips import Clips
from ser.finetune.job import FineTuneJob, feature_fingerprint, finetune_spec
from ser.finetune.module import FineTuned
from ser.finetune.results import write_results
from ser.heads.job import by_split
from ser.heads.record import FILE, HeadRecord
from ser.heads.run import LOCK, AfterEpoch, HeadReport, Progress, read_undamaged, remove_leftovers
from ser.heads.training.checkpoint import Checkpoint, log_restart
from ser.heads.training.processes import Processes
from ser.heads.training.targets import Labelled, count_genders, labelled
from ser.heads.training.task import Task
from ser.heads.training.tracking import tracked
from ser.heads.training.trainer import Row, Trained, Trainer


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
    require_speaker_disjoint(job.manifest)
    weights, sizes = resolve(job.config.model), job.sources.sizes()
    usable = [u for u in job.manifest.utterances() if u in sizes]
    spec = finetune_spec(job, weights, sizes, usable)
    record, done = None if force else _undamaged(job), "current"
    processes.wait()  # otherwise one could see the files of another
    if record is None or record.fingerprint != fingerprint(spec):
        rows = {
            split: labelled(job.config.training, job.manifest, utterances)
            for split, utterances in by_split(job.manifest, usable).items()
        }
        with _locked(job, processes):
            started = time.monotonic()
            trainer = build_trainer(job, weights, rows, processes)
            trained = _train(job, trainer, fingerprint(spec), after_epoch)
            write_results(job, trainer, trained, rows, spec=spec, started=started)
            processes.wait()  # for the first one, which writes
            record, done = HeadRecord.read(job.head_folder / FILE), "trained"
    score, score_name = record.score, job.config.training.chosen_by
    return HeadReport(job.name, done, score, score_name, record.epochs, record.seconds)


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


def _undamaged(job: FineTuneJob) -> HeadRecord | None:
    """Return the record of a fine-tuned model if it and its head are undamaged, otherwise None."""
    recover_folder(job.model_folder)
    record = read_undamaged(job.run, job.name)
    try:
        unchanged = record is not None and feature_fingerprint(job) == record.features
    except (UserError, OSError):  # config.json is missing, or a folder instead of a file
        return None
    return record if unchanged else None


def build_trainer(
    job: FineTuneJob, weights: Weights, rows: Mapping[str, Labelled], processes: Processes
) -> Trainer[ClipBatches]:
    """Return the trainer of a job; `rows` are the readable rows of each split.

    Raises `UserError` where there are none of train.
    """
    if "train" not in rows:
        raise UserError(
            f"{job.manifest.source}: no utterance of the train split can be read; give some rows "
            "with audio, or words, the split 'train'."
        )
    config, train, device = job.config, rows["train"], processes.device
    task = Task.of(
        config.training,
        job.manifest.classes,
        train=train,
        dev=rows.get("dev", train.take([])),
        genders=count_genders(config.training, job.manifest),
        device=device,
    )
    module = FineTuned.build(job.name, config, weights, task.outputs).to(device)
    clips = Clips(config, module.encoder, job.sources, train, pin=device.type == "cuda")
    return Trainer(
        task,
        module,
        ClipBatches(task, clips, processes),
        optimizer(config, parameter_groups(config, module.encoder, module.head)),
        processes=processes,
        loss_dtype=torch.float64,
    )


def _train(
    job: FineTuneJob, trainer: Trainer[ClipBatches], mark: str, after_epoch: AfterEpoch
) -> Trained:
    """Train, or resume training; only the first process writes and reports."""
    started, first, training = time.monotonic(), trainer.processes.first, job.config.training
    # with another number of processes the batches differ, so it is another training
    mark = f"{mark} of {trainer.processes.size}"
    checkpoint = Checkpoint(job.head_folder / ".head.checkpoint", mark, writes=first)
    if not first:
        return trainer.fit(checkpoint=checkpoint)
    job.head_folder.mkdir(parents=True, exist_ok=True)
    former = job.head_folder / ".epoch.checkpoint"  # of versions with two checkpoints
    if former.exists():
        log_restart(former)
    epochs = sum(stage.epochs for stage in training.stages)
    with tracked(training, job.head_folder, "head") as track:

        def report(row: Row) -> None:
            track(row)
            score, epoch = row.get(f"dev_{training.chosen_by}"), int(row["epoch"]) + 1
            seconds = time.monotonic() - started
            after_epoch(Progress(job.name, None, epoch, epochs, score, seconds))

        return trainer.fit(report, checkpoint)
