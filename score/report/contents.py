"""The contents of a report, gathered from a run folder before anything is drawn.

    <run>/heads/<head>/logits.h5      read: the head's predictions, labels, feature fingerprints
    <run>/heads/<head>/head.json      how it was trained, if the folder has it (a laptop may not)
    <run>/heads/<head>/history.csv    its learning curves, likewise
    <run>/stack/                      read if a stack was fitted

One system is shown in detail: the stack, or without one the head that is best on dev (never the one
that is best on test). It is shown on test, or on dev if test has no labels.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import numpy as np
import polars as pl

from ser.cache.logits import HeadLogits
from ser.cache.transcripts import TranscriptCache
from ser.corpus.errors import TRAIN_AGAIN, DamagedError, plural
from ser.corpus.manifest import Manifest, corpus_name
from ser.score.agreement import kappa
from ser.score.calibration import equal_mass_curve
from ser.score.cross import FILE as CROSS
from ser.score.cross import Cross
from ser.score.heads import read_heads
from ser.score.record import PREDICTIONS, HeadSummary, StackSummary, has_stack, stack_file
from ser.score.report.exploration import Exploration
from ser.score.rotations import FILE as ROTATIONS
from ser.score.rotations import Rotations
from ser.score.run import SCORED, STACK, best, of_systems
from ser.score.scores import ClassScores, Metrics, Ranked, SystemScores
from ser.score.truth import emotion_of, ground_truth, indices_of

HARDEST = 20  # utterances that are listed


@dataclass(frozen=True)
class Shown:
    """A system, and the split that it is shown on."""

    split: str
    system: str

    @property
    def title(self) -> str:
        """Return the system as a sentence names it."""
        return "the stack" if self.system == STACK else f"the head {self.system}"

    @property
    def subject(self) -> str:
        """Return the system and the split that it is shown on."""
        return f"{self.title} on {self.split}"


@dataclass(frozen=True)
class Head:
    """How a head was trained; `summary` is that of head.json, empty without one."""

    fingerprint: str
    features: dict[str, str]  # name -> fingerprint
    summary: HeadSummary
    history: pl.DataFrame | None


@dataclass(frozen=True)
class Contents:
    """The contents of a report; None is what the run does not have.

    `classifier` is the system shown for emotions, `regressor` the one shown for attributes.
    `corpus` names the training data, `day` is that of the predictions, `command` repeats the run.
    `agreement` has a column `system` and one per system, of Cohen's kappa. `hardest` has utterance,
    emotion, prediction, probability (of the true class), speaker, transcript, and audio, a link
    relative to the report's folder. `rotations` are those of a cross-validation, `cross` the scores
    across corpora. `top` is the frame of `ser.stack.compare.top_curve`.
    """

    run: Path
    metrics: Metrics
    heads: dict[str, Head]
    stack: StackSummary | None
    classifier: Shown | None
    regressor: Shown | None
    reliability: pl.DataFrame | None
    agreement: pl.DataFrame | None
    hardest: pl.DataFrame | None
    top: pl.DataFrame | None = None
    rotations: Rotations | None = None
    cross: tuple[Cross, ...] = ()
    synthetic: float = 0.0  # share of the corpus that is synthetic speech
    corpus: str | None = None
    day: str | None = None  # ISO 8601, UTC
    command: str | None = None
    exploration: Exploration | None = None

    @property
    def scores(self) -> SystemScores:
        """Return the scores of the classifier, or without one of the regressor."""
        shown = self.classifier or self.regressor
        return SystemScores() if shown is None else self.metrics[shown.split][shown.system]

    @property
    def classes(self) -> ClassScores:
        """Return the scores of the classifier, which there must be."""
        assert self.classifier is not None
        scores = self.scores.classes
        assert scores is not None
        return scores


def gather(
    run: Path,
    metrics: Metrics,
    heads: Sequence[str],
    manifest: Manifest | None = None,
    *,
    audio: Path | None = None,
    transcripts: TranscriptCache | None = None,
) -> Contents:
    """Read a run that `ser.score.run.score_run` gave the metrics of.

    `audio` is the folder of the clips; words come from the manifest, and where it has none from
    `transcripts`. `ser.stages.score.report_contents` adds what a run's folder does not hold: `top`,
    `synthetic`, `exploration`. Raises `UserError` as `score_run` does.
    """
    logits = read_heads(run / "heads", heads)
    classifier, regressor = choose_shown(metrics, "macro_f1"), choose_shown(metrics, "ccc")
    reliability = agreement = hardest = None
    if classifier is not None:
        systems = of_systems(run, logits, [classifier.split])
        predictions = {name: f for name, f in systems.items() if "prediction" in f.columns}
        agreement = _agreement(predictions)
        truth = ground_truth(logits, manifest, ())
        rows = predictions[classifier.system].join(truth, "utterance", maintain_order="left")
        classes = next(iter(logits.values())).classes
        reliability, hardest = _in_detail(rows.filter(pl.col("label") >= 0), classes)
        hardest = _with_words_and_audio(hardest, run / "report", manifest, audio, transcripts)
    rotations = run / ROTATIONS  # of a cross-validation
    return Contents(
        run=run,
        metrics=metrics,
        heads={name: _head(run / "heads" / name, head) for name, head in logits.items()},
        stack=StackSummary.read(stack_file(run)) if has_stack(run) else None,
        classifier=classifier,
        regressor=regressor,
        reliability=reliability,
        agreement=agreement,
        hardest=hardest,
        rotations=Rotations.read(rotations) if rotations.is_file() else None,
        cross=tuple(Cross.read(file) for file in sorted(run.glob(f"cross/*/{CROSS}"))),
        corpus=_corpus(manifest) if manifest is not None else None,
        day=_day(run, heads),
        command=_command(run),
    )


def choose_shown(metrics: Metrics, metric: Ranked) -> Shown | None:
    """Choose the system and the split that are shown, for `macro_f1` or `ccc`."""
    best_of = {split: name for split in SCORED if (name := best(metrics.get(split, {}), metric))}
    if not best_of:
        return None
    split = "test" if "test" in best_of else "dev"
    chosen = best_of.get("dev", best_of[split])  # on dev, so that no choice is made on test
    return Shown(split, chosen if chosen in metrics[split] else best_of[split])


def _head(folder: Path, logits: HeadLogits) -> Head:
    record, history = folder / "head.json", folder / "history.csv"
    try:
        epochs = pl.read_csv(history, infer_schema_length=None) if history.is_file() else None
        if epochs is not None:
            epochs.get_column("epoch")
    except pl.exceptions.PolarsError as error:
        raise DamagedError(history, "it is not readable as CSV", TRAIN_AGAIN) from error
    return Head(
        fingerprint=logits.fingerprint,
        features=logits.features,
        summary=HeadSummary.read(record) if record.is_file() else HeadSummary(),
        history=epochs,
    )


def _corpus(manifest: Manifest) -> str:
    """Return the corpus's name and size."""
    speakers = manifest.frame.filter(pl.col("speaker") != "")["speaker"].n_unique()
    corpus = f"{corpus_name(Path(manifest.source))}, {plural(len(manifest), 'utterance')}"
    return corpus + (f" of {plural(speakers, 'speaker')}" if speakers else "")


