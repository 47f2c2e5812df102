"""The heads stage: every head of a run, one after another, resumable head by head.

    runs/<run>/heads/<head>/
      history.csv       one row an epoch
      head.safetensors  the best epoch's weights
      logits.h5         every utterance of every split
      head.json         what it was made from; written last, so its existence means done

A head is current when its fingerprint is: its config, its features' fingerprints and the very rows
they hold (of its views too), the labels and the splits. Utterances whose extraction failed are left
out of all heads alike, so that the stacker finds the same rows everywhere; one that failed only in
a view is read clean.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from cache.features import FeatureCache
from cache.files import fingerprint, write_durably
from cache.logits import HeadLogits, SplitLogits
from cache.reader import Column
from corpus.check import require_speaker_disjoint
from corpus.errors import UserError
from corpus.manifest import Manifest
from heads.config import HeadConfig
from heads.views import Views, join_views, require_views, view_rows

VERSION = 1  # raise it when a change of code changes the numbers


@dataclass(frozen=True)
class HeadReport:
    """Say what became of one head."""

    name: str
    done: str  # "trained" or "current"
    dev_macro_f1: float | None
    epochs: int
    seconds: float


@dataclass(frozen=True)
class HeadsJob:
    """Say which heads to train on which corpus, and where their features and views of them are.

    Raises `UserError` for a view that none of a head's features has, or of other weights.
    """

    run: Path
    configs: Mapping[str, HeadConfig]
    manifest: Manifest
    features: Mapping[str, FeatureCache]
    views: Views = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, config in self.configs.items():
            if config.views:
                require_views(name, self.read_by(name), self.views, config.views)

    def usable(self) -> list[str]:
        """List the utterances that no feature failed for, in the order of the manifest.

        Raises `UserError` for an utterance that is neither cached nor listed as failed.
        """
        failed: set[str] = set()
        for cache in self.features.values():
            failed |= set(cache.failed()["utterance"])
        usable = [u for u in self.manifest.utterances() if u not in failed]
        for cache in self.features.values():
            cache.require(usable)
        return usable

    def read_by(self, name: str) -> dict[str, FeatureCache]:
        """Return the features of a head, clean."""
        return {f: self.features[f] for f in self.configs[name].feature_names}


def train_heads(
    job: HeadsJob, names: Sequence[str], device: str = "cpu", force: bool = False
) -> Iterator[HeadReport]:
    """Train the named heads in order, skipping those that are current; yield a report each.

    Raises `UserError` for a speaker in two splits, a class without a training utterance, or a
    feature that is not cached.
    """
    require_speaker_disjoint(job.manifest)
    usable = job.usable()
    for name in names:
        folder = job.run / "heads" / name
        caches = _caches(job, name, usable)
        made_from = _made_from(job, name, usable, caches)
        done = _read_done(folder)
        if not force and done.get("fingerprint") == fingerprint(made_from):
            yield HeadReport(name, "current", done["dev_macro_f1"], done["epochs"], done["seconds"])
        else:
            yield _train(job, name, usable, caches, made_from, device=device)


def is_current(job: HeadsJob, name: str) -> bool:
    """Tell whether a head has been trained from just what there is now."""
    usable = job.usable()
    made_from = _made_from(job, name, usable, _caches(job, name, usable))
    return bool(_read_done(job.run / "heads" / name).get("fingerprint") == fingerprint(made_from))


def _read_done(folder: Path) -> dict[str, Any]:
    path = folder / "head.json"
    done: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return done


def _caches(job: HeadsJob, name: str, usable: Sequence[str]) -> Mapping[str, FeatureCache]:
    """Return what a head reads its features from, with rows of its views if it has any."""
    views, clean = job.configs[name].views, job.read_by(name)
    if not views:
        return clean
    return join_views(clean, job.views, views, _by_split(job.manifest, usable).get("train", []))


def _made_from(
    job: HeadsJob, name: str, usable: Sequence[str], caches: Mapping[str, FeatureCache]
) -> dict[str, Any]:
    config = job.configs[name]
    rows = job.manifest.frame.filter(pl.col("utterance").is_in(list(usable)))
    labels = rows.select("utterance", "split", "speaker", "emotion").write_csv()
    # without views not even their keys, or every head trained before there were any is stale
    unused = set() if config.views else {"views", "augmented"}
    made_from = {
        "version": VERSION,
        "config": config.model_dump(mode="json", exclude=unused),
        "classes": list(job.manifest.classes),
        "labels": hashlib.sha256(labels.encode()).hexdigest(),
        "features": {f: cache.fingerprint for f, cache in caches.items()},
        "rows": {f: _rows_digest(cache, usable) for f, cache in caches.items()},
    }
    if config.views:
        drawn = view_rows(config.views, _by_split(job.manifest, usable).get("train", []))
        made_from["views"] = {
            f: {v: c.fingerprint for v, c in job.views.get(f, {}).items() if v in config.views}
            for f in caches
        }
        made_from["view_rows"] = {f: _rows_digest(cache, drawn) for f, cache in caches.items()}
    return made_from


def _rows_digest(cache: FeatureCache, utterances: Sequence[str]) -> str:
    checksums = cache.snapshot().crc32c[cache.require(utterances)].astype("<u4")
    return hashlib.sha256(checksums.tobytes()).hexdigest()


def _train(
    job: HeadsJob,
    name: str,
    usable: Sequence[str],
    caches: Mapping[str, FeatureCache],
    made_from: Mapping[str, Any],
    *,
    device: str,
) -> HeadReport:
    from safetensors.torch import save_file

    from heads.train import Labelled, Trainer

    config, started = job.configs[name], time.monotonic()
    columns = {u.name: Column(caches[u.name], u.stride) for u in config.features}
    splits = _by_split(job.manifest, usable)
    labelled = {s: Labelled(us, job.manifest.labels(us)) for s, us in splits.items()}
    empty = Labelled([], np.empty(0, dtype=np.int64))
    if not splits.get("train"):
        raise UserError(
            f"{job.manifest.source}: no utterance of the train split has all features; mark some "
            "rows with split 'train' and extract them."
        )
    trainer = Trainer(
        config,
        columns,
        job.manifest.classes,
        train=labelled["train"],
        dev=labelled.get("dev", empty),
        device=device,
    )
    with tqdm(total=config.epochs, desc=name, unit="epoch", disable=None) as bar:

        def after_epoch(row: Mapping[str, Any]) -> None:
            bar.set_postfix(loss=row["train_loss"], dev=row.get("dev_macro_f1"))
            bar.update()

        trained = trainer.fit(after_epoch)
    logits = {s: trainer.logits(us) for s, us in splits.items()}
    folder = job.run / "heads" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "head.json").unlink(missing_ok=True)
    write_durably(folder / "history.csv", pl.DataFrame(trained.history).write_csv())
    state = {k: v.contiguous().cpu() for k, v in trained.module.state_dict().items()}
    part = folder / ".head.safetensors.part"
    save_file(state, part)
    part.replace(folder / "head.safetensors")
    _write_logits(job, name, labelled, logits, fingerprint(made_from))
    report = HeadReport(
        name, "trained", trained.best_macro_f1, config.epochs, time.monotonic() - started
    )
    done = {
        "head": name,
        "fingerprint": fingerprint(made_from),
        "made_from": made_from,
        "dims": {f: job.features[f].dim for f in config.feature_names},
        "best_epoch": trained.best_epoch,
        "dev_macro_f1": trained.best_macro_f1,
        "epochs": report.epochs,
        "seconds": round(report.seconds, 1),
    }
    write_durably(folder / "head.json", json.dumps(done, indent=1))
    return report


def _by_split(manifest: Manifest, usable: Sequence[str]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for utterance, split in zip(usable, manifest.column("split", usable), strict=True):
        splits.setdefault(split, []).append(utterance)
    return splits


def _write_logits(
    job: HeadsJob,
    name: str,
    labelled: Mapping[str, Any],
    logits: Mapping[str, np.ndarray],
    made: str,
) -> None:
    rows = {
        split: SplitLogits(
            utterance=rows.utterances,
            logits=logits[split],
            label=rows.labels.astype(np.int8),
            speaker=[s or "" for s in job.manifest.column("speaker", rows.utterances)],
            fold=np.full(len(rows.utterances), -1, np.int8),
            rows="in-sample" if split == "train" else "held-out",
        )
        for split, rows in labelled.items()
    }
    features = {f: job.features[f].fingerprint for f in job.configs[name].feature_names}
    file = HeadLogits(name, job.manifest.classes, made, features, rows)
    file.write(job.run / "heads" / name / "logits.h5")
