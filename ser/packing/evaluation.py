"""Score a run on what it has not seen, calibrate it there, and choose when it abstains.

1. Collect the stack's predictions for its test speakers, and those of `ser cross` for each corpus
   by a stack that was trained on the others.
2. Fit a temperature on the predictions for unseen corpora. The run's own is fitted on its own
   corpora, and other speech makes it over-confident.
3. Choose the lowest confidence with which those predictions keep to the wanted risk.
4. Score everything by corpus, language, gender and emotion.

One temperature and one threshold are chosen on the same clips that are scored, so the scores at the
threshold are slightly optimistic.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ser.corpus.classes import read_with_classes
from ser.corpus.errors import UserError
from ser.corpus.importers.registry import IMPORTERS
from ser.packing.corpora import corpus_named, licence_of
from ser.pipeline.file import Pipeline
from ser.predict.evaluation import ALL, Corpus, Evaluation, Score
from ser.predict.predictor import Predictor
from ser.score.abstention import choose_threshold
from ser.score.bootstrap import resample_speakers
from ser.score.calibration import ece, fit_temperature
from ser.score.config import ScoreConfig
from ser.score.heads import softmax
from ser.score.metrics import confusion, macro_f1
from ser.score.rotations import labelled_predictions
from ser.score.run import STACK
from ser.score.truth import indices_of

COLUMNS = ("corpus", "language", "gender", "emotion")
TINY = 1e-12


def evaluate(predictor: Predictor, risk: float) -> Evaluation:
    """Return the evaluation of a run with a stack, on its test speakers and across its corpora.

    Args:
        predictor: the run.
        risk: the share of wrong predictions that the threshold keeps to on unseen corpora.

    Raises `UserError` for a run without a stack, without the trainings of `ser cross` by corpus, or
    with those of other heads, and where no threshold keeps to the risk.
    """
    run, classes = predictor.run, predictor.classes
    if predictor.stack is None or not classes:
        raise UserError(f"{run}: --risk needs a stack that predicts classes; run `ser stack fit`.")
    frame = read_with_classes(predictor.pipeline.corpus).frame
    groups = frame.select("utterance", "split", "speaker", "corpus", "language", "gender")
    across = pl.concat([_predicted(folder, predictor, groups) for folder in _trainings(predictor)])
    logits, labels = _logits(across, classes), indices_of(across["emotion"], classes)
    temperature = fit_temperature(logits, labels)
    probability = softmax(logits / temperature)
    right = probability.argmax(axis=1) == labels
    threshold = choose_threshold(probability.max(axis=1), right, risk)
    if threshold is None:
        raise UserError(
            f"{run}: no threshold keeps to the risk {risk:g} on unseen corpora; give a larger "
            "--risk."
        )
    threshold = min(1.0, math.ceil(100 * threshold) / 100)
    within = _predicted(run, predictor, groups)
    system = _Calibrated(classes, temperature, threshold, predictor.pipeline.score)
    return Evaluation(
        corpora=_corpora(groups),
        unseen_speakers=system.scores(within),
        unseen_corpora=system.scores(across),
        temperature=temperature,
        min_confidence=threshold,
        risk=risk,
    )


def _trainings(predictor: Predictor) -> list[Path]:
    """Return the runs that `ser cross` trained on all corpora but one, of the heads of this run."""
    folder = predictor.run / "cross" / "corpus"
    runs = sorted(path.parent for path in folder.glob("without-*/pipeline.yaml"))
    if not runs or not (folder / "cross.json").is_file():
        raise UserError(
            f"{folder}: there are no scores across three or more corpora for --risk; run `ser "
            "cross` first."
        )
    for run in runs:
        other, own = Pipeline.load(run / "pipeline.yaml"), predictor.pipeline
        if (other.heads, other.features, other.stack) != (own.heads, own.features, own.stack):
            raise UserError(
                f"{run}: its heads, features or stack are not those of {predictor.run}; run `ser "
                "cross` again."
            )
    return runs


def _predicted(run: Path, predictor: Predictor, groups: pl.DataFrame) -> pl.DataFrame:
    """Return the stack's predictions for the labelled test rows of a run, with the groups."""
    rows = labelled_predictions(run, predictor.heads)[STACK].filter(pl.col("label") >= 0)
    columns = ["utterance", "emotion", *(f"p.{name}" for name in predictor.classes)]
    if not set(columns) <= set(rows.columns):
        raise UserError(f"{run}: it was not trained on every class of {predictor.run}.")
    return rows.select(columns).join(groups, "utterance", "inner", maintain_order="left")


def _logits(rows: pl.DataFrame, classes: tuple[str, ...]) -> np.ndarray:
    columns = rows.select(f"p.{name}" for name in classes).to_numpy()
    logits: np.ndarray = np.log(columns.clip(TINY))
    return logits


@dataclass(frozen=True)
class _Calibrated:
    """The stack with a temperature and a threshold, as the bundle will have it."""

    classes: tuple[str, ...]
    temperature: float
    threshold: float
    config: ScoreConfig

    def scores(self, rows: pl.DataFrame) -> tuple[Score, ...]:
        """Score all rows, and every group of each column; a row is an utterance."""
        scores = []
        for column in (ALL, *COLUMNS):
            group = pl.lit(ALL) if column == ALL else pl.col(column)
            grouped = rows.with_columns(group=group).filter(pl.col("group").is_not_null())
            parts = grouped.partition_by("group", as_dict=True)
            scores += [self._score(column, str(name), parts[name,]) for (name,) in sorted(parts)]
        return tuple(scores)

    def _score(self, column: str, group: str, rows: pl.DataFrame) -> Score:
        labels = indices_of(rows["emotion"], self.classes)
        probability = softmax(_logits(rows, self.classes) / self.temperature)
        chosen = probability.argmax(axis=1)
        right, confident = chosen == labels, probability.max(axis=1) >= self.threshold
        draw = resample_speakers(rows["speaker"].to_list(), self.config.resamples, self.config.seed)
        drawn = draw.sums(np.stack([right, np.ones(len(right))], axis=1))
        interval = draw.interval(drawn[:, 0] / drawn[:, 1])
        several = column != "emotion"  # of one class there is neither macro-F1 nor ECE
        matrix = confusion(labels, chosen, len(self.classes))
        return Score(
            column=column,
            group=group,
            utterances=rows.height,
            speakers=draw.speakers,
            accuracy=float(right.mean()),
            interval=None if interval is None else (interval[0], interval[1]),
            macro_f1=float(macro_f1(matrix)) if several else None,
            ece=ece(probability, labels) if several else None,
            coverage=float(confident.mean()),
            confident_accuracy=float(right[confident].mean()) if confident.any() else None,
        )


def _corpora(groups: pl.DataFrame) -> tuple[Corpus, ...]:
    """Describe the corpora by their training rows, in the order of the manifest."""
    trained = groups.filter(pl.col("split") == "train", pl.col("corpus").is_not_null())
    return tuple(
        Corpus(
            name=_title(str(name)),
            licence=licence_of(str(name)),
            utterances=rows.height,
            speakers=rows["speaker"].drop_nulls().n_unique(),
        )
        for (name,), rows in trained.group_by("corpus", maintain_order=True)
    )


def _title(corpus: str) -> str:
    """Return the name of a corpus as its importer writes it: EmoDB for emodb."""
    named = corpus_named(corpus)
    if named is None or named not in IMPORTERS.built_in:
        return corpus
    return IMPORTERS.built_in[named].summary.partition(":")[0]
