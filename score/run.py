"""Score a run: every head, and the stack when there is one, on dev and test.

    <run>/heads/<head>/logits.h5                    read
    <run>/stack/{stack.json, predictions.parquet}   read when the stack is done
    <run>/report/metrics.json                       {split: {head or "stack": numbers}}
    <run>/report/predictions.csv                    every utterance of the run, one row each

The numbers of dev and test are those of `score.metrics.score` with `bootstrap` (balanced, as
published), `interval` (speaker-clustered, 95 %), `ece`, `groups` and `clusters`, the number of
speakers resampled; `attributes` where attributes are predicted. A head's entry of test (of dev,
without a test set) has `train` as well: the macro-F1 of rows that it was trained on, of rows scored
out of fold, and its optimism, the first less that of test.

Truth comes from the manifest when one is given, else from logits.h5 itself, and always by utterance
id. The predictions are the stack's, or without a stack those of the head that is best on dev: by
macro-F1 the emotions, by mean CCC the attributes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import polars.selectors as cs

from cache.logits import HeadLogits
from corpus.errors import UserError
from corpus.manifest import SPLITS, Manifest
from score.attributes import binned_confusion, resampled_ccc, score_attributes
from score.bootstrap import Resamples, balanced_bootstrap, resample_speakers
from score.calibration import ece
from score.config import ScoreConfig
from score.groups import Scores, attribute_scores, class_scores, score_groups
from score.heads import classifies, read_heads, require_same_utterances, softmax
from score.metrics import METRICS, confusion, macro_f1, per_class_f1, score
from score.truth import GROUP, TRUTH, known_rows

if TYPE_CHECKING:
    from rich.console import Console

SCORED = ("dev", "test")
STACK = "stack"  # the stack's name among the heads
PREDICTED = "predicted."

Metrics = dict[str, dict[str, dict[str, Any]]]  # split -> head or "stack" -> numbers


def score_run(
    run: Path, config: ScoreConfig, heads: Sequence[str], manifest: Manifest | None = None
) -> Metrics:
    """Score the heads and the stack of a run, write the report, return metrics.json.

    Heads may tell classes, attributes, or both. Splits without a row whose truth is known are left
    out, and rows without a truth are not counted.
    Raises `UserError` for heads that cannot be read together (`score.heads.read_heads`) or have
    different utterances, a stack made of other logits than these, or a manifest that does not
    belong to them.
    """
    if STACK in heads:
        raise UserError(f"{run}: a head may not be called '{STACK}'; rename it in pipeline.yaml.")
    folder = run / "heads"
    found = dict(zip(heads, read_heads(folder, heads, attributes_alone=True), strict=True))
    require_same_utterances(folder, found)
    classes = next(iter(found.values())).classes
    known = known_rows(found, manifest, config.groups)
    systems = {name: of_head(head) for name, head in found.items()}
    if (run / "stack" / "stack.json").is_file():
        systems[STACK] = _of_stack(run / "stack", found)

    metrics: Metrics = {split: {} for split in SCORED}
    for split in SCORED:
        for name, frame in systems.items():
            rows = frame.filter(pl.col("split") == split)
            joined = rows.join(known, "utterance", "left", maintain_order="left")
            if numbers := _numbers(joined, classes, config):
                metrics[split][name] = numbers
    metrics = {split: numbers for split, numbers in metrics.items() if numbers}
    beside = metrics.get("test") or metrics.get("dev") or {}
    for name, train in _of_train(found, known, metrics.get("test", {})).items():
        if name in beside:
            beside[name]["train"] = train
    _write(run / "report", metrics, _predictions(systems, metrics, known, classes))
    return metrics


def render(metrics: Metrics, console: "Console") -> None:
    """Print the tables of every split (`score.tables`); fits 80 columns, and needs no terminal."""
    from score.tables import print_split, print_train

    for split in SCORED:
        if split in metrics:
            systems = metrics[split]
            print_split(split, systems, best(systems, "macro_f1"), best(systems, "ccc"), console)
    beside = metrics.get("test") or metrics.get("dev") or {}
    if train := {name: numbers["train"] for name, numbers in beside.items() if "train" in numbers}:
        print_train(train, console)


def best(systems: Mapping[str, Mapping[str, Any]], metric: str) -> str | None:
    """Name the stack, or without one the system of a split with the highest macro_f1 or (mean) ccc.

    None where no system has the metric.
    """
    if metric == "ccc":
        values = {
            n: s["attributes"]["mean"]["ccc"] for n, s in systems.items() if "attributes" in s
        }
    else:
        values = {name: s[metric] for name, s in systems.items() if metric in s}
    return STACK if STACK in values else max(values, key=lambda name: values[name], default=None)


def of_head(head: HeadLogits, splits: Sequence[str] = SPLITS) -> pl.DataFrame:
    """Return utterance, split, prediction, p.<class>, predicted.<attribute>: what a head tells."""
    frames, tells = [], classifies(head)
    names = np.array(head.classes, object)
    for split in splits:
        if split not in head.splits:
            continue
        rows = head.splits[split]
        columns = {
            "utterance": pl.Series(rows.utterance, dtype=pl.String()),
            "split": pl.Series([split] * len(rows.utterance), dtype=pl.String()),
        }
        if tells:
            chosen = names[rows.logits.argmax(axis=1)]
            columns["prediction"] = pl.Series(chosen.tolist(), dtype=pl.String())
            probability = softmax(rows.logits)
            columns |= {f"p.{c}": pl.Series(probability[:, i]) for i, c in enumerate(names)}
        if rows.predicted is not None:
            said = rows.predicted.astype(np.float64)
            columns |= {PREDICTED + a: pl.Series(said[:, i]) for i, a in enumerate(head.attributes)}
        frames.append(pl.DataFrame(columns))
    return pl.concat(frames)


def require_fitted_on(path: Path, fitted: Mapping[str, str], heads: Mapping[str, str]) -> None:
    """Raise `UserError` where a stack.json was `fitted` on other logits; all are fingerprints."""
    for name, fingerprint in heads.items():
        if fitted.get(name, fingerprint) != fingerprint:
            raise UserError(
                f"{path}: the stack was fitted on other logits of head '{name}'; "
                "fit it again with `ser stack fit`."
            )


def _of_stack(folder: Path, heads: Mapping[str, HeadLogits]) -> pl.DataFrame:
    path = folder / "stack.json"
    about = json.loads(path.read_text())
    require_fitted_on(path, about["heads"], {n: head.fingerprint for n, head in heads.items()})
    for name, head in heads.items():
        if tuple(about["classes"]) != head.classes:
            raise UserError(
                f"{path}: the stack's classes are {', '.join(about['classes'])}, but those of head "
                f"'{name}' are {', '.join(head.classes)}; fit it again with `ser stack fit`."
            )
    return pl.read_parquet(folder / "predictions.parquet")


def _numbers(rows: pl.DataFrame, classes: Sequence[str], config: ScoreConfig) -> dict[str, Any]:
    """Return what metrics.json says of one system on one split; nothing without a truth."""
    attributes = [
        name.removeprefix(PREDICTED)
        for name in rows.columns
        if name.startswith(PREDICTED) and TRUTH + name.removeprefix(PREDICTED) in rows.columns
    ]
    if "prediction" not in rows.columns:
        rows = rows.with_columns(label=pl.lit(-1))
    rated = [pl.col(TRUTH + name).is_not_nan() for name in attributes]
    rows = rows.filter(pl.any_horizontal(pl.col("label") >= 0, *rated))
    if not rows.height:
        return {}
    draw = resample_speakers(rows["speaker"].to_list(), config.resamples, config.seed)
    labels, shape = rows["label"].to_numpy(), (rows.height, len(attributes))
    truth, predicted = (
        rows.select(side + name for name in attributes).to_numpy().reshape(shape)
        for side in (TRUTH, PREDICTED)
    )
    predictions = np.zeros(len(labels), np.int64)
    numbers: dict[str, Any] = {}
    if (labels >= 0).any():
        index = {name: i for i, name in enumerate(classes)}
        chosen = rows["prediction"].replace_strict(index, return_dtype=pl.Int64)
        predictions = chosen.to_numpy()
        probabilities = rows.select(f"p.{name}" for name in classes).to_numpy()
        numbers = _class_numbers(draw, labels, predictions, classes, config)
        numbers["ece"] = ece(probabilities, labels)
    if not np.isnan(truth).all():
        numbers["attributes"] = _attribute_numbers(draw, truth, predicted, attributes)

    def scores(mask: np.ndarray) -> Scores:
        of_classes = class_scores(draw, np.where(mask, labels, -1), predictions, len(classes))
        rated = np.where(mask[:, None], truth, np.nan)
        return of_classes | attribute_scores(draw, rated, predicted)

    columns = [name for name in rows.columns if name.startswith(GROUP)]
    groups = {c.removeprefix(GROUP): score_groups(rows[c].to_list(), draw, scores) for c in columns}
    groups = {column: scored for column, scored in groups.items() if scored}
    return numbers | {"groups": groups, "clusters": draw.counts.shape[1]}


def _class_numbers(
    draw: Resamples,
    labels: np.ndarray,
    predictions: np.ndarray,
    classes: Sequence[str],
    config: ScoreConfig,
) -> dict[str, Any]:
    numbers = score(labels, predictions, classes)
    matrix = np.array(numbers["confusion"])
    numbers["bootstrap"] = balanced_bootstrap(matrix, config.bootstrap, config.seed)
    drawn = draw.confusions(labels, predictions, len(classes))
    some = drawn.any(axis=(1, 2))  # where speakers with ratings alone were drawn, there is none
    numbers["interval"] = {name: draw.interval(of(drawn[some])) for name, of in METRICS.items()}
    f1 = np.where(drawn.any(axis=2), per_class_f1(drawn), np.nan)
    per_class = {name: draw.interval(f1[:, i]) for i, name in enumerate(classes)}
    numbers["interval"]["per_class"] = per_class
    return numbers


def _attribute_numbers(
    draw: Resamples, truth: np.ndarray, predicted: np.ndarray, attributes: Sequence[str]
) -> dict[str, Any]:
    numbers = score_attributes(truth, predicted, attributes)
    drawn = resampled_ccc(draw, truth, predicted)
    binned = binned_confusion(truth, predicted)
    for i, name in enumerate(attributes):
        numbers[name] |= {"interval": draw.interval(drawn[:, i]), "confusion": binned[i].tolist()}
    rated = ~np.isnan(truth).all(axis=0)
    numbers["mean"]["interval"] = draw.interval(drawn[:, rated].mean(axis=1))
    return numbers


def _of_train(
    heads: Mapping[str, HeadLogits], known: pl.DataFrame, test: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return each head's macro-F1 on train, in sample and out of fold, and its optimism."""
    found: dict[str, dict[str, Any]] = {}
    for name, head in heads.items():
        if "train" not in head.splits or not classifies(head):
            continue
        rows = head.splits["train"]
        ids = pl.DataFrame({"utterance": rows.utterance}, schema={"utterance": pl.String()})
        labels = ids.join(known, "utterance", "left", maintain_order="left")["label"].to_numpy()
        if not (labels >= 0).any():
            continue
        if rows.rows == "held-out":  # nothing was learned of them, nor of anything
            continue
        unseen = rows.rows == "out-of-fold"
        scores = {
            kind: None
            if logits is None
            else float(macro_f1(confusion(labels, logits.argmax(axis=1), len(head.classes))))
            for kind, logits in (
                ("in_sample", rows.in_sample if unseen else rows.logits),
                ("out_of_fold", rows.logits if unseen else None),
            )
        }
        seen, tested = scores["in_sample"], test.get(name, {}).get("macro_f1")
        optimism = None if seen is None or tested is None else seen - tested
        found[name] = scores | {"optimism": optimism}
    return found


