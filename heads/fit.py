"""Fit one head of a run and write down what it says of every utterance.

1. Train it: once on all of train, or with `cross_fit` once a fold on the speakers of the others,
   and with `final: refit` once more on all. Every training has a checkpoint of its own, so that one
   that was killed goes on; the last of them stays until the head is done.
2. Score every split. A row of train has the logits of the fold that did not train on its speaker
   (out-of-fold), and as `in_sample` those of the training that did: the refit, or the mean of the
   other folds. Dev and test have the refit's, or the mean of all folds.
3. Write history, weights and logits, and last the marker `head.json`.

All heads of a run have the same folds, as these hang on the corpus and `cross_fit` alone.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.torch import save_file

from cache.files import fingerprint, write_durably
from cache.logits import HeadLogits, SplitLogits
from corpus.errors import UserError
from corpus.folds import speaker_folds
from heads.config import HeadConfig
from heads.job import HeadsJob, by_split, made_from, open_features
from heads.trained import Outputs, mean_outputs
from heads.training.checkpoint import Checkpoint
from heads.training.reading import Reading
from heads.training.targets import Labelled, count_genders, labelled
from heads.training.tracking import tracked
from heads.training.trainer import Trainer, dev_scores
from score.report.provenance import machine, versions

FOLD_SEED = 7
AfterEpoch = Callable[[int | None, int, int, float | None], None]  # fold, epoch, of all, dev score


def fit_head(
    job: HeadsJob, name: str, usable: Sequence[str], device: str, after_epoch: AfterEpoch
) -> dict[str, Any]:
    """Train one head on the utterances that are usable; return what `head.json` says.

    Raises `UserError` for an empty train split, a class without a training utterance, too few
    speakers for the folds, or a loss that is no longer a number.
    """
    started, config = time.monotonic(), job.configs[name]
    fitting = _Fitting(job, name, usable, device, after_epoch)
    trained = [fitting.train(number) for number in range(len(fitting.parts))]
    outputs = {split: _combined(trained, split, fitting.fold) for split in fitting.rows}
    folder = fitting.folder
    (folder / "head.json").unlink(missing_ok=True)
    for part in trained:
        if part.state is not None:
            save_weights(folder / f"{part.name}.safetensors", part.state)
    history = pl.concat([part.history for part in trained], how="diagonal")
    (folder / "history.csv").unlink(missing_ok=True)
    if history.height:  # there is none of a head that learned nothing
        write_durably(folder / "history.csv", history.write_csv())
    _write_logits(fitting, outputs)
    dev = fitting.rows.get("dev")
    scores = dev_scores(dev, outputs["dev"].final) if dev else {}
    done = {
        "head": name,
        "fingerprint": fingerprint(fitting.made_from),
        "made_from": fitting.made_from,
        "config": config.model_dump(mode="json"),
        "frames": {f: list(column.item_shape) for f, column in fitting.reading.columns.items()},
        "outputs": fitting.outputs,
        "weights": fitting.weights,
        "best_epochs": {part.name: part.best_epoch for part in trained},
        "score": scores.get(f"dev_{config.chosen_by}", trained[-1].best_score),
        "dev": scores,
        "epochs": history.height,
        "seconds": round(time.monotonic() - started, 1),
        "machine": machine() | {"device": device},
        "versions": versions(),
    }
    write_durably(folder / "head.json", json.dumps(done, indent=1))
    fitting.clean()
    return done


def save_weights(path: Path, state: Mapping[str, Any]) -> None:
    """Write weights to a safetensors file, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({k: v.contiguous().cpu() for k, v in state.items()}, part)
    part.replace(path)


@dataclass(frozen=True)
class _Part:
    """Say what one training learns from: the fold held out, None for all of train."""

    name: str
    fold: int | None
    train: Labelled


@dataclass(frozen=True)
class _Trained:
    """Hold what one training came to; `state` are weights that the head keeps."""

    name: str
    fold: int | None
    state: Mapping[str, Any] | None
    outputs: Mapping[str, Outputs]  # of every split
    history: pl.DataFrame
    best_epoch: int
    best_score: float | None


@dataclass(frozen=True)
class _Said:
    """Hold what a head says of a split, and of train also what it said of rows it had seen."""

    final: Outputs
    in_sample: np.ndarray | None = None


