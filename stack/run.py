"""Fit the stack of a run on its heads' logits, and ask it about any logits of those heads.

    <run>/heads/<head>/logits.h5      read, aligned by utterance id
    <run>/stack/fold-<i>.skops|.txt   the members of a learned model; fixed rules have no files
    <run>/stack/*.json                a soup, a rule or a ridge regression that was fitted
    <run>/stack/predictions.parquet   utterance, split, prediction, p.<class>,
                                      predicted.<attribute>: every row there is
    <run>/stack/stack.json            what made it; written last

The folder is filled under a temporary name and swapped in whole, so a kill leaves the old stack,
the new one, or (between two renames) none: never a mixture that says it is done.
"""

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cache.files import fingerprint
from cache.logits import HeadLogits
from corpus.errors import UserError
from stack.config import StackConfig
from stack.model import Stack
from stack.table import LogitTable

FORMAT = "ser-stack/2"


def fit(run: Path, heads: Sequence[str], config: StackConfig) -> dict[str, Any]:
    """Fit the stack on train, predict every split, save both; return what stack.json says.

    `heads` are the pipeline's, of classes or of attributes alone; `config.heads` picks among them.
    Rows without a label are not learned from. The same logits and configuration give the same
    numbers.

    Raises `UserError` for logits that do not fit together, and for what `Stack.fit` refuses.
    """
    table = LogitTable.read(run / "heads", chosen_heads(heads, config))
    stack = Stack.fit(table, config)
    used = np.zeros(0, np.int64) if stack.used is None else stack.used
    counts = np.bincount(used, minlength=len(table.classes)).tolist()
    about = {
        "format": FORMAT,
        "fingerprint": _fingerprint(config, table.heads),
        "config": config.model_dump(mode="json"),
        "protocol": stack.protocol,
        "temperature": stack.temperature,
        "heads": table.heads,
        "classes": list(table.classes),
        "attributes": list(table.attributes),
        "rows": len(used),
        "rows_per_class": dict(zip(table.classes, counts, strict=True)),
    }
    _save(run, about, stack, table)
    return about


def predict(run: Path, logits_folder: Path | None = None) -> pl.DataFrame:
    """Ask the saved stack about `<logits_folder>/<head>/logits.h5` (default: the run's own heads).

    Returns `utterance`, `split`, where heads tell classes `prediction` (class name) and `p.<class>`
    (float64), and where they tell attributes `predicted.<attribute>` (float64), of every row, in
    the order train, dev, test, unlabelled and within them that of the first head's file.

    Raises `UserError` when there is no stack, when its files are damaged, and when the logits are
    not of the heads that it was fitted on.
    """
    folder = run / "heads" if logits_folder is None else logits_folder
    table = LogitTable.read(folder, stacked_heads(run))
    return _predictions(table, load(run, table))


def stacked_heads(run: Path) -> list[str]:
    """Name the heads that the run's stack was fitted on, in its order.

    Raises `UserError` when there is no stack, or one of another format.
    """
    return list(_about(run)["heads"])


def load(run: Path, table: LogitTable) -> Stack:
    """Read the run's stack for a table of the heads that it was fitted on.

    Raises `UserError` for other heads, and for files that are damaged.
    """
    about = _about(run)
    for name, made_from in table.heads.items():
        if about["heads"][name] != made_from or tuple(about["classes"]) != table.classes:
            raise UserError(
                f"{table.folder / name / 'logits.h5'}: head '{name}' is not the one that the stack "
                "was fitted on (its fingerprint or its classes differ); fit the stack again with "
                "`ser stack fit`."
            )
    config = StackConfig.model_validate(about["config"])
    return Stack.load(run / "stack", config, about["protocol"], about["temperature"], table)


def is_current(run: Path, heads: Sequence[str], config: StackConfig) -> bool:
    """Tell whether the run's stack is the one that `fit` would make: a stack.json says so."""
    path = run / "stack" / "stack.json"
    if not path.is_file():
        return False
    folder = run / "heads"
    chosen = chosen_heads(heads, config)
    made_from = {h: HeadLogits.read_header(folder / h / "logits.h5").fingerprint for h in chosen}
    found = json.loads(path.read_text()).get("fingerprint")
    return bool(found == _fingerprint(config, made_from))


def chosen_heads(heads: Sequence[str], config: StackConfig) -> list[str]:
    """Return the heads that are stacked: all, or those that `config.heads` names."""
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


def _predictions(table: LogitTable, stack: Stack) -> pl.DataFrame:
    frames, names = [], np.array(table.classes, object)
    for split, rows in table.splits.items():
        said = stack.ask(rows)
        columns = {
            "utterance": pl.Series(rows.utterance, dtype=pl.String()),
            "split": pl.Series([split] * len(rows.utterance), dtype=pl.String()),
        }
        if said.chosen is not None and said.probability is not None:
            columns["prediction"] = pl.Series(names[said.chosen].tolist(), dtype=pl.String())
            columns |= {f"p.{c}": pl.Series(said.probability[:, i]) for i, c in enumerate(names)}
        if said.attributes is not None:
            rated = enumerate(table.attributes)
            columns |= {f"predicted.{a}": pl.Series(said.attributes[:, i]) for i, a in rated}
        frames.append(pl.DataFrame(columns))
    return pl.concat(frames)


def _save(run: Path, about: dict[str, Any], stack: Stack, table: LogitTable) -> None:
    """Predict every split and write everything; the models' files need one core only, beside it."""
    part, old = run / ".stack.part", run / ".stack.old"
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    with ThreadPoolExecutor(1) as beside:
        saved = beside.submit(stack.save, part)
        _predictions(table, stack).write_parquet(part / "predictions.parquet")
        saved.result()
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
