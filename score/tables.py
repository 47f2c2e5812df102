"""The tables of a run's scores, for the terminal: 80 columns are enough for eight classes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ser.corpus.errors import plural
from ser.corpus.text_table import print_table
from ser.score import baseline
from ser.score.groups import GAP
from ser.score.metrics import REPORTED
from ser.score.speakers import speakers_note, speakers_of, with_interval

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Systems = Mapping[str, Mapping[str, Any]]


def print_split(
    split: str,
    systems: Systems,
    classifier: str | None,
    regressor: str | None,
    console: "Console",
) -> None:
    """Print one split: scores, F1 per class, the confusion matrix, attributes, votes, groups.

    The confusion matrix, whose rows are the true classes, and the groups are those of `classifier`,
    a system that predicts classes; without one, the groups are those of `regressor`, which predicts
    attributes.
    """
    classifiers = {name: numbers for name, numbers in systems.items() if "macro_f1" in numbers}
    base = baseline.name_of(systems)
    if classifier is not None:
        numbers = classifiers[classifier]
        title = f"{split}: {_counted('labelled', numbers['n'], numbers)}"
        names = baseline.labels(classifiers, "macro_f1")
        _print(console, title, _scores_table(classifiers, names))
        _print_sentence(console, baseline.note(names, base))
        _print_note(console, split, numbers)
        _print(console, f"{split}: F1 per class, %", _f1_table(classifiers))
        title = f"{split}: confusion matrix of {classifier} (rows true, columns predicted)"
        _print(console, title, _confusion_table(numbers))
        if absent := absent_classes(numbers):
            note = f"{split}: no utterance is {', '.join(absent)}; means leave such classes out."
            console.print(note, markup=False, highlight=False)
    if regressor is not None:
        n = systems[regressor]["attributes"]["mean"]["n"]
        title = f"{split}: {_counted('rated', n, systems[regressor])}"
        names = baseline.labels(systems, "ccc")
        _print(console, title, _attributes_table(systems, names))
        if classifier is None:
            _print_sentence(console, baseline.note(names, base))
            _print_note(console, split, systems[regressor])
    if scored := {n: s["distributions"] for n, s in systems.items() if "distributions" in s}:
        _print_distributions(console, split, scored, classifier)
    shown = classifier or regressor
    groups = systems[shown]["groups"] if shown is not None else {}
    for column, scored in groups.items():
        _print(console, f"{split}: {shown} by {column}", _groups_table(scored))


def print_train(train: Systems, console: "Console") -> None:
    """Print the score of each head on train, and its gap to test (`optimism` in metrics.json)."""
    table = _table()
    table.add_column("system", overflow="fold")
    columns = {"in_sample": "in sample", "out_of_fold": "out of fold", "optimism": "gap to test"}
    for title in columns.values():
        table.add_column(title, justify="right", no_wrap=True)
    for name, numbers in train.items():
        table.add_row(name, *(_number(numbers[key]) for key in columns))
    _print(console, "train: macro-F1, and the generalization gap: in sample minus test", table)


def _print(console: "Console", title: str, table: "Table") -> None:
    # Not the table's own title: that would be folded to the width of the table.
    console.print(title, style="bold", markup=False, highlight=False)
    print_table(table, console)


def _print_distributions(
    console: "Console", split: str, scored: Systems, classifier: str | None
) -> None:
    rows = plural(next(iter(scored.values()))["n"], "utterance")
    title = f"{split}: probabilities against the votes of the raters, {rows}"
    _print(console, title, _distributions_table("system", scored))
    shown = scored.get(classifier or "")
    strata = shown["by_entropy"] if shown is not None else {}
    if len(strata) > 1:
        title = f"{split}: {classifier} by the entropy of the votes, in bits"
        ranges = {stratum_title(name, numbers): numbers for name, numbers in strata.items()}
        _print(console, title, _distributions_table("entropy", ranges))


def stratum_title(name: str, numbers: Mapping[str, Any]) -> str:
    """Write a stratum of entropy and its limits."""
    low, high = numbers["entropy"]
    return f"{name} ({low:.2f})" if low == high else f"{name} ({low:.2f}–{high:.2f})"


def _distributions_table(heading: str, scored: Systems) -> "Table":
    table = _table()
    table.add_column(heading, overflow="fold")
    for title in ("n", "JSD, 95 %", "KLD", "cosine", "soft F1", "hit"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, numbers in scored.items():
        table.add_row(
            name,
            str(numbers["n"]),
            with_interval(numbers["jsd"], numbers["interval"]["jsd"], numbers["speakers"]),
            *(_number(numbers[key]) for key in ("kld", "cosine", "soft_macro_f1", "hit_rate")),
        )
    return table


def _print_note(console: "Console", split: str, numbers: Mapping[str, Any]) -> None:
    _print_sentence(console, speakers_note(speakers_of(numbers), split))


def _print_sentence(console: "Console", sentence: str | None) -> None:
    if sentence is not None:
        console.print(sentence, markup=False, highlight=False)


def _scores_table(systems: Systems, names: Mapping[str, str]) -> "Table":
    table = _table()
    table.add_column("system", overflow="fold")
    further = further_metrics(systems.values())
    for name in ("macro-F1, 95 %", "balanced, range", "UAR", "acc.", *further):
        table.add_column(name, justify="right", no_wrap=True)
    for name, numbers in systems.items():
        mean, low, high = (numbers["bootstrap"][key] for key in ("mean", "min", "max"))
        table.add_row(
            names[name],
            with_interval(
                numbers["macro_f1"], numbers["interval"]["macro_f1"], speakers_of(numbers)
            ),
            _number(mean) if low == high else with_interval(mean, [low, high], None),
            _number(numbers["uar"]),
            _number(numbers["accuracy"]),
            *(_number(numbers.get(name)) for name in further),
        )
    return table


def further_metrics(systems: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the metrics of `score.metrics` that systems have intervals of."""
    always = {*REPORTED, "per_class"}
    return list(dict.fromkeys(m for n in systems for m in n.get("interval", ()) if m not in always))


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


