"""The scores of rotations in the terminal: pooled, and mean ± sd beside them."""

from typing import TYPE_CHECKING

from ser.corpus.errors import plural
from ser.corpus.text_table import decimals, print_table, text_table
from ser.score.baseline import marked
from ser.score.rotations import Mean, Rotations, summary

if TYPE_CHECKING:
    from rich.console import Console

TITLES = {"macro_f1": "macro-F1", "uar": "UAR", "ccc": "mean CCC"}


def print_rotations(rotations: Rotations, console: "Console") -> None:
    """Print mean ± sd over rotations, and over seeds where there are several."""
    header, rows = rotation_rows(rotations)
    table = text_table(header[:1], header[1:])
    for row in rows:
        table.add_row(*row)
    title = f"mean ± sd of {plural(len(rotations.rotations), 'rotation')} by {rotations.by}"
    if len(rotations.repetitions) > 1:
        title += f", and of {plural(len(rotations.repetitions), 'seed')} (pooled)"
    print_table(table, console, title=title)


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
        system: entry["rotations"][metrics[0]]["mean"] if metrics[0] in entry["rotations"] else None
        for system, entry in scores.items()
    }
    names = marked(means, rotations.baseline)
    rows = [
        [names[system], *(_cell(entry.get(kind, {}).get(m)) for kind in kinds for m in metrics)]
        for system, entry in scores.items()
    ]
    return header, rows


def _cell(value: Mean | None) -> str:
    if value is None:
        return "-"
    return f"{value['mean']:.3f} ± {decimals(value['sd'])}"
