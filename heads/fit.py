"""Fit one head of a run and write its outputs for every utterance.

1. Train it: once on all of train, or with `cross_fit` once per fold on the speakers of the others,
   and with `final: refit` once more on all; with `seeds: k` each of these k times. Every training
   has a checkpoint of its own, so that an interrupted one resumes; the last checkpoint stays until
   the head is done.
2. Score every split. A row of train has the logits of the fold that did not train on its speaker
   (out-of-fold), and as `in_sample` those of the training that did: the refit, or the mean of the
   other folds. Dev and test have the refit's, or the mean of all folds. The outputs of the seeds
   are averaged first.
3. Write history, weights and logits, and last the marker `head.json`.

All heads of a run have the same folds, because these depend on the corpus and `cross_fit` alone.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from torch import Tensor

from ser.corpus.atomic import clear
from ser.corpus.errors import UserError
from ser.corpus.folds import speaker_folds
from ser.corpus.machine import machine, versions
from ser.heads.config import HeadConfig
from ser.heads.files import ScoredRows, write_files
from ser.heads.job import HeadJob
from ser.heads.record import FILE, HeadRecord
from ser.heads.run import AfterEpoch, Progress
from ser.heads.trained import Outputs, mean_outputs
from ser.heads.training.cached import head_trainer
from ser.heads.training.checkpoint import Checkpoint
from ser.heads.training.reading import Reading
from ser.heads.training.targets import Labelled, count_genders, labelled
from ser.heads.training.task import Task, dev_scores
from ser.heads.training.tracking import tracked
from ser.heads.training.trainer import Row

FOLD_SEED = 7


def fit_head(head: HeadJob, device: str, after_epoch: AfterEpoch) -> HeadRecord:
    """Train one head on the utterances that are usable; return its record.

    Raises `UserError` for an empty train split, a class without a training utterance, too few
    speakers for the folds, or a loss that is no longer a number.
    """
    config, fitting = head.config, _Fitting(head, device, after_epoch)
    trained = [fitting.train(number) for number in range(len(fitting.parts))]
    splits = fitting.scored(_mean_of_seeds(trained))
    tables = {
        "history": pl.concat([result.history for result in trained], how="diagonal"),
        "candidates": pl.concat([result.candidates for result in trained], how="diagonal"),
    }
    checksums = write_files(
        head.folder,
        config,
        head.job.manifest,
        splits,
        weights={r.part.name: r.state for r in trained if r.state is not None},
        tables=tables,
        fingerprint=head.fingerprint,
        features={f: head.job.features[f].fingerprint for f in config.feature_names},
        groups=head.job.groups,
    )
    dev = splits.get("dev")
    scores = dev_scores(dev.labels, dev.outputs, config.metrics) if dev else {}
    record = HeadRecord(
        head=head.name,
        fingerprint=head.fingerprint,
        made_from=head.spec,
        config=config.model_dump(mode="json"),
        frames={f: list(column.item_shape) for f, column in fitting.reading.columns.items()},
        outputs={n: values.shape[1] for n, values in trained[0].outputs["train"].items()},
        weights=fitting.weights,
        best_epochs={result.part.name: result.best_epoch for result in trained},
        score=scores.get(f"dev_{config.chosen_by}", trained[-1].best_score),
        dev=dict(scores),
        synthetic=head.job.manifest.synthetic_share(fitting.rows["train"].utterances),
        epochs=tables["history"].height,
        seconds=round(fitting.seconds, 1),
        machine=machine() | {"device": device},
        versions=versions(),
        checksums=checksums,
    )
    record.write(head.folder / FILE)
    fitting.clean()
    return record


@dataclass(frozen=True)
class _Training:
    """One training: its rows, its seed, and the fold that is held out, None for all of train."""

    name: str
    fold: int | None
    train: Labelled
    seed: int


@dataclass(frozen=True)
class _Trained:
    """The result of one training; `state` is the weights, where the head keeps them."""

    part: _Training
    state: Mapping[str, Tensor] | None
    outputs: Mapping[str, Outputs]  # of every split
    history: pl.DataFrame
    candidates: pl.DataFrame
    best_epoch: int
    best_score: float | None


class _Fitting:
    """What all trainings of one head have in common."""

    def __init__(self, head: HeadJob, device: str, after_epoch: AfterEpoch) -> None:
        self.head, self.config = head, head.config
        self.device, self.after_epoch, self.started = device, after_epoch, time.monotonic()
        self.folder, job = head.folder, head.job
        self.folder.mkdir(parents=True, exist_ok=True)
        if not job.splits.get("train"):
            raise UserError(
                f"{job.manifest.source}: no utterance of the train split has all features; mark "
                "some rows with split 'train' and extract them."
            )
        self.rows = {
            split: labelled(self.config, job.manifest, utterances)
            for split, utterances in job.splits.items()
        }
        speakers = dict(zip(job.usable, job.manifest.column("speaker", job.usable), strict=True))
        self.reading = Reading.of(self.config, head.caches, speakers, head.views)
        train, cross_fit = self.rows["train"], self.config.cross_fit
        self.fold = None
        if cross_fit is not None:
            folds = cross_fit.folds
            self.fold = speaker_folds(train.classes, train.speakers, folds, FOLD_SEED)
        self.parts = _parts(self.config, train, self.fold)
        mean = cross_fit is not None and cross_fit.final == "mean"
        self.weights = [part.name for part in self.parts if mean or part.fold is None]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def train(self, number: int) -> _Trained:
        """Run or resume one training, and predict every row."""
        part = self.parts[number]
        task = Task.of(
            self.config.model_copy(update={"seed": part.seed}),
            self.head.job.manifest.classes,
            train=part.train,
            dev=self.rows.get("dev", part.train.take([])),
            genders=count_genders(self.config, self.head.job.manifest),
            device=self.device,
        )
        trainer = head_trainer(task, self.reading)
        solved = self.config.architecture.solved
        epochs = 1 if solved else sum(stage.epochs for stage in self.config.stages)
        checkpoint = Checkpoint(self.folder / f".{part.name}.checkpoint", self.head.fingerprint)
        with tracked(self.config, self.folder, part.name) as track:

            def report(row: Row) -> None:
                track(row)
                done = number * epochs + int(row["epoch"]) + 1
                score, total = row.get(f"dev_{self.config.chosen_by}"), len(self.parts) * epochs
                name = self.head.name
                self.after_epoch(Progress(name, part.fold, done, total, score, self.seconds))

            trained = trainer.fit(report, checkpoint)
        own = {"seed": part.seed} if self.config.seeds > 1 else {}
        own |= {} if part.fold is None else {"fold": part.fold}
        history, candidates = (
            pl.DataFrame([own | dict(row) for row in rows], infer_schema_length=None)
            for rows in (trained.history, trained.candidates)
        )
        return _Trained(
            part,
            trained.module.state_dict() if part.name in self.weights else None,
            {split: trainer.predict(rows.utterances) for split, rows in self.rows.items()},
            history,
            candidates,
            trained.best_epoch,
            trained.best_score,
        )

    def scored(self, means: Mapping[int | None, Mapping[str, Outputs]]) -> dict[str, ScoredRows]:
        """Return the rows of every split with the outputs for them."""
        learned = self.config.init is not None or any(s.epochs for s in self.config.stages)
        scored = {}
        for split, labels in self.rows.items():
            whole = [outputs[split] for fold, outputs in means.items() if fold is None]
            folds = [outputs[split] for fold, outputs in means.items() if fold is not None]
            if split == "train" and self.fold is not None:
                scored[split] = _out_of_fold(labels, self.fold, folds, whole)
            else:
                kind = "in-sample" if split == "train" and learned else "held-out"
                outputs = whole[0] if whole else mean_outputs(folds)
                scored[split] = ScoredRows(labels, outputs, kind)
        return scored

    def clean(self) -> None:
        """Delete what is needed no more: checkpoints, and weights of another kind of fitting."""
        current = {f"{name}.safetensors" for name in self.weights}
        for path in [*self.folder.glob(".*.checkpoint*"), *self.folder.glob("*.safetensors")]:
            if path.name not in current:
                clear(path)


def _parts(config: HeadConfig, train: Labelled, fold: np.ndarray | None) -> list[_Training]:
    """List the trainings of a head: of each fold, and of all of train, with every seed."""
    rows: list[tuple[str, int | None, Labelled]] = [("head", None, train)]
    if fold is not None and config.cross_fit is not None:
        folds = range(config.cross_fit.folds)
        held_out = [(f"fold-{k}", k, train.take(np.flatnonzero(fold != k))) for k in folds]
        rows = [*held_out, *rows] if config.cross_fit.final == "refit" else list(held_out)
    return [
        _Training(f"{name}-seed-{seed}" if number else name, held, part, seed)
        for name, held, part in rows
        for number, seed in enumerate(range(config.seed, config.seed + config.seeds))
    ]


def _mean_of_seeds(trained: Sequence[_Trained]) -> dict[int | None, dict[str, Outputs]]:
    """Return the outputs for each split, by the fold that was held out, averaged over the seeds."""
    by_fold: dict[int | None, list[Mapping[str, Outputs]]] = {}
    for result in trained:
        by_fold.setdefault(result.part.fold, []).append(result.outputs)
    return {
        fold: {split: mean_outputs([out[split] for out in outputs]) for split in outputs[0]}
        for fold, outputs in by_fold.items()
    }


def _out_of_fold(
    labels: Labelled, fold: np.ndarray, folds: Sequence[Outputs], whole: Sequence[Outputs]
) -> ScoredRows:
    """Return the rows of train, each with the outputs of the fold that did not train on it.

    `in_sample` are the logits of the training on all of train, where there is one (`whole`), or the
    mean of the other folds.
    """
    at = np.arange(len(fold))
    stacked = {name: np.stack([outputs[name] for outputs in folds]) for name in folds[0]}
    held_out = {name: values[fold, at] for name, values in stacked.items()}
    in_sample = whole[0].get("logits") if whole else None
    if in_sample is None and "logits" in held_out:
        others = stacked["logits"].sum(axis=0) - held_out["logits"]
        in_sample = (others / (len(folds) - 1)).astype(np.float32)
    return ScoredRows(labels, held_out, "out-of-fold", fold, in_sample)
