"""All that a report tells, gathered from a run folder before anything is drawn.

    <run>/heads/<head>/logits.h5      read: what each head says, labels, feature fingerprints
    <run>/heads/<head>/head.json      what made it, where the folder has it (a laptop may not)
    <run>/heads/<head>/history.csv    its learning curves, likewise
    <run>/stack/                      read when the stack is done

One system is shown in detail: the stack, or without one the head that is best on dev (never the one
that is best on test). It is shown on test, on dev where test has no truth.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl

from cache.logits import HeadLogits
from cache.transcripts import TranscriptCache
from corpus.manifest import Manifest
from score.calibration import reliability_curve
from score.heads import classifies, read_heads
from score.metrics import confusion
from score.run import SCORED, STACK, Metrics, best, of_head
from score.truth import known_rows

HARDEST = 20  # utterances that are listed


@dataclass(frozen=True)
class Shown:
    """Name a system, and the split that it is shown on."""

    split: str
    system: str


@dataclass(frozen=True)
class Head:
    """Hold where a head comes from; `about` is head.json, {} without one."""

    fingerprint: str
    features: dict[str, str]  # name -> fingerprint
    about: dict[str, Any]
    history: pl.DataFrame | None


@dataclass(frozen=True)
class Contents:
    """Hold what a report tells; None is what the run does not have.

    `agreement` has a column `system` and one a system, of Cohen's kappa. `hardest` has utterance,
    emotion, prediction, probability (of the truth), speaker, transcript, and audio, a link relative
    to the report's folder. `top` is `stack.compare.top_curve`'s.
    """

    run: Path
    metrics: Metrics
    heads: dict[str, Head]
    stack: dict[str, Any] | None
    told: Shown | None  # the system that tells classes
    rated: Shown | None  # the one that predicts attributes
    reliability: pl.DataFrame | None
    agreement: pl.DataFrame | None
    hardest: pl.DataFrame | None
    top: pl.DataFrame | None

    @property
    def numbers(self) -> dict[str, Any]:
        """Return the entry of metrics.json of the system that tells classes; {} without one."""
        return {} if self.told is None else self.metrics[self.told.split][self.told.system]


def gather(
    run: Path,
    metrics: Metrics,
    heads: Sequence[str],
    manifest: Manifest | None = None,
    *,
    audio: Path | None = None,
    transcripts: TranscriptCache | None = None,
    top: pl.DataFrame | None = None,
) -> Contents:
    """Read a run that `score.run.score_run` gave the metrics of.

    `audio` is the folder of the clips; words come from the manifest, and where it has none from
    `transcripts`. Raises `UserError` as `score_run` does.
    """
    found = dict(zip(heads, read_heads(run / "heads", heads, attributes_alone=True), strict=True))
    told = shown(metrics, "macro_f1")
    reliability = agreement = hardest = None
    if told is not None:
        said = _said(run, found, told.split)
        agreement = _agreement(said)
        classes = next(iter(found.values())).classes
        known = known_rows(found, manifest, ())
        rows = said[told.system].join(known, "utterance", "left", maintain_order="left")
        rows = rows.filter(pl.col("label") >= 0)
        probabilities = rows.select(f"p.{name}" for name in classes).to_numpy()
        reliability = reliability_curve(probabilities, rows["label"].to_numpy())
        hardest = _hardest(rows, probabilities, classes)
        hardest = _with_words_and_audio(hardest, run / "report", manifest, audio, transcripts)
    stack = run / "stack" / "stack.json"
    return Contents(
        run=run,
        metrics=metrics,
        heads={name: _head(run / "heads" / name, logits) for name, logits in found.items()},
        stack=json.loads(stack.read_text()) if stack.is_file() else None,
        told=told,
        rated=shown(metrics, "ccc"),
        reliability=reliability,
        agreement=agreement,
        hardest=hardest,
        top=top,
    )


def shown(metrics: Metrics, metric: str) -> Shown | None:
    """Choose the system and the split that are shown, for `macro_f1` or `ccc`."""
    has = {split: name for split in SCORED if (name := best(metrics.get(split, {}), metric))}
    if not has:
        return None
    split = "test" if "test" in has else "dev"
    chosen = has.get("dev", has[split])  # on dev, so that test is not looked at for it
    return Shown(split, chosen if chosen in metrics[split] else has[split])


def kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Return Cohen's kappa (1960) of two systems' class indices `(rows,)`.

    1 is always alike, 0 as alike as chance makes two systems that choose each class as often as
    these do; 1 where both always say one and the same class.
    """
    matrix = confusion(first, second, int(max(first.max(), second.max())) + 1) / len(first)
    alike, chance = np.trace(matrix), matrix.sum(axis=0) @ matrix.sum(axis=1)
    return float((alike - chance) / (1 - chance)) if chance < 1 else 1.0


