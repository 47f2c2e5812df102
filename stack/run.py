"""Fit the stack of a run on its heads' logits, and predict from any logits of those heads.

    <run>/heads/<head>/logits.h5      read, aligned by utterance id
    <run>/stack/fold-<i>.npz|.txt     the members of a trained model; fixed rules have no files
    <run>/stack/*.json                a fitted soup, rule or ridge regression
    <run>/stack/predictions.parquet   utterance, split, prediction, p.<class>,
                                      predicted.<attribute>, for every row of dev, test and
                                      unlabelled; `predict` predicts train, too
    <run>/stack/stack.json            the options, the heads and the other files' checksums

The folder is written under a temporary name and swapped with the old one in one step, so that an
interruption leaves either the old stack or the new one (`ser.cache.swap`). A run's stack is fitted
by one process at a time.
"""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import ValidationError

from ser.cache.checksums import checksums, is_undamaged, note_unchecked, require_undamaged
from ser.cache.files import fingerprint
from ser.cache.locks import locked
from ser.cache.logits import HeadLogits
from ser.cache.swap import recover_folder, staged_folder
from ser.corpus.config import describe
from ser.corpus.errors import DamagedError, UserError
from ser.score.record import PREDICTIONS
from ser.stack.config import StackConfig
from ser.stack.model import FittedStack
from ser.stack.record import FORMAT, StackRecord
from ser.stack.table import TRAIN, LogitTable

log = logging.getLogger("ser.stack")


def fit(run: Path, heads: Sequence[str], config: StackConfig) -> StackRecord:
    """Fit the stack on train, predict the other splits, save both; return its record.

    Rows without a label are left out of training. Train is predicted where it is the only split.
    The same logits and configuration give the same results.

    Args:
        run: the run folder, with `heads/<head>/logits.h5`.
        heads: the heads of the pipeline, of classes or of attributes only; `config.heads` selects
            among them.
        config: the stack's configuration.

    Raises `UserError` for logits that cannot be combined, and as `FittedStack.fit`; `BusyError`
    when another process is fitting the run's stack.
    """
    with locked(run / ".stack.lock", f"{run}: the stack is being fitted"):
        table = LogitTable.read(run / "heads", chosen_heads(heads, config))
        log.debug("%s: fitting %s over %s", run / "stack", config.model, ", ".join(table.heads))
        stack = FittedStack.fit(table, config)
        return _save(run, _record_of(stack, table, config), stack, table)


def _record_of(stack: FittedStack, table: LogitTable, config: StackConfig) -> StackRecord:
    """Return the record of a stack that `config` made; raises `UserError` for names it cannot have.

    The model of `config` may be `auto`.
    """
    used = np.zeros(0, np.int64) if stack.used is None else stack.used
    counts = np.bincount(used, minlength=len(table.classes)).tolist()
    unused = None if config.options else {"options"}
    try:
        return StackRecord(
            format=FORMAT,
            fingerprint=_fingerprint(config, table.heads),
            config=stack.config.model_dump(mode="json", exclude=unused),
            protocol=stack.protocol,
            temperature=stack.temperature,
            offsets=[] if stack.offsets is None else stack.offsets.tolist(),
            candidates=stack.candidates,
            heads=table.heads,
            classes=list(table.classes),
            attributes=list(table.attributes),
            rows=len(used),
            rows_per_class=dict(zip(table.classes, counts, strict=True)),
        )
    except ValidationError as error:
        raise UserError(
            f"the logits cannot be stacked: {describe(error)}; write them again with `ser heads "
            "train --force`, or with shorter, printable names."
        ) from error


def predict(run: Path, logits_folder: Path | None = None) -> pl.DataFrame:
    """Predict with the saved stack from `<logits_folder>/<head>/logits.h5`, by default the run's.

    Returns a frame with one row per utterance: `utterance`, `split`; where heads predict classes
    `prediction` (class name) and `p.<class>` (float64); where they predict attributes
    `predicted.<attribute>` (float64). Splits are in the order train, dev, test, unlabelled, rows
    in that of the first head's file.

    Raises `UserError` when there is no stack, when its files are damaged, and when the logits are
    from other heads than it was fitted on.
    """
    folder = run / "heads" if logits_folder is None else logits_folder
    table = LogitTable.read(folder, stacked_heads(run))
    return _predictions(table, load(run, table), table.splits)