class _Fitting:
    """Hold what all trainings of one head have in common."""

    def __init__(
        self,
        job: HeadsJob,
        name: str,
        usable: Sequence[str],
        device: str,
        after_epoch: AfterEpoch,
    ) -> None:
        self.job, self.name, self.config = job, name, job.configs[name]
        self.device, self.after_epoch = device, after_epoch
        self.folder = job.run / "heads" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        splits = by_split(job.manifest, usable)
        if not splits.get("train"):
            raise UserError(
                f"{job.manifest.source}: no utterance of the train split has all features; mark "
                "some rows with split 'train' and extract them."
            )
        self.rows = {split: labelled(self.config, job.manifest, us) for split, us in splits.items()}
        caches = open_features(job, name, usable)
        self.made_from = made_from(job, name, usable, caches)
        speakers = dict(zip(usable, job.manifest.column("speaker", usable), strict=True))
        self.reading = Reading.of(self.config, caches, speakers)
        self.fold = _folds(self.config, self.rows["train"])
        self.parts = _parts(self.config, self.rows["train"], self.fold)
        cross_fit = self.config.cross_fit
        mean = cross_fit is not None and cross_fit.final == "mean"
        self.weights = [part.name for part in self.parts if mean or part.fold is None]
        self.outputs: dict[str, int] = {}

    def train(self, number: int) -> _Trained:
        """Train one part, or go on with it, and ask it about every row."""
        part = self.parts[number]
        trainer = Trainer(
            self.config,
            self.reading,
            self.job.manifest.classes,
            train=part.train,
            dev=self.rows.get("dev", part.train.take([])),
            genders=count_genders(self.config, self.job.manifest),
            device=self.device,
        )
        self.outputs = trainer.outputs
        epochs = sum(stage.epochs for stage in self.config.stages)

        kept = Checkpoint(self.folder / f".{part.name}.checkpoint", fingerprint(self.made_from))
        with tracked(self.config, self.folder, part.name) as track:

            def told(row: Mapping[str, Any]) -> None:
                track(row)
                done = number * epochs + int(row["epoch"]) + 1
                score = row.get(f"dev_{self.config.chosen_by}")
                self.after_epoch(part.fold, done, len(self.parts) * epochs, score)

            trained = trainer.fit(told, kept)
        history = pl.DataFrame(trained.history)
        if part.fold is not None:
            history = history.select(pl.lit(part.fold).alias("fold"), pl.all())
        return _Trained(
            part.name,
            part.fold,
            trained.module.state_dict() if part.name in self.weights else None,
            {split: trainer.predict(rows.utterances) for split, rows in self.rows.items()},
            history,
            trained.best_epoch,
            trained.best_score,
        )

    def clean(self) -> None:
        """Delete what is needed no more: checkpoints, and weights of another kind of fitting."""
        kept = {f"{name}.safetensors" for name in self.weights}
        for path in [*self.folder.glob(".*.checkpoint*"), *self.folder.glob("*.safetensors")]:
            if path.name not in kept:
                path.unlink()


def _folds(config: HeadConfig, train: Labelled) -> np.ndarray | None:
    if config.cross_fit is None:
        return None
    return speaker_folds(train.classes, train.speakers, config.cross_fit.folds, FOLD_SEED)


def _parts(config: HeadConfig, train: Labelled, fold: np.ndarray | None) -> list[_Part]:
    """List the trainings of a head."""
    whole = _Part("head", None, train)
    if fold is None or config.cross_fit is None:
        return [whole]
    held_out = range(config.cross_fit.folds)
    parts = [_Part(f"fold-{k}", k, train.take(np.flatnonzero(fold != k))) for k in held_out]
    return [*parts, whole] if config.cross_fit.final == "refit" else parts


def _combined(trained: Sequence[_Trained], split: str, fold: np.ndarray | None) -> _Said:
    """Put together what the trainings say of a split."""
    whole = [part.outputs[split] for part in trained if part.fold is None]
    if fold is None:
        return _Said(whole[0])
    folds = [part.outputs[split] for part in trained if part.fold is not None]
    names = list(folds[0])
    if split != "train":
        return _Said(whole[0] if whole else mean_outputs(folds))
    at = np.arange(len(fold))
    stacked = {name: np.stack([out[name] for out in folds]) for name in names}
    unseen = {name: of[fold, at] for name, of in stacked.items()}
    if "logits" not in names:
        return _Said(unseen)
    logits = stacked["logits"]
    seen = (logits.sum(axis=0) - logits[fold, at]) / (len(folds) - 1)
    return _Said(unseen, whole[0]["logits"] if whole else seen.astype(np.float32))


def split_logits(
    known: Labelled,
    said: Outputs,
    kind: str,
    fold: np.ndarray | None = None,
    in_sample: np.ndarray | None = None,
) -> SplitLogits:
    """Put together what `logits.h5` says of a split; `kind` is that of its rows."""
    none = np.full(len(known), -1)
    return SplitLogits(
        utterance=known.utterances,
        logits=said.get("logits", np.empty((len(known), 0), np.float32)),
        label=known.classes.astype(np.int8),
        speaker=[speaker or "" for speaker in known.speakers],
        fold=(none if fold is None else fold).astype(np.int8),
        rows=kind,
        in_sample=in_sample,
        predicted=said.get("attributes"),
        truth=known.attributes,
    )


def _write_logits(fitting: _Fitting, outputs: Mapping[str, _Said]) -> None:
    rows, fold = {}, fitting.fold
    learned = fitting.config.init is not None or any(s.epochs for s in fitting.config.stages)
    for split, known in fitting.rows.items():
        said = outputs[split]
        of_train = "out-of-fold" if fold is not None else "in-sample" if learned else "held-out"
        folds = fold if split == "train" else None
        kind = of_train if split == "train" else "held-out"
        rows[split] = split_logits(known, said.final, kind, folds, said.in_sample)
    job, config = fitting.job, fitting.config
    file = HeadLogits(
        fitting.name,
        job.manifest.classes,
        fingerprint(fitting.made_from),
        {f: job.features[f].fingerprint for f in config.feature_names},
        rows,
        config.attributes if "attributes" in config.gives else (),
    )
    file.write(fitting.folder / "logits.h5")
