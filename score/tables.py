"""The tables of a run's scores, for the terminal: 80 columns are enough for eight classes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from score.groups import GAP

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Systems = Mapping[str, Mapping[str, Any]]


def print_split(
    split: str, systems: Systems, teller: str | None, rater: str | None, console: "Console"
) -> None:
    """Print one split: scores, F1 per class, the confusion matrix, attributes, groups.

    The confusion matrix, whose rows are the true classes, and the groups are those of `teller`, a
    system that tells classes; of groups without one, of `rater`, one that predicts attributes.
    """
    tell = {name: numbers for name, numbers in systems.items() if "macro_f1" in numbers}
    if teller is not None:
        title = f"{split}: {_counted('labelled', tell[teller]['n'], tell[teller])}"
        _print(console, title, _scores_table(tell))
        _print(console, f"{split}: F1 per class, %", _f1_table(tell))
        title = f"{split}: confusion of {teller} (rows true, columns predicted)"
        _print(console, title, _confusion_table(tell[teller]))
        if absent := absent_classes(tell[teller]):
            said = f"{split}: no utterance is {', '.join(absent)}; means leave such classes out."
            console.print(said, markup=False, highlight=False)
    if rater is not None:
        rated = systems[rater]["attributes"]["mean"]["n"]
        title = f"{split}: {_counted('rated', rated, systems[rater])}"
        rate = {name: n["attributes"] for name, n in systems.items() if "attributes" in n}
        _print(console, title, _attributes_table(rate))
    shown = teller or rater
    groups = systems[shown]["groups"] if shown is not None else {}
    for column, scored in groups.items():
        _print(console, f"{split}: {shown} by {column}", _groups_table(scored))


def print_train(train: Systems, console: "Console") -> None:
    """Print what each head scores on train, and how much better than on test that is."""
    table = _table()
    table.add_column("system", overflow="fold")
    columns = {"in_sample": "in sample", "out_of_fold": "out of fold", "optimism": "optimism"}
    for title in columns.values():
        table.add_column(title, justify="right", no_wrap=True)
    for name, numbers in train.items():
        table.add_row(name, *(_number(numbers[key]) for key in columns))
    _print(console, "train: macro-F1, and optimism: that in sample less that of test", table)


def _print(console: "Console", title: str, table: "Table") -> None:
    # Not the table's own title: that would be folded to the width of the table.
    console.print(title, style="bold", markup=False, highlight=False)
    console.print(table)


def _scores_table(systems: Systems) -> "Table":
    table = _table()
    table.add_column("system", overflow="fold")
    for name in ("macro-F1, 95 %", "balanced, range", "UAR", "acc."):
        table.add_column(name, justify="right", no_wrap=True)
    for name, numbers in systems.items():
        mean, low, high = (numbers["bootstrap"][key] for key in ("mean", "min", "max"))
        table.add_row(
            name,
            _with_interval(numbers["macro_f1"], numbers["interval"]["macro_f1"]),
            _with_interval(mean, [low, high]),
            _number(numbers["uar"]),
            _number(numbers["accuracy"]),
        )
    return table


def _f1_table(systems: Systems) -> "Table":
    first = next(iter(systems.values()))
    table = _table()
    table.add_column("system", overflow="fold")
    _add_class_columns(table, list(first["per_class"]))
    for name, numbers in systems.items():
        table.add_row(
            name,
            *(
                f"{100 * f1:.0f}" if sum(row) else "-"
                for f1, row in zip(numbers["per_class"].values(), numbers["confusion"], strict=True)
            ),
        )
    return table


def _confusion_table(numbers: Mapping[str, Any]) -> "Table":
    table = _table()
    table.add_column("", overflow="fold")
    _add_class_columns(table, list(numbers["per_class"]))
    for true, counts in zip(numbers["per_class"], numbers["confusion"], strict=True):
        table.add_row(true, *map(str, counts))
    return table


def _attributes_table(systems: Systems) -> "Table":
    table = _table()
    table.add_column("system", overflow="fold")
    table.add_column("attribute", no_wrap=True)
    for name in ("CCC, 95 %", "Pearson", "RMSE"):
        table.add_column(name, justify="right", no_wrap=True)
    for system, attributes in systems.items():
        for name, numbers in attributes.items():
            if numbers["n"]:
                ccc = _with_interval(numbers["ccc"], numbers["interval"])
                pearson, rmse = _number(numbers["pearson"]), _number(numbers["rmse"])
                table.add_row(system, name, ccc, pearson, rmse)
    return table


def _groups_table(scored: Mapping[str, Any]) -> "Table":
    """Make a row a group and one of the gap, a column a metric."""
    groups = {name: numbers for name, numbers in scored.items() if name != GAP}
    titles = {"macro_f1": "macro-F1, 95 %", "ccc": "mean CCC, 95 %"}
    shown = [metric for metric in titles if any(metric in group for group in groups.values())]
    table = _table()
    table.add_column("group", overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    for metric in shown:
        table.add_column(titles[metric], justify="right", no_wrap=True)
    for name, numbers in groups.items():
        cells = [
            _with_interval(numbers[metric], numbers["interval"][metric])
            if metric in numbers
            else "-"
            for metric in shown
        ]
        table.add_row(name, str(numbers["n"]), *cells)
    if gap := scored.get(GAP):
        cells = [
            _with_interval(gap[metric]["difference"], gap[metric]["interval"])
            if metric in gap
            else "-"
            for metric in shown
        ]
        table.add_row("gap (highest - lowest)", "", *cells)
    return table


def _counted(kind: str, rows: int, numbers: Mapping[str, Any]) -> str:
    # Where no speaker is known, each row is one, of which there is nothing to say.
    speakers = f" of {numbers['clusters']} speakers" if numbers["clusters"] < rows else ""
    return f"{rows} {kind} utterances{speakers}"


def absent_classes(numbers: Mapping[str, Any]) -> list[str]:
    """Name the classes that no utterance of a split has."""
    rows = zip(numbers["per_class"], numbers["confusion"], strict=True)
    return [name for name, counts in rows if not sum(counts)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    if interval is None:
        return f"{value:.3f} {'-':^12}"
    return f"{value:.3f} [{_short(interval[0])}, {_short(interval[1])}]"


def _short(value: float) -> str:
    """Write .412, -.103 or 1.00, so that two such columns and a long name fit 80 columns."""
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text[:-1]


def _add_class_columns(table: "Table", classes: Sequence[str]) -> None:
    short = [name[:5] for name in classes]  # so that eight of them fit 80 columns
    for name in short if len(set(short)) == len(classes) else classes:
        table.add_column(name, justify="right", overflow="fold")


def _table() -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
