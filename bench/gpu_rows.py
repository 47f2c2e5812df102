"""Rows of `bench.gpu`: figures with bounds, each measured on its own, whatever the others do."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from pydantic import model_validator

from bench.report import Target
from ser.cache.record import Label, Record
from ser.extract.batch import describe
from ser.extract.devices import device_type

Status = Literal["passed", "failed", "error", "skipped", "measured"]


@dataclass(frozen=True)
class Figure:
    """A figure to measure, and its bound.

    `goal` None is a figure without a bound. `speed`: the bound is for a GPU and the true sizes;
    elsewhere the figure is measured and not judged.
    """

    name: str
    measure: Callable[[], float]
    unit: str = ""
    sign: str = "≥"  # as in `Target`
    goal: float | None = None
    speed: bool = False


@dataclass(frozen=True)
class Group:
    """Rows that share a model: `rows` loads it and returns them."""

    title: str
    rows: Callable[[], Sequence[Figure]]


class Outcome(Record):
    """The result of one row, as gpu.json has it; `problem` is an error, or why it was skipped."""

    group: str
    name: str
    status: Status
    value: float | None = None
    unit: str = ""
    bound: str = ""
    seconds: float = 0.0
    problem: str = ""

    @property
    def has_figure(self) -> bool:
        return self.status in ("passed", "measured")

    @model_validator(mode="after")
    def _has_a_value(self) -> Self:
        if self.value is None and self.status not in ("error", "skipped"):
            raise ValueError(f"a row that is {self.status} needs a finite value")
        if self.value is not None and self.value <= 0 and self.unit == "clips/s":
            raise ValueError("clips per second must be more than 0")
        return self


class Result(Record):
    """What gpu.json holds."""

    remedy: ClassVar[str] = "run 'python -m bench.gpu' again on a GPU to measure it"

    started: str  # ISO 8601, UTC
    device: Label
    tiny: bool
    minutes: float
    cpu: str
    versions: dict[str, str]
    rows: list[Outcome]


def run(groups: Sequence[Group], seconds: float, judge_speed: bool) -> Iterator[Outcome]:
    """Measure every row of every group; what `seconds` leave no time for is skipped.

    A row that has started is finished. Any exception is the result of its row or, in loading, of
    its group.
    """
    started = time.monotonic()

    def is_over() -> bool:
        return time.monotonic() - started > seconds

    for group in groups:
        if is_over():
            yield _skipped(group.title, "all rows")
            continue
        try:
            rows = group.rows()
        except (Exception, SystemExit) as error:
            yield _failed(group.title, "loading", error)
            continue
        for row in rows:
            title, name = group.title, row.name
            yield _skipped(title, name) if is_over() else _measured(title, row, judge_speed)
        del rows
        release()


def _measured(group: str, row: Figure, judge_speed: bool) -> Outcome:
    started, bound = time.monotonic(), ""
    status: Status = "measured"
    try:
        value = float(row.measure())
        if row.goal is not None:
            bound = f"{row.sign} {row.goal:g}"
            if judge_speed or not row.speed:
                met = Target(row.name, value, row.sign, row.goal, row.unit).met
                status = "passed" if met else "failed"
        return Outcome(
            group=group,
            name=row.name,
            status=status,
            value=value,
            unit=row.unit,
            bound=bound,
            seconds=time.monotonic() - started,
        )
    except (Exception, SystemExit) as error:
        return _failed(group, row.name, error)
    finally:
        release()


def _failed(group: str, name: str, error: BaseException) -> Outcome:
    problem = describe(error) if isinstance(error, Exception) else f"SystemExit: {error}"
    return Outcome(group=group, name=name, status="error", problem=problem[:1000])


def _skipped(group: str, name: str) -> Outcome:
    return Outcome(group=group, name=name, status="skipped", problem="no time left (--minutes)")


def release() -> None:
    """Give the memory of what is no longer used back to the GPU."""
    if torch.cuda.is_available():
        gc.collect()  # slow: not where there is nothing to gain
        torch.cuda.empty_cache()


def synchronize(device: str) -> None:
    """Wait until the device has done what was queued."""
    if device_type(device) == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(device: str, work: Callable[[], object], repeats: int = 1) -> float:
    """Return the least wall seconds of one of several runs; a first run is not timed."""
    work()
    return min(once(device, work) for _ in range(repeats))


def once(device: str, work: Callable[[], object]) -> float:
    """Return the wall seconds of one run."""
    synchronize(device)
    started = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started


def peak_gb(device: str, work: Callable[[], object]) -> float:
    """Return the most GB of device memory in use while `work` runs; of a CPU 0."""
    if device_type(device) != "cuda":
        work()
        return 0.0
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    synchronize(device)
    return torch.cuda.max_memory_allocated(device) / 1e9


def relative_l2(own: Sequence[torch.Tensor], base: Sequence[torch.Tensor]) -> float:
    """Return the largest |own - base| / |base| of any pair."""
    pairs = zip(own, base, strict=True)
    return max(float((a.float() - b.float()).norm() / b.float().norm()) for a, b in pairs)
