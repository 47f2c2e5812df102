"""`metrics.json`: the scores of every system of a run, by split and system, as typed records.

In the file a score is under the name of its metric, and its interval under that name in `interval`;
here both are one `Score`. `ser.score.system` explains the numbers.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from ser.cache.json_file import read_object, to_text
from ser.cache.record import Count
from ser.corpus.config import describe
from ser.corpus.errors import DamagedError
from ser.score.metrics import REPORTED

REMEDY = "score the run again with `ser score`"
GAP = "gap"  # beside the groups of a column
MEAN = "mean"  # beside the attributes

Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
LARGEST_SHARE = 1.000_001  # rounding can take a mean past 1
Share = Annotated[float, Field(ge=0, le=LARGEST_SHARE)]
Ccc = Annotated[float, Field(ge=-1.001, le=1.001)]
Confusion = list[list[Count]]  # rows true, columns predicted
Ranked = Literal["macro_f1", "ccc"]  # the scores that systems are ranked by


class _Part(BaseModel):
    """A part of the file, without the keys that this version does not know."""

    model_config = ConfigDict(strict=True)

    def _fields(self) -> dict[str, object]:
        """Return the fields that were set."""
        return {k: getattr(self, k) for k in type(self).model_fields if k in self.model_fields_set}

    @model_serializer
    def _flat(self) -> dict[str, object]:
        return self._fields()


class Score(BaseModel):
    """A score and its 95 % interval over speakers, None where there are too few."""

    model_config = ConfigDict(strict=True)
    value: float
    interval: Interval | None = None


class _Scored(_Part):
    """Scores of `n` utterances by metric: macro_f1, uar, accuracy, ccc, one of a user's, …."""

    n: Count
    scores: dict[str, Score]
    per_class: dict[str, Score] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        if not isinstance(intervals := values.get("interval"), dict):
            raise ValueError("it has no intervals")
        metrics = dict.fromkeys((*REPORTED, *(name for name in intervals if name != "per_class")))
        changed = {"scores": _paired(values, intervals, metrics)}
        if isinstance(f1 := values.get("per_class"), dict):
            changed["per_class"] = _paired(f1, intervals.get("per_class"), f1)
        return values | changed

    @model_serializer
    def _flat(self) -> dict[str, object]:
        intervals: dict[str, object] = {name: s.interval for name, s in self.scores.items()}
        fields = {name: s.value for name, s in self.scores.items()} | self._fields()
        del fields["scores"]
        if self.per_class:
            fields["per_class"] = {name: s.value for name, s in self.per_class.items()}
            intervals["per_class"] = {name: s.interval for name, s in self.per_class.items()}
        return fields | {"interval": intervals}


def _paired(
    values: Mapping[str, object], intervals: object, names: Iterable[str]
) -> dict[str, dict[str, object]]:
    intervals = intervals if isinstance(intervals, dict) else {}
    return {
        name: {"value": values[name], "interval": intervals.get(name)}
        for name in names
        if name in values
    }


class Subsets(_Part):
    """Macro-F1 over class-balanced subsets."""

    mean: Share
    min: Share
    max: Share


class ClassScores(_Scored):
    """The scores of predicted classes; `confusion` has a row and a column per class."""

    micro_f1: Share | None = None
    confusion: Confusion
    bootstrap: Subsets
    ece: float | None = None
    aurc: float | None = None
    risk: list[float] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if {len(self.confusion), *map(len, self.confusion)} != {len(self.per_class)}:
            raise ValueError("the confusion matrix has not one row and column per class")
        if not any(map(any, self.confusion)):
            raise ValueError("the confusion matrix is empty")
        if not {*REPORTED} <= {*self.scores}:
            raise ValueError(f"it lacks one of {', '.join(REPORTED)}")
        shares = [*(self.scores[name] for name in REPORTED), *self.per_class.values()]
        if not all(0 <= share.value <= LARGEST_SHARE for share in shares):
            raise ValueError("a score is below 0 or above 1")
        return self

    @property
    def further(self) -> list[str]:
        """Name the metrics of `score.metrics`."""
        return [name for name in self.scores if name not in REPORTED]

    @property
    def absent(self) -> list[str]:
        """Name the classes that no utterance of the split has."""
        rows = zip(self.per_class, self.confusion, strict=True)
        return [name for name, counts in rows if not sum(counts)]


