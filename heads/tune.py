"""Search a head's hyper-parameters with Optuna; the cache is its only input.

The space is a mapping of a head's keys, dotted where they are nested, to choices or ranges:

    lr: {low: 1.0e-4, high: 1.0e-2, log: true}
    hidden: [64, 128, 256]
    augment.mixup: {low: 0.0, high: 0.5}
    batch: {low: 16, high: 64, step: 16}

Trials are drawn by TPE and judged by the dev score that the head is chosen by, the best epoch's;
one that is worse than the median of the others at its epoch is given up. Test is never looked at.
The study is a file of its own, so that a search goes on where it was.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from cache.files import write_durably
from corpus.errors import UserError
from corpus.manifest import Manifest
from heads.classifier import Caches, HeadClassifier
from heads.config import parse_head

KEYS = {"low", "high", "log", "step"}


def tune(
    folder: Path,
    entry: Mapping[str, Any],
    space: Mapping[str, Any],
    data: tuple[Caches, Manifest],
    *,
    trials: int,
    device: str = "cpu",
    after_trial: Callable[[pl.DataFrame], None] = lambda table: None,
) -> dict[str, Any]:
    """Run trials until there are `trials` in all; return the entry of the best, and write it.

    `entry` is the head's mapping in pipeline.yaml. Writes `study.log`, `trials.csv` and
    `best.yaml` into the folder. Raises `UserError` for a space that is no space, or without dev.
    """
    import optuna
    from optuna.storages import JournalStorage, journal

    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = parse_head(entry)
    if not data[1].utterances("dev"):
        raise UserError(f"{data[1].source}: there is no dev split to judge trials by; mark some.")
    study = optuna.create_study(
        storage=JournalStorage(journal.JournalFileBackend(str(folder / "study.log"))),
        study_name=folder.name,
        load_if_exists=True,
        direction="minimize" if config.chosen_by == "loss" else "maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
    )
    # a search that goes on must not draw its first trials again
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials))

    def objective(trial: optuna.Trial) -> float:
        said = changed(entry, {key: _suggest(trial, key, space[key]) for key in space})

        def told(row: Mapping[str, Any]) -> None:
            trial.report(row[f"dev_{config.chosen_by}"], int(row["epoch"]))
            if trial.should_prune():
                raise optuna.TrialPruned

        score = HeadClassifier(**said).fit(*data, device=device, after_epoch=told).score_
        assert score is not None
        return score

    def finished(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        table = _table(study)
        write_durably(folder / "trials.csv", table.write_csv())
        after_trial(table)

    left = max(0, trials - len(study.trials))
    study.optimize(objective, n_trials=left, callbacks=[finished])
    best = changed(entry, study.best_params)
    write_durably(folder / "best.yaml", yaml.safe_dump(best, sort_keys=False))
    return best


def changed(entry: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a head's entry with values at dotted keys: `augment.mixup`, `features.0.stride`."""
    result = deepcopy(dict(entry))
    for key, value in values.items():
        *parents, last = (int(part) if part.isdigit() else part for part in key.split("."))
        place: Any = result
        for parent in parents:
            place = place[parent] if isinstance(parent, int) else place.setdefault(parent, {})
        place[last] = value
    return result


def _suggest(trial: Any, key: str, choice: Any) -> Any:
    if isinstance(choice, list) and choice:
        return trial.suggest_categorical(key, choice)
    if not isinstance(choice, Mapping) or not {"low", "high"} <= set(choice) <= KEYS:
        raise UserError(
            f"{key}: a choice is a list of values, or {{low: …, high: …}} with `log` or `step` "
            f"perhaps; it is {choice!r}."
        )
    whole = isinstance(choice["low"], int) and isinstance(choice["high"], int)
    return (trial.suggest_int if whole else trial.suggest_float)(key, **choice)


def _table(study: Any) -> pl.DataFrame:
    """Return the trials, the best first: their number, state, score and values."""
    rows = [
        {"trial": t.number, "state": t.state.name.lower(), "score": t.value, **t.params}
        for t in study.trials
    ]
    down = study.direction.name == "MAXIMIZE"
    return pl.DataFrame(rows, infer_schema_length=None).sort(
        "score", descending=down, nulls_last=True
    )
