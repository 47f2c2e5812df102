"""The parts that benchmarks share: rounds of interleaved sides, medians, tables, one JSON file.

A ratio is the median over the rounds of the ratio within a round, so that a machine that is slower
for a while is slower for both sides. CPU time and bytes read from disk count live worker processes
too (Linux only: they are in /proc).
"""

import argparse
import gc
import json
import multiprocessing
import operator
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from ser.corpus.machine import machine as machine_facts

ROUND_SECONDS = 0.3
HEADINGS = ("side", "value", "unit", "CPU ms per unit", "GB read", "times", "as fast as")
TEXTS = {"side", "unit", "as fast as"}  # the other columns are numbers
COMPARISONS = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}


@dataclass(frozen=True)
class Side:
    """One side of a comparison: `run` does `count` units of work; `before` is not measured.

    `base` names the side that this one is compared with; the first of all sides when it is empty.
    """

    name: str
    run: Callable[[], object]
    count: int
    before: Callable[[], object] = lambda: None
    base: str = ""


@dataclass(frozen=True)
class Row:
    """One figure: medians over the rounds, and the rounds themselves (the JSON file only)."""

    name: str
    value: float
    unit: str
    ratio_to: str | None = None
    ratio: float | None = None  # how many times as fast as `ratio_to`
    cpu: float | None = None  # seconds per unit, user and system, children included
    read_gb: float | None = None  # from the disk in one round
    value_rounds: tuple[float, ...] = ()
    cpu_rounds: tuple[float, ...] = ()
    read_gb_rounds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Target:
    """A figure that is expected, and the measured one."""

    name: str
    measured: float
    sign: str  # a key of COMPARISONS
    goal: float
    unit: str

    @property
    def met(self) -> bool:
        """Return whether the measured figure meets the goal."""
        return bool(COMPARISONS[self.sign](self.measured, self.goal))