def _day(run: Path, heads: Sequence[str]) -> str:
    """Return the day (UTC) on which the newest predictions of a run were written."""
    files = [run / "heads" / head / "logits.h5" for head in heads]
    files += [run / "stack" / PREDICTIONS] if has_stack(run) else []
    newest = max(file.stat().st_mtime for file in files if file.is_file())
    return datetime.fromtimestamp(newest, UTC).date().isoformat()


def _command(run: Path) -> str | None:
    """Return the command that repeats a run, without folders that only this machine has."""
    if not (run / "pipeline.yaml").is_file():
        return None
    return f"ser run --pipeline {Path(*run.resolve().parts[-2:]) / 'pipeline.yaml'}"


def _agreement(predictions: Mapping[str, pl.DataFrame]) -> pl.DataFrame | None:
    if len(predictions) < 2:
        return None
    ids = next(iter(predictions.values())).select("utterance")
    chosen = [
        ids.join(frame, "utterance", "left", maintain_order="left")["prediction"]
        for frame in predictions.values()
    ]
    classes = pl.concat(chosen).unique(maintain_order=True).to_list()
    codes = [indices_of(names, classes) for names in chosen]
    columns = {
        name: [kappa(a, b) for a in codes] for name, b in zip(predictions, codes, strict=True)
    }
    return pl.DataFrame({"system": list(predictions), **columns})


def _in_detail(rows: pl.DataFrame, classes: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the reliability curve of labelled rows, and the hardest of them, lowest first.

    Those are the rows to whose true class the system gives the least probability.
    """
    labels = rows["label"].to_numpy()
    probabilities = rows.select(f"p.{name}" for name in classes).to_numpy()
    probability = pl.Series(np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0])
    hardest = (
        rows.with_columns(emotion_of(classes), probability=probability)
        .sort("probability", maintain_order=True)
        .head(HARDEST)
        .select("utterance", "emotion", "prediction", "probability", "speaker")
    )
    return equal_mass_curve(probabilities, labels), hardest


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
        if audio is not None:
            spans = zip(*(manifest.column(c, ids) for c in ("path", "start", "end")), strict=True)
            links = [_link(folder, audio / path, start, end) for path, start, end in spans]
    if transcripts is not None:
        words = [word or other for word, other in zip(words, transcripts.texts(ids), strict=True)]
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
