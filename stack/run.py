"""Fit the stack of a run on its heads' logits, and ask it about any logits of those heads.

    <run>/heads/<head>/logits.h5      read, aligned by utterance id
    <run>/stack/fold-<i>.skops|.txt   the members of a learned model; rules have none
    <run>/stack/predictions.parquet   utterance, split, prediction, p.<class>: every row there is
    <run>/stack/stack.json            what made it; written last

The folder is filled under a temporary name and swapped in whole, so a kill leaves the old stack,
the new one, or (between two renames) none: never a mixture that says it is done.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cache.files import fingerprint
from cache.logits import HeadLogits
from corpus.errors import UserError
from stack.config import LEARNED, StackConfig
from stack.table import LogitTable

FORMAT = "ser-stack/1"


def fit(run: Path, heads: Sequence[str], config: StackConfig) -> dict[str, Any]:
    """Fit the stack on train, predict every split, save both; return what stack.json says.

    `heads` are the pipeline's; `config.heads` picks among them. Rows without a label are not
    learned from. The same logits and configuration give the same numbers.

    Raises `UserError` for logits that do not fit together, and, for a model that learns, when
    train has no labelled row, lacks a class, or has fewer rows of a class than there are folds.
    """
    table = LogitTable.read(run / "heads", _chosen(heads, config))
    model = _model(config, len(table.classes))
    used = np.zeros(0, np.int64)
    if config.model in LEARNED:
        X, y = _training_rows(table, config, run / "heads")
        used = y[model.fit(X, y).rows_]
    else:
        model.fit()
    counts = np.bincount(used, minlength=len(table.classes)).tolist()
    about = {
        "format": FORMAT,
        "fingerprint": _fingerprint(config, table.heads),
        "config": config.model_dump(mode="json"),
        "heads": table.heads,
        "classes": list(table.classes),
        "rows": len(used),
        "rows_per_class": dict(zip(table.classes, counts, strict=True)),
    }
    _save(run, about, model, _predictions(table, model, config))
    return about


def predict(run: Path, logits_folder: Path | None = None) -> pl.DataFrame:
    """Ask the saved stack about `<logits_folder>/<head>/logits.h5` (default: the run's own heads).

    Returns `utterance`, `split`, `prediction` (class name) and `p.<class>` (float64) of every row,
    in the order train, dev, test, unlabelled and within them that of the first head's file.

    Raises `UserError` when there is no stack, when its files are damaged, and when the logits are
    not of the heads that it was fitted on.
    """
    about = _about(run)
    config = StackConfig.model_validate(about["config"])
    folder = run / "heads" if logits_folder is None else logits_folder
    table = LogitTable.read(folder, list(about["heads"]))
    for name, made_from in table.heads.items():
        if about["heads"][name] != made_from or tuple(about["classes"]) != table.classes:
            raise UserError(
                f"{folder / name / 'logits.h5'}: head '{name}' is not the one that the stack was "
                "fitted on (its fingerprint or its classes differ); fit the stack again with "
                "`ser stack fit`."
            )
    classes = len(table.classes)
    model = _model(config, classes)
    if config.model in LEARNED:
        model.load(run / "stack", classes, classes * len(table.heads))
    else:
        model.fit()
    return _predictions(table, model, config)


def is_current(run: Path, heads: Sequence[str], config: StackConfig) -> bool:
    """Tell whether the run's stack is the one that `fit` would make: a stack.json says so."""
    path = run / "stack" / "stack.json"
    if not path.is_file():
        return False
    chosen = _chosen(heads, config)
    made_from = {h: HeadLogits.read(run / "heads" / h / "logits.h5").fingerprint for h in chosen}
    found = json.loads(path.read_text()).get("fingerprint")
    return bool(found == _fingerprint(config, made_from))


def _chosen(heads: Sequence[str], config: StackConfig) -> list[str]:
    chosen = list(heads if config.heads is None else config.heads)
    for name in chosen:
        if name not in heads:
            raise UserError(
                f"stack.heads: '{name}' is not a head of the pipeline; use one of "
                f"{', '.join(heads)}."
            )
        if chosen.count(name) > 1:
            raise UserError(f"stack.heads: '{name}' stands twice; name each head once.")
    return chosen


def _fingerprint(config: StackConfig, heads: dict[str, str]) -> str:
    # As pairs: the order of the heads is the order of the columns, and a forest draws columns.
    return fingerprint(
        {"format": FORMAT, "config": config.decisive(), "heads": list(heads.items())}
    )


def _model(config: StackConfig, classes: int) -> Any:
    protocol = config.model_dump(include={"folds", "balance", "seed"})
    if config.model == "random_forest":
        from stack.forest import ForestStacker

        return ForestStacker(**config.random_forest.model_dump(), **protocol)
    if config.model == "lightgbm":
        from stack.boosting import LightGBMStacker

        return LightGBMStacker(**config.lightgbm.model_dump(), **protocol)
    from stack.rules import Majority, MeanLogits

    return MeanLogits(classes) if config.model == "mean_logits" else Majority(classes)


def _training_rows(
    table: LogitTable, config: StackConfig, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    instead = "set stack.model to mean_logits or majority, which learn nothing"
    rows = table.splits.get("train")
    if rows is None or not (rows.label >= 0).any():
        raise UserError(
            f"{folder}: the logits have no labelled rows in the split train, which a "
            f"{config.model} is fitted on; train the heads on a manifest that has some, or "
            f"{instead}."
        )
    known = rows.label >= 0
    X, y = rows.logits[known], rows.label[known]
    counts = np.bincount(y, minlength=len(table.classes))
    rarest = table.classes[int(counts.argmin())]
    if counts.min() == 0:
        raise UserError(
            f"{folder}: no row of train is of the class '{rarest}'; add some, take it out of "
            f"corpus.classes, or {instead}."
        )
    if counts.min() < config.folds:
        raise UserError(
            f"{folder}: train has {counts.min()} rows of the class '{rarest}', fewer than the "
            f"{config.folds} folds; lower stack.folds (2 is the least), or {instead}."
        )
    return X, y


def _predictions(table: LogitTable, model: Any, config: StackConfig) -> pl.DataFrame:
    frames = []
    for split, rows in table.splits.items():
        probability = model.predict_proba(rows.logits)
        # Only the majority vote has ties that its probabilities (vote shares) cannot break.
        by_vote = config.model == "majority"
        chosen = model.predict(rows.logits) if by_vote else probability.argmax(axis=1)
        frame = pl.DataFrame(
            {
                "utterance": rows.utterance,
                "split": [split] * len(rows.utterance),
                "prediction": [table.classes[i] for i in chosen],
            }
        )
        columns = [pl.Series(f"p.{c}", probability[:, i]) for i, c in enumerate(table.classes)]
        frames.append(frame.with_columns(columns))
    return pl.concat(frames)


def _save(run: Path, about: dict[str, Any], model: Any, predictions: pl.DataFrame) -> None:
    part, old = run / ".stack.part", run / ".stack.old"
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    if about["config"]["model"] in LEARNED:
        model.save(part)
    predictions.write_parquet(part / "predictions.parquet")
    (part / "stack.json").write_text(json.dumps(about, indent=2) + "\n")
    if (run / "stack").exists():
        (run / "stack").rename(old)
    part.rename(run / "stack")
    shutil.rmtree(old, ignore_errors=True)


def _about(run: Path) -> dict[str, Any]:
    path = run / "stack" / "stack.json"
    if not path.is_file():
        raise UserError(f"{path}: there is no stack; fit it with `ser stack fit`.")
    about: dict[str, Any] = json.loads(path.read_text())
    if about.get("format") != FORMAT:
        raise UserError(
            f"{path}: the format is {about.get('format')!r}, not {FORMAT!r}; fit the stack again "
            "with `ser stack fit`."
        )
    return about
