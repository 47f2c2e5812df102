"""Score a run: every head, and the stack when there is one, on dev and test.

    <run>/heads/<head>/logits.h5                    read
    <run>/stack/{stack.json, predictions.parquet}   read when the stack is done
    <run>/report/metrics.json                       {split: {head or "stack": numbers}}, checksum
    <run>/report/predictions.csv                    every utterance of the run, one row each

The numbers of a system on dev and test are those of `ser.score.system`. A head's entry of test (of
dev, without a test set) has `train` as well: the macro-F1 of rows that it was trained on, of rows
scored out of fold, and the generalization gap (`optimism`), the first less that of test.

Truth comes from the manifest when one is given, else from logits.h5 itself, and always by utterance
id. The predictions are the stack's, or without a stack those of the head that is best on dev: by
macro-F1 the emotions, by mean CCC the attributes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import polars.selectors as cs

from ser.cache.logits import HeadLogits
from ser.corpus.atomic import READ_ONLY, remove_leftovers, write_if_changed
from ser.corpus.cells import SPLITS
from ser.corpus.errors import StoppedError, UserError
from ser.corpus.manifest import Manifest
from ser.score.config import ScoreConfig
from ser.score.heads import classifies, read_heads, require_same_utterances, softmax
from ser.score.metrics import confusion, macro_f1
from ser.score.predictions import Predictions
from ser.score.record import StackSummary, has_stack, read_predictions, stack_file
from ser.score.scores import Metrics, Ranked, SystemScores, TrainScores, metrics_text
from ser.score.system import score_system
from ser.score.truth import PREDICTED, emotion_of, ground_truth

if TYPE_CHECKING:
    from rich.console import Console

SCORED = ("dev", "test")
STACK = "stack"  # the stack's name among the heads


class NotWrittenError(StoppedError):
    """The scores of a run whose report folder cannot be written."""

    def __init__(self, folder: Path, problem: str, metrics: Metrics) -> None:
        super().__init__(f"{folder}: {problem}; the scores are shown and not written.")
        self.metrics = metrics


def score_run(
    run: Path,
    config: ScoreConfig,
    heads: Sequence[str],
    manifest: Manifest | None = None,
    baseline: str | None = None,
) -> Metrics:
    """Score the heads and the stack of a run, write the report, return what metrics.json holds.

    `baseline` names the head that the others are compared with; its scores have `baseline` set.
    Heads may predict classes, attributes, or both. Splits without labelled rows are left out, and
    rows without a label are not counted. Files that would not change are not written;
    `NotWrittenError` has the metrics of a run that is read-only.
    Raises `UserError` for heads that cannot be read together (`ser.score.heads.read_heads`) or have
    different utterances, a stack fitted on other logits, or a manifest of another corpus.
    """
    if STACK in heads:
        raise UserError(f"{run}: a head may not be called '{STACK}'; rename it in pipeline.yaml.")
    folder = run / "heads"
    logits = read_heads(folder, heads)
    require_same_utterances(folder, logits)
    classes = next(iter(logits.values())).classes
    truth = ground_truth(logits, manifest, config.groups, config.secondary_votes)
    systems = of_systems(run, logits)
    metrics: Metrics = {}
    for split in SCORED:
        for name, frame in systems.items():
            rows = frame.filter(pl.col("split") == split)
            joined = rows.join(truth, "utterance", "left", maintain_order="left")
            if scores := score_system(joined, split, classes, config):
                if name == baseline:
                    scores.baseline = True
                metrics.setdefault(split, {})[name] = scores
    for name, scores in (metrics.get("test") or metrics.get("dev") or {}).items():
        test = metrics.get("test", {}).get(name)
        if name in logits and (train := _of_train(logits[name], truth, test)):
            scores.train = train
    try:
        _write(run / "report", metrics, _predictions(systems, metrics, truth, classes))
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        raise NotWrittenError(run / "report", str(error.strerror), metrics) from error
    return metrics


def render(metrics: Metrics, console: "Console") -> None:
    """Print the tables of every split in 80 columns (`ser.score.tables`)."""
    from ser.score.tables import print_split, print_train

    for split in SCORED:
        if split in metrics:
            systems = metrics[split]
            print_split(split, systems, best(systems, "macro_f1"), best(systems, "ccc"), console)
    scored = metrics.get("test") or metrics.get("dev") or {}
    if train := {name: scores.train for name, scores in scored.items() if scores.train}:
        print_train(train, console)


def best(systems: Mapping[str, SystemScores], metric: Ranked) -> str | None:
    """Name the stack, or without one the system of a split with the highest macro_f1 or (mean) ccc.

    None where no system has the metric.
    """
    values = {n: v for n, scores in systems.items() if (v := scores.score(metric)) is not None}
    return STACK if STACK in values else max(values, key=lambda name: values[name], default=None)


def of_head(head: HeadLogits, splits: Sequence[str] = SPLITS) -> pl.DataFrame:
    """Return utterance, split, prediction, p.<class>, predicted.<attribute> of a head."""
    frames, has_classes = [], classifies(head)
    for split in splits:
        if split not in head.splits:
            continue
        rows = head.splits[split]
        predictions = Predictions(
            rows.logits.argmax(axis=1) if has_classes else None,
            softmax(rows.logits) if has_classes else None,
            None if rows.predicted is None else rows.predicted.astype(np.float64),
        )
        frames.append(predictions.frame(rows.utterance, split, head.classes, head.attributes))
    return pl.concat(frames)


def of_systems(
    run: Path, heads: Mapping[str, HeadLogits], splits: Sequence[str] = SPLITS
) -> dict[str, pl.DataFrame]:
    """Return the predictions of the heads that have one of the splits, and those of the stack.

    Raises `UserError` as `of_stack`.
    """
    systems = {
        name: of_head(head, splits)
        for name, head in heads.items()
        if any(split in head.splits for split in splits)
    }
    if has_stack(run):
        systems[STACK] = of_stack(run, heads).filter(pl.col("split").is_in(splits))
    return systems


def require_fitted_on(path: Path, fitted: Mapping[str, str], heads: Mapping[str, str]) -> None:
    """Raise `UserError` where a stack.json was `fitted` on other logits; all are fingerprints."""
    for name, fingerprint in heads.items():
        if fitted.get(name, fingerprint) != fingerprint:
            raise UserError(
                f"{path}: the stack was fitted on other logits of head '{name}'; "
                "fit it again with `ser stack fit`."
            )


def of_stack(run: Path, heads: Mapping[str, HeadLogits]) -> pl.DataFrame:
    """Read the predictions of a run's stack, with the columns of `of_head`.

    Raises `UserError` for a stack that was fitted on other logits or has other classes.
    """
    path = stack_file(run)
    record = StackSummary.read(path)
    require_fitted_on(path, record.heads, {n: head.fingerprint for n, head in heads.items()})
    for name, head in heads.items():
        if tuple(record.classes) != head.classes:
            raise UserError(
                f"{path}: the stack's classes are {', '.join(record.classes)}, but those of head "
                f"'{name}' are {', '.join(head.classes)}; fit it again with `ser stack fit`."
            )
    return read_predictions(run, record)


def _of_train(
    head: HeadLogits, truth: pl.DataFrame, test: SystemScores | None
) -> TrainScores | None:
    """Return a head's macro-F1 on train, in sample and out of fold, and its gap to test.

    None without labelled rows of train, and for a head that was trained on none of them.
    """
    rows = head.splits.get("train")
    if rows is None or not classifies(head) or rows.rows == "held-out":
        return None
    ids = pl.DataFrame({"utterance": rows.utterance}, schema={"utterance": pl.String()})
    labels = ids.join(truth, "utterance", "left", maintain_order="left")["label"].to_numpy()
    if not (labels >= 0).any():
        return None

    def score(logits: np.ndarray | None) -> float | None:
        if logits is None:
            return None
        return float(macro_f1(confusion(labels, logits.argmax(axis=1), len(head.classes))))

    unseen = rows.rows == "out-of-fold"
    in_sample = score(rows.in_sample if unseen else rows.logits)
    on_test = None if test is None else test.score("macro_f1")
    return TrainScores(
        in_sample=in_sample,
        out_of_fold=score(rows.logits) if unseen else None,
        optimism=None if in_sample is None or on_test is None else in_sample - on_test,
    )


def _predictions(
    systems: Mapping[str, pl.DataFrame],
    metrics: Metrics,
    truth: pl.DataFrame,
    classes: Sequence[str],
) -> pl.DataFrame:
    dev = metrics.get("dev", {})
    classifier = _chosen(systems, "prediction", best(dev, "macro_f1"))
    regressor = _chosen(systems, PREDICTED, best(dev, "ccc"))
    frame = systems[classifier or regressor or next(iter(systems))]
    columns = [name for name in frame.columns if name == "prediction" or name.startswith("p.")]
    emotions = truth.select("utterance", emotion_of(classes))
    frame = frame.join(emotions, "utterance", "left", maintain_order="left")
    frame = frame.select("utterance", "split", "emotion", *columns)
    if regressor is None:
        return frame
    attributes = systems[regressor].select("utterance", cs.starts_with(PREDICTED))
    return frame.join(attributes, "utterance", "left", maintain_order="left")


def _chosen(systems: Mapping[str, pl.DataFrame], column: str, best: str | None) -> str | None:
    """Name the system whose columns of this name are written; None if no system has any."""
    names = [n for n, f in systems.items() if any(c.startswith(column) for c in f.columns)]
    return STACK if STACK in names else best or next(iter(names), None)


def _write(folder: Path, metrics: Metrics, predictions: pl.DataFrame) -> None:
    """Write the files that have changed, so that a read-only run can be scored again."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    write_if_changed(folder / "predictions.csv", predictions.write_csv(float_precision=6))
    write_if_changed(folder / "metrics.json", metrics_text(metrics))
