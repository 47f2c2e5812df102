"""The scores of rotations in the terminal: pooled, and mean ± sd beside them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ser.corpus.errors import plural
from ser.corpus.text_table import print_table
from ser.score.baseline import marked
from ser.score.rotations import Rotations, summary

if TYPE_CHECKING:
    from rich.console import Console

TITLES = {"macro_f1": "macro-F1", "uar": "UAR", "ccc": "mean CCC"}


def print_rotations(rotations: Rotations, console: "Console") -> None:
    """Print mean ± sd over rotations, and over seeds where there are several."""
    from rich import box
    from rich.table import Table

    header, rows = rotation_rows(rotations)
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column(header[0], overflow="fold")
    for name in header[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    title = f"mean ± sd of {plural(len(rotations.rotations), 'rotation')} by {rotations.by}"
    if len(rotations.repetitions) > 1:
        title += f", and of {plural(len(rotations.repetitions), 'seed')} (pooled)"
    console.print(title, style="bold", markup=False, highlight=False)
    print_table(table, console)


def rotation_rows(rotations: Rotations) -> tuple[list[str], list[list[str]]]:
    """Return the header and a row for each system; "-" where a score is undefined."""
    scores = summary(rotations)
    metrics = [
        name for name in TITLES if any(name in entry["rotations"] for entry in scores.values())
    ]
    kinds = ["rotations", "seeds"] if len(rotations.repetitions) > 1 else ["rotations"]
    header = ["system"]
    header += [f"{TITLES[m]}, {kind}" for kind in kinds for m in metrics]
    means = {
        system: entry["rotations"].get(next(iter(metrics), ""), {}).get("mean")
        for system, entry in scores.items()
    }
    names = marked(means, rotations.baseline)
    rows = [
        [names[system], *(_cell(entry.get(kind, {}).get(m)) for kind in kinds for m in metrics)]
        for system, entry in scores.items()
    ]
    return header, rows


def _cell(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "-"
    deviation = "-" if value["sd"] is None else f"{value['sd']:.3f}"
    return f"{value['mean']:.3f} ± {deviation}"
