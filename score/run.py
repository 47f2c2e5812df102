"""Score a run: every head, and the stack when there is one, on dev and test.

    <run>/heads/<head>/logits.h5            read
    <run>/stack/{stack.json, predictions.parquet}   read when the stack is done
    <run>/report/metrics.json               {split: {head or "stack": numbers}}
    <run>/report/predictions.csv            every utterance of the run, one row each

Labels come from the manifest when one is given, else from logits.h5 itself, and always by
utterance id. Train is not scored: the heads have seen it. The predictions are the stack's, or
without a stack those of the head with the best macro-F1 on dev.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from cache.logits import HeadLogits
from corpus.errors import UserError
from corpus.manifest import SPLITS, Manifest
from score.bootstrap import balanced_bootstrap
from score.config import ScoreConfig
from score.heads import labels_of, read_heads, softmax
from score.metrics import score

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SCORED = ("dev", "test")
STACK = "stack"  # the stack's name among the heads

Metrics = dict[str, dict[str, dict[str, Any]]]  # split -> head or "stack" -> numbers


def score_run(
    run: Path, config: ScoreConfig, heads: Sequence[str], manifest: Manifest | None = None
) -> Metrics:
    """Score the heads and the stack of a run, write the report, return metrics.json.

    Splits without a labelled row are left out, and rows without a label are not counted.
    Raises `UserError` for heads that cannot be read together (`score.heads.read_heads`), a stack
    made of other logits than these, or a manifest that does not belong to them.
    """
    if STACK in heads:
        raise UserError(f"{run}: a head may not be called '{STACK}'; rename it in pipeline.yaml.")
    found = read_heads(run / "heads", heads)
    classes = found[0].classes
    truth = labels_of(found) if manifest is None else _labels_in(manifest, found)
    systems = {name: _of_head(head) for name, head in zip(heads, found, strict=True)}
    if (run / "stack" / "stack.json").is_file():
        systems[STACK] = _of_stack(run / "stack", dict(zip(heads, found, strict=True)))

    metrics: Metrics = {split: {} for split in SCORED}
    for split in SCORED:
        for name, frame in systems.items():
            numbers = _numbers(frame.filter(pl.col("split") == split), truth, classes, config)
            if numbers["n"]:
                metrics[split][name] = numbers
    metrics = {split: numbers for split, numbers in metrics.items() if numbers}

    emotion = pl.Series([None if i < 0 else classes[i] for i in truth.values()], dtype=pl.String())
    known = pl.DataFrame({"utterance": list(truth), "emotion": emotion})
    frame = systems[_best(systems, metrics)].join(known, "utterance", "left", maintain_order="left")
    columns = ["utterance", "split", "emotion", "prediction", *(f"p.{name}" for name in classes)]
    _write(run / "report", metrics, frame.select(columns))
    return metrics


def render(metrics: Metrics, console: "Console") -> None:
    """Print the tables of every split: scores, F1 per class, and the confusion matrix.

    The confusion matrix is the stack's, or without a stack that of the best head; its rows are the
    true classes. Fits 80 columns for eight classes, and needs no terminal.
    """
    for split, systems in metrics.items():
        rows = sorted({numbers["n"] for numbers in systems.values()})
        name = STACK if STACK in systems else _highest(systems)
        for title, table in (
            (f"{split}: {' / '.join(map(str, rows))} labelled utterances", _scores_table(systems)),
            (f"{split}: F1 per class, %", _f1_table(systems)),
            (
                f"{split}: confusion of {name} (rows true, columns predicted)",
                _confusion_table(systems[name]),
            ),
        ):
            # Not the table's own title: that would be folded to the width of the table.
            console.print(title, style="bold", markup=False, highlight=False)
            console.print(table)


def _of_head(head: HeadLogits) -> pl.DataFrame:
    frames = []
    for split in SPLITS:
        if split not in head.splits:
            continue
        rows = head.splits[split]
        probability = softmax(rows.logits)
        prediction = [head.classes[i] for i in rows.logits.argmax(axis=1)]
        columns = {
            "utterance": pl.Series(rows.utterance, dtype=pl.String()),
            "split": pl.Series([split] * len(prediction), dtype=pl.String()),
            "prediction": pl.Series(prediction, dtype=pl.String()),
        }
        for i, name in enumerate(head.classes):
            columns[f"p.{name}"] = pl.Series(probability[:, i])
        frames.append(pl.DataFrame(columns))
    return pl.concat(frames)


def _of_stack(folder: Path, heads: Mapping[str, HeadLogits]) -> pl.DataFrame:
    path = folder / "stack.json"
    about = json.loads(path.read_text())
    for name, head in heads.items():
        if about["heads"].get(name, head.fingerprint) != head.fingerprint:
            raise UserError(
                f"{path}: the stack was fitted on other logits of head '{name}'; "
                "fit it again with `ser stack fit`."
            )
        if tuple(about["classes"]) != head.classes:
            raise UserError(
                f"{path}: the stack's classes are {', '.join(about['classes'])}, but those of head "
                f"'{name}' are {', '.join(head.classes)}; fit it again with `ser stack fit`."
            )
    return pl.read_parquet(folder / "predictions.parquet")


def _labels_in(manifest: Manifest, heads: Sequence[HeadLogits]) -> dict[str, int]:
    index = {name: i for i, name in enumerate(heads[0].classes)}
    emotions = dict(zip(manifest.frame["utterance"], manifest.frame["emotion"], strict=True))
    truth: dict[str, int] = {}
    for head in heads:
        for rows in head.splits.values():
            for utterance in rows.utterance:
                if utterance not in emotions:
                    raise UserError(
                        f"{manifest.source}: utterance '{utterance}', which head '{head.head}' has "
                        "logits of, is missing; score with the manifest that the heads were "
                        "trained on."
                    )
                emotion = emotions[utterance]
                if emotion is not None and emotion not in index:
                    raise UserError(
                        f"{manifest.source}: emotion '{emotion}' of '{utterance}' is not a class "
                        f"of the heads ({', '.join(index)}); train them with the same "
                        "corpus.classes."
                    )
                truth[utterance] = -1 if emotion is None else index[emotion]
    return truth


def _numbers(
    frame: pl.DataFrame, truth: Mapping[str, int], classes: Sequence[str], config: ScoreConfig
) -> dict[str, Any]:
    index = {name: i for i, name in enumerate(classes)}
    labels = np.array([truth.get(u, -1) for u in frame["utterance"]], np.int64)
    predictions = np.array([index[p] for p in frame["prediction"]], np.int64)
    numbers = score(labels, predictions, classes)
    if numbers["n"]:
        matrix = np.array(numbers["confusion"])
        numbers["bootstrap"] = balanced_bootstrap(matrix, config.bootstrap, config.seed)
    return numbers


def _best(systems: Mapping[str, pl.DataFrame], metrics: Metrics) -> str:
    if STACK in systems:
        return STACK
    return _highest(metrics["dev"]) if "dev" in metrics else next(iter(systems))


def _highest(systems: Mapping[str, Mapping[str, Any]]) -> str:
    return max(systems, key=lambda name: float(systems[name]["macro_f1"]))


def _write(folder: Path, metrics: Metrics, predictions: pl.DataFrame) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / ".predictions.csv.part"
    predictions.write_csv(part, float_precision=6)
    part.replace(folder / "predictions.csv")
    part = folder / ".metrics.json.part"
    part.write_text(json.dumps(metrics, indent=2) + "\n")
    part.replace(folder / "metrics.json")


def _scores_table(systems: Mapping[str, Mapping[str, Any]]) -> "Table":
    table = _table()
    table.add_column("system", overflow="fold")
    for name in ("macro-F1", "balanced bootstrap", "UAR", "accuracy"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, numbers in systems.items():
        mean, low, high = (numbers["bootstrap"][key] for key in ("mean", "min", "max"))
        table.add_row(
            name,
            f"{numbers['macro_f1']:.3f}",
            f"{mean:.3f} [{low:.3f}, {high:.3f}]",
            f"{numbers['uar']:.3f}",
            f"{numbers['accuracy']:.3f}",
        )
    return table


def _f1_table(systems: Mapping[str, Mapping[str, Any]]) -> "Table":
    first = next(iter(systems.values()))
    table = _table()
    table.add_column("system", overflow="fold")
    _add_class_columns(table, list(first["per_class"]))
    for name, numbers in systems.items():
        table.add_row(
            name,
            *(
                f"{100 * f1:.0f}" if sum(row) else "-"
                for f1, row in zip(numbers["per_class"].values(), numbers["confusion"], strict=True)
            ),
        )
    return table


def _confusion_table(numbers: Mapping[str, Any]) -> "Table":
    table = _table()
    table.add_column("", overflow="fold")
    _add_class_columns(table, list(numbers["per_class"]))
    for true, counts in zip(numbers["per_class"], numbers["confusion"], strict=True):
        table.add_row(true, *map(str, counts))
    return table


def _add_class_columns(table: "Table", classes: Sequence[str]) -> None:
    short = [name[:5] for name in classes]  # so that eight of them fit 80 columns
    for name in short if len(set(short)) == len(classes) else classes:
        table.add_column(name, justify="right", overflow="fold")


def _table() -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
