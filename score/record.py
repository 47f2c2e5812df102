"""The parts of `head.json` and `stack.json` that a report shows; `heads` and `stack` read the rest.

All fields have defaults, as a run may be copied without some files, or be of an older version.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Self

import polars as pl
from pydantic import BeforeValidator, Field, model_validator

from ser.cache.checksums import require_undamaged
from ser.cache.record import Count, Label, Record
from ser.cache.swap import recover_folder
from ser.corpus.errors import TRAIN_AGAIN, DamagedError, plural

PREDICTIONS = "predictions.parquet"  # in the stack's folder

Temperature = Annotated[float, Field(ge=1e-6, le=1e6)]
Offset = Annotated[float, Field(ge=-100, le=100)]
Offsets = Annotated[list[Offset], Field(max_length=1000)]
Numbers = dict[str, str | int | float | None]


def _none_for_nan(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


DevScore = Annotated[float | None, BeforeValidator(_none_for_nan)]


class Named(Record):
    """A loss or a sampler, by its name."""

    name: Label


class Phase(Record):
    """A phase of a training; None means the value of the whole head."""

    loss: list[Named] | None = None
    sampler: Named | None = None


class HeadOptions(Record):
    """The options of a head that the report shows."""

    head: Label | None = None
    seed: int | None = None
    best_by: Label | None = None
    loss: list[Named] = Field(default_factory=list)
    sampler: Named | None = None
    phases: list[Phase] = Field(default_factory=list)


class HeadSummary(Record):
    """The part of head.json that a report shows."""

    remedy: ClassVar[str] = TRAIN_AGAIN

    config: HeadOptions = HeadOptions()
    best_epochs: dict[str, int] | None = None
    score: DevScore = None
    dev: dict[str, DevScore] = Field(default_factory=dict)
    epochs: Count | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None
    synthetic: Annotated[float, Field(ge=0, le=1)] | None = None
    machine: Numbers | None = None
    versions: dict[str, str] | None = None


class StackOptions(Record):
    """The options of a stack that the report shows."""

    model: Label = "stack"
    seed: int | None = None
    offsets: bool = False


class StackCandidate(Record):
    """A candidate of the model `auto`, and its macro-F1 on held-out training rows."""

    model: Label
    macro_f1: float


class StackSummary(Record):
    """The part of stack.json that a report shows, and the fingerprints of the stack's heads."""

    remedy: ClassVar[str] = "fit the stack again with `ser stack fit`"

    fingerprint: str = ""
    config: StackOptions = StackOptions()
    protocol: str = ""
    temperature: Temperature = 1.0
    offsets: Offsets = Field(default_factory=list)
    heads: dict[str, str]
    classes: list[str] = Field(default_factory=list)
    rows: Count = 0
    rows_per_class: dict[str, Count] = Field(default_factory=dict)
    candidates: list[StackCandidate] = Field(default_factory=list)
    checksums: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _an_offset_for_each_class(self) -> Self:
        if problem := offsets_problem(self.offsets, self.classes if self.config.offsets else []):
            raise ValueError(problem)
        return self


def offsets_problem(offsets: Sequence[float], classes: Sequence[str]) -> str | None:
    """Return what is wrong with the offsets of these classes, none of a stack without offsets."""
    if len(offsets) == len(classes):
        return None
    return f"it has {plural(len(offsets), 'offset')}, not one for each class"


def has_stack(run: Path) -> bool:
    """Return whether a stack was fitted, damaged or not; restores one after an interrupted swap."""
    recover_folder(run / "stack")
    return (run / "stack").exists()


def read_predictions(run: Path, record: StackSummary) -> pl.DataFrame:
    """Read the stack's predictions; raises `DamagedError`."""
    path = run / "stack" / PREDICTIONS
    require_undamaged(path, record.checksums.get(PREDICTIONS), record.remedy)
    try:
        return pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:  # of an older version, without checksums
        raise DamagedError(path, "it is not readable as Parquet", record.remedy) from error


def scores_are_current(run: Path) -> bool:
    """Return whether the scores in report/ are of the stack that is in the run now.

    They are compared by the predictions beside them; True if there is nothing to compare, False if
    one of the files is damaged.
    """
    scored, predicted = run / "report" / "predictions.csv", run / "stack" / PREDICTIONS
    if not (scored.is_file() and predicted.is_file()):
        return True
    columns = ["utterance", "prediction"]
    try:
        now = pl.read_parquet(predicted)
        if "prediction" not in now.columns:
            return True
        then = pl.read_csv(scored, infer_schema=False).select(columns)
    except pl.exceptions.PolarsError:
        return False
    joined = now.select(columns).join(then, "utterance", suffix=".then")
    same = (joined["prediction"] == joined["prediction.then"]).all()
    return bool(same) and joined.height == now.height


def stack_file(run: Path) -> Path:
    """Return the path of a run's stack.json; without it the stack is incomplete."""
    return run / "stack" / "stack.json"