def _head(folder: Path, logits: HeadLogits) -> Head:
    about, history = folder / "head.json", folder / "history.csv"
    return Head(
        fingerprint=logits.fingerprint,
        features=logits.features,
        about=json.loads(about.read_text()) if about.is_file() else {},
        history=pl.read_csv(history, infer_schema_length=None) if history.is_file() else None,
    )


def _said(run: Path, heads: Mapping[str, HeadLogits], split: str) -> dict[str, pl.DataFrame]:
    """Return utterance, prediction and p.<class> of every system that tells classes."""
    systems = {
        name: of_head(head, [split])
        for name, head in heads.items()
        if classifies(head) and split in head.splits
    }
    path = run / "stack" / "predictions.parquet"
    if path.is_file():
        frame = pl.read_parquet(path).filter(pl.col("split") == split)
        if "prediction" in frame.columns:
            systems[STACK] = frame
    return systems


def _agreement(said: Mapping[str, pl.DataFrame]) -> pl.DataFrame | None:
    if len(said) < 2:
        return None
    ids = next(iter(said.values())).select("utterance")
    told = [
        ids.join(frame, "utterance", "left", maintain_order="left")["prediction"]
        for frame in said.values()
    ]
    names = {name: i for i, name in enumerate(pl.concat(told).unique(maintain_order=True))}
    codes = [series.replace_strict(names, return_dtype=pl.Int64).to_numpy() for series in told]
    columns = {name: [kappa(a, b) for a in codes] for name, b in zip(said, codes, strict=True)}
    return pl.DataFrame({"system": list(said), **columns})


def _hardest(rows: pl.DataFrame, probabilities: np.ndarray, classes: Sequence[str]) -> pl.DataFrame:
    """Return the rows whose truth is least probable to the system, the least probable first."""
    labels = rows["label"].to_numpy()
    emotion = pl.Series([classes[label] for label in labels], dtype=pl.String())
    probability = pl.Series(np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0])
    return (
        rows.with_columns(emotion=emotion, probability=probability)
        .sort("probability", maintain_order=True)
        .head(HARDEST)
        .select("utterance", "emotion", "prediction", "probability", "speaker")
    )


def _with_words_and_audio(
    rows: pl.DataFrame,
    folder: Path,
    manifest: Manifest | None,
    audio: Path | None,
    transcripts: TranscriptCache | None,
) -> pl.DataFrame:
    ids = rows["utterance"].to_list()
    words: list[str | None] = [None] * len(ids)
    links: list[str | None] = [None] * len(ids)
    if manifest is not None:
        words = manifest.column("transcript", ids)
        columns = (manifest.column(name, ids) for name in ("path", "start", "end"))
        if audio is not None:
            links = [
                _link(folder, audio / path, start, end)
                for path, start, end in zip(*columns, strict=True)
            ]
    if transcripts is not None:
        heard = transcripts.texts(ids)
        words = [mine or other for mine, other in zip(words, heard, strict=True)]
    return rows.with_columns(
        transcript=pl.Series(words, dtype=pl.String()), audio=pl.Series(links, dtype=pl.String())
    )


def _link(folder: Path, file: Path, start: float | None, end: float | None) -> str | None:
    """Return a relative link to a clip, to its span (a media fragment) where it has one."""
    if not file.is_file():
        return None
    link = quote(Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix())
    if start is None and end is None:
        return link
    return f"{link}#t={start or 0:g}" + ("" if end is None else f",{end:g}")