def _attributes_table(systems: Systems, names: Mapping[str, str]) -> "Table":
    table = _table()
    table.add_column("system", overflow="fold")
    table.add_column("attribute", no_wrap=True)
    for name in ("CCC, 95 %", "Pearson", "RMSE"):
        table.add_column(name, justify="right", no_wrap=True)
    for system, scored in systems.items():
        for name, numbers in scored.get("attributes", {}).items():
            if numbers["n"]:
                ccc = with_interval(numbers["ccc"], numbers["interval"], speakers_of(scored))
                pearson, rmse = _number(numbers["pearson"]), _number(numbers["rmse"])
                table.add_row(names[system], name, ccc, pearson, rmse)
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
            with_interval(numbers[metric], numbers["interval"][metric], numbers.get("speakers"))
            if metric in numbers
            else "-"
            for metric in shown
        ]
        table.add_row(name, str(numbers["n"]), *cells)
    if gap := scored.get(GAP):
        cells = [
            with_interval(
                gap[metric]["difference"], gap[metric]["interval"], gap[metric].get("speakers")
            )
            if metric in gap
            else "-"
            for metric in shown
        ]
        table.add_row("gap (highest - lowest)", "", *cells)
    return table


def _counted(kind: str, rows: int, numbers: Mapping[str, Any]) -> str:
    speakers = speakers_of(numbers)
    of_speakers = "" if speakers is None else f" of {plural(speakers, 'speaker')}"
    return f"{plural(rows, f'{kind} utterance')}{of_speakers}"


def absent_classes(numbers: Mapping[str, Any]) -> list[str]:
    """Name the classes that no utterance of a split has."""
    rows = zip(numbers["per_class"], numbers["confusion"], strict=True)
    return [name for name, counts in rows if not sum(counts)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _add_class_columns(table: "Table", classes: Sequence[str]) -> None:
    short = [name[:5] for name in classes]  # so that eight of them fit 80 columns
    for name in short if len(set(short)) == len(classes) else classes:
        table.add_column(name, justify="right", overflow="fold")


def _table() -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
