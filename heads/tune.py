"""Search a head's hyper-parameters with Optuna; the cache is its only input.

The space is a mapping of a head's keys, dotted where they are nested, to choices or ranges:

    lr: {low: 1.0e-4, high: 1.0e-2, log: true}
    hidden: [64, 128, 256]
    augment.mixup: {low: 0.0, high: 0.5}
    batch: {low: 16, high: 64, step: 16}

Trials are drawn by TPE and compared by the dev score that the best epoch is chosen by; one that is
worse than the median of the others at its epoch is stopped. Test is never used. The study is a file
of its own, so that an interrupted search resumes.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml
from pydantic import ValidationError

from ser.corpus.atomic import write_durably
from ser.corpus.config import problem_of
from ser.corpus.errors import UserError, first_line, plural
from ser.corpus.manifest import Manifest
from ser.heads.arguments import Caches
from ser.heads.classifier import HeadClassifier
from ser.heads.config import HeadConfig, parse_head
from ser.heads.training.trainer import AfterEpoch, Row

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import BaseTrial, FrozenTrial

LOG = "study.log"  # all trials of a search
KEYS = {"low", "high", "log", "step"}


def tune(
    folder: Path,
    entry: Mapping[str, object],
    space: Mapping[str, object],
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
    config, (cache, manifest) = parse_head(entry), data
    if not manifest.utterances("dev"):
        raise UserError(
            f"{manifest.source}: it has no dev split to compare trials on; set `split` to dev "
            "for some rows."
        )
    for key, choice in space.items():
        _check_choice(entry, key, choice)
    folder.mkdir(parents=True, exist_ok=True)
    study = _open_study(folder / LOG, config)

    def objective(trial: "Trial") -> float:
        options = changed(entry, {key: _suggest(trial, key, space[key]) for key in space})
        options["seeds"] = 1  # a trial trains with one seed, whatever the head has
        model = HeadClassifier(cache=cache, device=device, **options)
        score = model.fit(manifest, after_epoch=_pruning(trial, config.chosen_by)).score_
        assert score is not None
        return score

    def finished(study: "Study", trial: "FrozenTrial") -> None:
        table = _table(study)
        write_durably(folder / "trials.csv", table.write_csv())
        after_trial(table)

    remaining = max(0, trials - len(study.trials))
    study.optimize(objective, n_trials=remaining, callbacks=[finished])
    if not any(trial.state.name == "COMPLETE" for trial in study.trials):
        raise UserError(
            f"{folder / LOG}: none of its {plural(len(study.trials), 'trial')} was finished; give "
            "more with --trials."
        )
    best = changed(entry, study.best_params)
    write_durably(folder / "best.yaml", yaml.safe_dump(best, sort_keys=False))
    return best


def _open_study(log: Path, config: HeadConfig) -> "Study":
    """Begin a search or resume that of a file; raises `UserError` for a damaged file."""
    import optuna
    from optuna.storages import JournalStorage, journal

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(
            storage=JournalStorage(journal.JournalFileBackend(str(log))),
            study_name=log.parent.name,
            load_if_exists=True,
            direction="minimize" if config.chosen_by == "loss" else "maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
        )
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(
            f"{log}: it is damaged ({first_line(error)}); delete it to begin the search again."
        ) from error
    # a search that is resumed must not draw its first trials again
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials))
    return study


def _pruning(trial: "Trial", score: str) -> AfterEpoch:
    """Return what reports the dev score of each epoch, and stops a trial that is to be pruned."""
    from optuna import TrialPruned

    def report(row: Row) -> None:
        trial.report(row[f"dev_{score}"], int(row["epoch"]))
        if trial.should_prune():
            raise TrialPruned

    return report


def changed(entry: Mapping[str, object], values: Mapping[str, object]) -> dict[str, Any]:
    """Return a head's entry with values at dotted keys: `augment.mixup`, `features.0.stride`."""
    result = deepcopy(dict(entry))
    for key, value in values.items():
        *parents, last = (int(part) if part.isdigit() else part for part in key.split("."))
        place: Any = result
        for parent in parents:
            place = place[parent] if isinstance(parent, int) else place.setdefault(parent, {})
        place[last] = value
    return result


def _check_choice(entry: Mapping[str, object], key: str, choice: object) -> None:
    """Raise `UserError` for a choice that is none, or has values that the head cannot have."""
    from optuna.trial import FixedTrial

    values = choice if isinstance(choice, list) else []
    if isinstance(choice, Mapping):
        values = [choice[end] for end in ("low", "high") if end in choice]
    for value in values or [None]:
        try:
            _suggest(FixedTrial({key: value}), key, choice)
            parse_head(changed(entry, {key: value}))
        except ValidationError as error:
            problem, _ = problem_of(error.errors()[0])
            raise UserError(
                f"{key}: the head cannot have {value!r:.60} ({problem}); correct the space."
            ) from error
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise UserError(
                f"{key}: {choice!r:.60} is not a valid choice for this head ({error}); correct the "
                "space."
            ) from error


def _suggest(trial: "BaseTrial", key: str, choice: object) -> object:
    if isinstance(choice, list) and choice:
        return trial.suggest_categorical(key, choice)
    if not isinstance(choice, Mapping) or not {"low", "high"} <= set(choice) <= KEYS:
        raise UserError(
            f"{key}: a choice is a list of values, or {{low: …, high: …}} with `log` or `step` "
            f"perhaps; it is {choice!r}."
        )
    whole = isinstance(choice["low"], int) and isinstance(choice["high"], int)
    return (trial.suggest_int if whole else trial.suggest_float)(key, **choice)


def _table(study: "Study") -> pl.DataFrame:
    """Return the trials, the best first: their number, state, score and values."""
    rows = [
        {"trial": t.number, "state": t.state.name.lower(), "score": t.value, **t.params}
        for t in study.trials
    ]
    down = study.direction.name == "MAXIMIZE"
    return pl.DataFrame(rows, infer_schema_length=None).sort(
        "score", descending=down, nulls_last=True
    )