def bare_parser(description: str, prog: str | None = None) -> argparse.ArgumentParser:
    """Return a parser whose help has the lines of the description as they are."""
    return argparse.ArgumentParser(
        prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser of --quick, --json and --folder, to which a benchmark adds its own."""
    parser = bare_parser(description)
    parser.set_defaults(load=os.getloadavg()[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes, a minute or two")
    parser.add_argument("--json", type=Path, help="write the rows to a file as well")
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="where temporary files go (default: here)"
    )
    return parser


def use_one_thread() -> None:
    """Make torch and every library that is loaded after it compute in one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


@contextmanager
def temporary_folder(args: argparse.Namespace) -> Iterator[Path]:
    """Yield an empty folder in `--folder`, which is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.folder) as folder:
        yield Path(folder)


def compare(sides: Sequence[Side], unit: str, rounds: int) -> list[Row]:
    """Run the sides in turn, several rounds; `value` is units per second of wall time."""
    measured: dict[str, list[tuple[float, float, float]]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            side.before()
            cpu, read = _usage()
            start = time.perf_counter()
            side.run()
            wall = time.perf_counter() - start
            cpu_end, read_end = _usage()
            cpu_each, read_gb = (cpu_end - cpu) / side.count, (read_end - read) / 1e9
            measured[side.name].append((side.count / wall, cpu_each, read_gb))
    rows = []
    for side in sides:
        base = side.base or sides[0].name
        rates, cpus, reads = zip(*measured[side.name], strict=True)
        figures = {
            "ratio_to": base,
            "ratio": _median_ratio(rates, [rate for rate, _, _ in measured[base]]),
            "cpu": statistics.median(cpus),
            "read_gb": statistics.median(reads),
            "cpu_rounds": cpus,
            "read_gb_rounds": reads,
        }
        rows.append(median_row(side.name, rates, f"{unit}/s", **figures))
    return rows


def median_row(name: str, rounds: Sequence[float], unit: str, **figures: Any) -> Row:
    """Return a row of the median over the rounds, with other figures of a `Row`."""
    return Row(name, statistics.median(rounds), unit, value_rounds=tuple(rounds), **figures)


def repeated(name: str, run: Callable[[], object], count: int) -> Side:
    """Return a side that repeats a run until it is long enough to be timed; it is run once here."""
    start = time.perf_counter()
    run()
    repeats = max(1, round(ROUND_SECONDS / (time.perf_counter() - start)))

    def several() -> None:
        for _ in range(repeats):
            run()

    return Side(name, several, repeats * count)


def times_as_fast(rows: Sequence[Row], own: str, base: str) -> float:
    """Return the median over the rounds of own rate / base rate."""
    rounds = {row.name: row.value_rounds for row in rows}
    return _median_ratio(rounds[own], rounds[base])


def times_the_cpu(rows: Sequence[Row], own: str, base: str) -> float:
    """Return the median over the rounds of own CPU time / base CPU time."""
    rounds = {row.name: row.cpu_rounds for row in rows}
    return _median_ratio(rounds[own], rounds[base])


def show(
    args: argparse.Namespace,
    sections: Mapping[str, Sequence[Row]],
    *notes: str,
    targets: Sequence[Target] = (),
) -> None:
    """Print notes, a table a section, then a line a target; write the JSON."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 120)
    description = machine()
    load = f"load average {args.load:.2f} at the start: other work on the machine moves times"
    notes = (*(["--quick: smaller sizes"] if args.quick else []), *notes, load)
    console.print(description, *notes, sep="\n", highlight=False)
    for title, rows in sections.items():
        table = Table(title=title, title_justify="left")
        for heading in HEADINGS:
            table.add_column(heading, justify="left" if heading in TEXTS else "right")
        for row in rows:
            table.add_row(*_cells(row))
        console.print(table)
    table = Table("target", "wanted", "measured", "", title="Targets", title_justify="left")
    for target in targets:
        wanted = f"{target.sign} {target.goal:g} {target.unit}"
        measured = f"{target.measured:,.4g} {target.unit}"
        table.add_row(target.name, wanted, measured, "met" if target.met else "NOT met")
    if targets:
        console.print(table)
    if args.json:
        content = {
            "machine": description,
            "notes": list(notes),
            "rows": [asdict(row) | {"section": s} for s, rows in sections.items() for row in rows],
            "targets": [asdict(target) | {"met": target.met} for target in targets],
        }
        args.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


def machine() -> str:
    """Describe the machine in one line."""
    facts, memory = machine_facts(), psutil.virtual_memory().total / 1e9
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {memory:.0f} GB, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def drop(path: Path) -> None:
    """Write out what is dirty and drop the files of this side from the page cache.

    Pages that are mapped stay: no process may have the files mapped.
    """
    gc.collect()  # a reader that has ended may be in a cycle, with its files mapped
    os.sync()
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def warm_up(path: Path) -> None:
    """Read a side's files, so that they are in the page cache."""
    buffer = memoryview(bytearray(1 << 20))
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        with file.open("rb", buffering=0) as source:
            while source.readinto(buffer):
                pass


def disk_bytes(path: Path) -> int:
    """Return the bytes that files and folders occupy on the disk: blocks, not lengths."""
    os.sync()
    return sum(p.stat().st_blocks * 512 for p in [path, *path.rglob("*")])


def fresh(path: Path) -> None:
    """Remove a file or folder and wait until the disk has nothing left to do."""
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
    os.sync()


def _cells(row: Row) -> list[str]:
    cpu = "" if row.cpu is None else f"{row.cpu * 1e3:,.3f}"
    read = "" if row.read_gb is None else f"{row.read_gb:.2f}"
    compared = row.ratio is not None and row.ratio_to != row.name
    ratio, base = (f"{row.ratio:.2f}", row.ratio_to or "") if compared else ("", "")
    value = f"{row.value:,.1f}" if row.value >= 10 else f"{row.value:.4g}"
    return [row.name, value, row.unit, cpu, read, ratio, base]


def _median_ratio(own: Sequence[float], base: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(own, base, strict=True))


def _usage() -> tuple[float, int]:
    """Return CPU seconds and bytes read from disk, of this process and all its children so far.

    Children that have ended are in the figures of their parent; those of live ones are read.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() + ended.ru_utime + ended.ru_stime
    read = psutil.Process().io_counters().read_bytes
    for child in multiprocessing.active_children():
        if child.pid is not None:
            tasks = Path(f"/proc/{child.pid}/task").glob("*/schedstat")
            cpu += sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
            read += psutil.Process(child.pid).io_counters().read_bytes
    return cpu, read