def _predictions(
    systems: Mapping[str, pl.DataFrame],
    metrics: Metrics,
    known: pl.DataFrame,
    classes: Sequence[str],
) -> pl.DataFrame:
    emotion = pl.col("label").replace_strict(
        dict(enumerate(classes)), default=None, return_dtype=pl.String()
    )
    dev = metrics.get("dev", {})
    tell = _chosen(systems, "prediction", best(dev, "macro_f1"))
    rate = _chosen(systems, PREDICTED, best(dev, "ccc"))
    frame = systems[tell or rate or next(iter(systems))]
    own = [name for name in frame.columns if name == "prediction" or name.startswith("p.")]
    truth = known.select("utterance", emotion=emotion)
    frame = frame.join(truth, "utterance", "left", maintain_order="left")
    frame = frame.select("utterance", "split", "emotion", *own)
    if rate is None:
        return frame
    said = systems[rate].select("utterance", cs.starts_with(PREDICTED))
    return frame.join(said, "utterance", "left", maintain_order="left")


def _chosen(systems: Mapping[str, pl.DataFrame], column: str, best: str | None) -> str | None:
    """Name the system whose columns of this name are written; None where no system has any."""
    able = [n for n, f in systems.items() if any(c.startswith(column) for c in f.columns)]
    return STACK if STACK in able else best or next(iter(able), None)


def _write(folder: Path, metrics: Metrics, predictions: pl.DataFrame) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / ".predictions.csv.part"
    predictions.write_csv(part, float_precision=6)
    part.replace(folder / "predictions.csv")
    part = folder / ".metrics.json.part"
    part.write_text(json.dumps(metrics, indent=2) + "\n")
    part.replace(folder / "metrics.json")
