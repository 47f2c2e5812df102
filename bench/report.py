"""What every benchmark shares: rounds of interleaved sides, medians, one table, one JSON file."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One measured side: medians of wall and CPU seconds, and the ratio of wall times."""

    name: str
    value: float
    unit: str
    cpu: float
    ratio_to: str
    ratio: float  # how many times as fast as `ratio_to`


def options(description: str) -> argparse.Namespace:
    """Read --quick and --json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, under a minute")
    parser.add_argument("--json", type=Path, help="write the rows to a file as well")
    return parser.parse_args()


def compare(
    sides: Mapping[str, Callable[[], None]], count: int, unit: str, rounds: int = 5
) -> list[Row]:
    """Run the sides in turn, several rounds; the first is what the others are compared with.

    `value` is `count` per second of wall time; `cpu` is seconds per unit, children included.
    """
    walls: dict[str, list[float]] = {name: [] for name in sides}
    cpus: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            wall, cpu = time.perf_counter(), _cpu()
            side()
            walls[name].append(time.perf_counter() - wall)
            cpus[name].append(_cpu() - cpu)
    base = next(iter(sides))
    return [
        Row(
            name,
            count / statistics.median(walls[name]),
            unit,
            statistics.median(cpus[name]) / count,
            base,
            statistics.median(b / own for b, own in zip(walls[base], walls[name], strict=True)),
        )
        for name in sides
    ]


def show(title: str, rows: list[Row], json_file: Path | None) -> None:
    """Print the table; write the JSON."""
    from rich.console import Console
    from rich.table import Table

    table = Table("side", "per second", "unit", "CPU s per unit", "times as fast as", title=title)
    for row in rows:
        ratio = f"{row.ratio:.2f} x {row.ratio_to}"
        table.add_row(row.name, f"{row.value:,.1f}", row.unit, f"{row.cpu:.6f}", ratio)
    Console().print(table)
    if json_file:
        machine = (
            f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
        )
        said = {"machine": machine, "rows": [asdict(row) for row in rows]}
        json_file.write_text(json.dumps(said, indent=1))


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