class AttributeScores(_Part):
    """The scores of an attribute, or of their mean; `confusion` is of six bins."""

    ccc: Ccc
    n: Count
    interval: Interval | None = None
    pearson: float | None = None
    rmse: float | None = None
    confusion: Confusion | None = None


class VoteScores(_Scored):
    """Probabilities against the raters' votes (`ser.score.distributions`).

    `entropy` is the lowest and the highest of a stratum, in bits.
    """

    speakers: Count | None
    entropy: Interval | None = None
    by_entropy: dict[str, "VoteScores"] = {}


class GroupScores(_Scored):
    """The scores of a group of utterances."""

    speakers: Count | None = None


class Gap(_Part):
    """The score of the highest group less that of the lowest."""

    difference: float
    interval: Interval | None
    highest: str = ""
    lowest: str = ""
    speakers: Count | None = None


class Groups(_Part):
    """The groups of a column of the manifest, and the gap between them by metric."""

    groups: dict[str, GroupScores]
    gap: dict[str, Gap] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        groups = {name: scores for name, scores in values.items() if name != GAP}
        return {"groups": groups, GAP: values.get(GAP, {})}

    @model_serializer
    def _flat(self) -> dict[str, object]:
        return {**self.groups, **({GAP: self.gap} if self.gap else {})}


class TrainScores(_Part):
    """Macro-F1 on train, and the generalization gap: the first less that on test."""

    in_sample: float | None
    out_of_fold: float | None
    optimism: float | None


class SystemScores(_Part):
    """The scores of a system on a split; `attributes` has each of them and their `mean`.

    `speakers` is None where none is known; `clusters` then counts utterances. `missing` counts the
    utterances that another tool did not predict.
    """

    classes: ClassScores | None = None
    attributes: dict[str, AttributeScores] = {}
    distributions: VoteScores | None = None
    groups: dict[str, Groups] = {}
    clusters: Count | None = None
    speakers: Count | None = None
    speakers_note: str | None = None
    missing: Count | None = None
    baseline: bool = False
    train: TrainScores | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, values: object) -> object:
        if isinstance(values, dict) and "macro_f1" in values:
            return values | {"classes": values}
        return values

    @model_validator(mode="after")
    def _count_speakers(self) -> Self:
        """Count those of an entry of an earlier version, which has `clusters` alone."""
        if "speakers" not in self.model_fields_set and self.clusters is not None:
            scored = self.classes or self.mean
            if scored is not None and self.clusters < scored.n:
                self.speakers = self.clusters
        return self

    @model_serializer
    def _flat(self) -> dict[str, object]:
        fields = self._fields()
        fields.pop("classes", None)
        return ({} if self.classes is None else self.classes.model_dump()) | fields

    @property
    def mean(self) -> AttributeScores | None:
        """Return the mean over the attributes; None where there are none."""
        return self.attributes.get(MEAN)

    def score(self, metric: Ranked) -> float | None:
        """Return the macro-F1 or the mean CCC; None without one."""
        if metric == "ccc":
            return None if self.mean is None else self.mean.ccc
        return None if self.classes is None else self.classes.scores[metric].value


Metrics = dict[str, dict[str, SystemScores]]  # split -> head or "stack" -> scores
_METRICS = TypeAdapter(Metrics)


def read_metrics(path: Path) -> Metrics:
    """Read metrics.json; raises `DamagedError` for one that is damaged or out of bounds."""
    try:
        return _METRICS.validate_python(read_object(path, REMEDY))
    except ValidationError as error:
        raise DamagedError(path, describe(error), REMEDY) from error


def metrics_text(metrics: Metrics) -> str:
    """Return the text of metrics.json; its last field is the checksum of the scores."""
    return to_text(plain_values(metrics), indent=2)


def plain_values(metrics: Metrics) -> dict[str, dict[str, dict[str, object]]]:
    """Return what metrics.json holds, as plain values."""
    plain: dict[str, dict[str, dict[str, object]]] = _METRICS.dump_python(metrics, mode="json")
    return plain