def stacked_heads(run: Path) -> list[str]:
    """Return the names of the heads that the run's stack was fitted on, in its order.

    Raises `UserError` when there is no stack, or one in another format.
    """
    return list(_record(run).heads)


def fitted_model(run: Path) -> str:
    """Return the name of the model of the run's stack; of `auto`, the one that it chose.

    Raises `UserError` as `stacked_heads`.
    """
    return _record(run).stack_config(_file(run)).model


def load(run: Path, table: LogitTable) -> FittedStack:
    """Load the run's stack; `table` has the heads that it was fitted on.

    Raises `UserError` for other heads, and for damaged files.
    """
    record = _record(run)
    for name, head_fingerprint in table.heads.items():
        if record.heads.get(name) != head_fingerprint or tuple(record.classes) != table.classes:
            raise UserError(
                f"{table.folder / name / 'logits.h5'}: head '{name}' is not the one that the stack "
                "was fitted on (its fingerprint or its classes differ); run `ser stack fit` again."
            )
    config = record.stack_config(_file(run))
    for file, expected in record.checksums.items():
        if file != PREDICTIONS:  # not part of a bundle
            require_undamaged(run / "stack" / file, expected, record.remedy)
    return FittedStack.load(run / "stack", record, config, table)


def is_current(run: Path, heads: Sequence[str], config: StackConfig) -> bool:
    """Return whether the run's stack is undamaged and the one that `fit` would produce."""
    recover_folder(run / "stack")
    if not _file(run).exists():
        return False
    try:
        record = _record(run)
        record.stack_config(_file(run))
    except DamagedError:
        return False
    if not is_undamaged(run / "stack", {PREDICTIONS: None, **record.checksums}):
        return False
    folder = run / "heads"
    headers = {
        head: HeadLogits.read_header(folder / head / "logits.h5")
        for head in chosen_heads(heads, config)
    }
    if any(header.classes != tuple(record.classes) for header in headers.values()):
        return False
    fingerprints = {head: header.fingerprint for head, header in headers.items()}
    return record.fingerprint == _fingerprint(config, fingerprints)


def chosen_heads(heads: Sequence[str], config: StackConfig) -> list[str]:
    """Return the heads to stack: all, or those that `config.heads` names."""
    chosen = list(heads if config.heads is None else config.heads)
    for name in chosen:
        if name not in heads:
            raise UserError(
                f"stack.heads: '{name}' is not a head of the pipeline; use one of "
                f"{', '.join(heads)}."
            )
        if chosen.count(name) > 1:
            raise UserError(f"stack.heads: '{name}' appears twice; name each head once.")
    return chosen


def _fingerprint(config: StackConfig, heads: dict[str, str]) -> str:
    # As pairs: the order of the heads is the order of the columns, and a forest draws columns.
    return fingerprint({"format": FORMAT, "config": config.spec(), "heads": list(heads.items())})


def _predictions(table: LogitTable, stack: FittedStack, splits: Iterable[str]) -> pl.DataFrame:
    rows = {split: table.splits[split] for split in splits}
    return pl.concat(
        stack.predict(part).frame(part.utterance, split, table.classes, table.attributes)
        for split, part in rows.items()
    )


def _save(run: Path, record: StackRecord, stack: FittedStack, table: LogitTable) -> StackRecord:
    """Predict and write all files, those of the models in a second thread."""
    with staged_folder(run / "stack") as part:
        with ThreadPoolExecutor(1) as writer:
            saved = writer.submit(stack.save, part)
            others = [split for split in table.splits if split != TRAIN] or [TRAIN]
            _predictions(table, stack, others).write_parquet(part / PREDICTIONS)
            saved.result()
        files = [path.name for path in part.iterdir()]
        record = record.model_copy(update={"checksums": checksums(part, files)})
        record.write(part / "stack.json")
    return record


def _file(run: Path) -> Path:
    return run / "stack" / "stack.json"


def _record(run: Path) -> StackRecord:
    recover_folder(run / "stack")
    path = _file(run)
    if not path.exists():
        raise UserError(f"{path}: there is no stack; fit it with `ser stack fit`.")
    record = StackRecord.read(path)
    if not record.checksums:
        note_unchecked(run)
    return record
