"""The tables of a run's scores, for the terminal: 80 columns are enough for eight classes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ser.corpus.errors import plural
from ser.corpus.text_table import decimals, print_sentence, print_table, text_table
from ser.score import baseline
from ser.score.scores import ClassScores, Groups, Score, SystemScores, TrainScores, VoteScores
from ser.score.speakers import speakers_note, with_interval

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Systems = Mapping[str, SystemScores]


def print_split(
    split: str, systems: Systems, classifier: str | None, regressor: str | None, console: "Console"
) -> None:
    """Print one split: scores, F1 per class, the confusion matrix, attributes, votes, groups.

    The confusion matrix, whose rows are the true classes, and the groups are those of `classifier`,
    a system that predicts classes; without one, the groups are those of `regressor`, which predicts
    attributes.
    """
    classifiers = {name: scores.classes for name, scores in systems.items() if scores.classes}
    base = baseline.name_of(systems)
    if classifier is not None:
        scores = classifiers[classifier]
        title = f"{split}: {_counted('labelled', scores.n, systems[classifier])}"
        names = baseline.labels({name: systems[name] for name in classifiers}, "macro_f1")
        print_table(_scores_table(systems, names), console, title=title)
        print_sentence(baseline.note(names, base), console)
        print_sentence(speakers_note(systems[classifier].speakers, split), console)
        print_table(_f1_table(classifiers), console, title=f"{split}: F1 per class, %")
        title = f"{split}: confusion matrix of {classifier} (rows true, columns predicted)"
        print_table(_confusion_table(scores), console, title=title)
        if absent := scores.absent:
            note = f"{split}: no utterance is {', '.join(absent)}; means leave such classes out."
            print_sentence(note, console)
    if regressor is not None and (mean := systems[regressor].mean) is not None:
        title = f"{split}: {_counted('rated', mean.n, systems[regressor])}"
        names = baseline.labels(systems, "ccc")
        print_table(_attributes_table(systems, names), console, title=title)
        if classifier is None:
            print_sentence(baseline.note(names, base), console)
            print_sentence(speakers_note(systems[regressor].speakers, split), console)
    if voted := {name: s.distributions for name, s in systems.items() if s.distributions}:
        _print_distributions(console, split, voted, classifier)
    shown = classifier or regressor
    groups = systems[shown].groups if shown is not None else {}
    for column, grouped in groups.items():
        print_table(_groups_table(grouped), console, title=f"{split}: {shown} by {column}")


def print_train(train: Mapping[str, TrainScores], console: "Console") -> None:
    """Print the score of each head on train, and its gap to test (`optimism` in metrics.json)."""
    table = text_table(["system"], ["in sample", "out of fold", "gap to test"])
    for name, scores in train.items():
        cells = (scores.in_sample, scores.out_of_fold, scores.optimism)
        table.add_row(name, *map(decimals, cells))
    title = "train: macro-F1, and the generalization gap: in sample minus test"
    print_table(table, console, title=title)


def _print_distributions(
    console: "Console", split: str, scored: Mapping[str, VoteScores], classifier: str | None
) -> None:
    rows = plural(next(iter(scored.values())).n, "utterance")
    title = f"{split}: probabilities against the votes of the raters, {rows}"
    print_table(_distributions_table("system", scored), console, title=title)
    shown = scored.get(classifier or "")
    strata = shown.by_entropy if shown is not None else {}
    if len(strata) > 1:
        title = f"{split}: {classifier} by the entropy of the votes, in bits"
        ranges = {stratum_title(name, scores): scores for name, scores in strata.items()}
        print_table(_distributions_table("entropy", ranges), console, title=title)


def stratum_title(name: str, scores: VoteScores) -> str:
    """Write a stratum of entropy and its limits."""
    low, high = scores.entropy or (0.0, 0.0)
    return f"{name} ({low:.2f})" if low == high else f"{name} ({low:.2f}–{high:.2f})"


def _distributions_table(heading: str, scored: Mapping[str, VoteScores]) -> "Table":
    table = text_table([heading], ["n", "JSD, 95 %", "KLD", "cosine", "soft F1", "hit"])
    for name, part in scored.items():
        others = (part.scores[m].value for m in ("kld", "cosine", "soft_macro_f1", "hit_rate"))
        jsd = _with_interval(part.scores["jsd"], part.speakers)
        table.add_row(name, str(part.n), jsd, *map(decimals, others))
    return table


def _scores_table(systems: Systems, names: Mapping[str, str]) -> "Table":
    further = further_metrics(systems.values())
    table = text_table(["system"], ["macro-F1, 95 %", "balanced, range", "UAR", "acc.", *further])
    for name, label in names.items():
        speakers, scores = systems[name].speakers, systems[name].classes
        assert scores is not None
        subsets = scores.bootstrap
        constant = subsets.min == subsets.max
        between = None if constant else [subsets.min, subsets.max]
        table.add_row(
            label,
            _with_interval(scores.scores["macro_f1"], speakers),
            decimals(subsets.mean) if constant else with_interval(subsets.mean, between, None),
            *(
                decimals(scores.scores[metric].value if metric in scores.scores else None)
                for metric in ("uar", "accuracy", *further)
            ),
        )
    return table


def further_metrics(systems: Iterable[SystemScores]) -> list[str]:
    """Name the metrics of `score.metrics` that systems have."""
    return list(dict.fromkeys(m for s in systems if s.classes for m in s.classes.further))


def _f1_table(classifiers: Mapping[str, ClassScores]) -> "Table":
    table = text_table(["system"], _short(list(next(iter(classifiers.values())).per_class)))
    for name, scores in classifiers.items():
        f1 = zip(scores.per_class.values(), scores.confusion, strict=True)
        table.add_row(name, *(f"{100 * s.value:.0f}" if sum(row) else "-" for s, row in f1))
    return table


def _confusion_table(scores: ClassScores) -> "Table":
    table = text_table([""], _short(list(scores.per_class)))
    for true, counts in zip(scores.per_class, scores.confusion, strict=True):
        table.add_row(true, *map(str, counts))
    return table


def _attributes_table(systems: Systems, names: Mapping[str, str]) -> "Table":
    table = text_table(["system", "attribute"], ["CCC, 95 %", "Pearson", "RMSE"])
    for system, scores in systems.items():
        for name, rated in scores.attributes.items():
            if rated.n:
                ccc = with_interval(rated.ccc, rated.interval, scores.speakers)
                table.add_row(
                    names[system], name, ccc, decimals(rated.pearson), decimals(rated.rmse)
                )
    return table


def _groups_table(scored: Groups) -> "Table":
    """Make a row a group and one of the gap, a column a metric."""
    titles = {"macro_f1": "macro-F1, 95 %", "ccc": "mean CCC, 95 %"}
    shown = [m for m in titles if any(m in group.scores for group in scored.groups.values())]
    table = text_table(["group"], ["n", *(titles[metric] for metric in shown)])
    for name, group in scored.groups.items():
        cells = (_with_interval(group.scores.get(metric), group.speakers) for metric in shown)
        table.add_row(name, str(group.n), *cells)
    if scored.gap:
        gaps = (scored.gap.get(metric) for metric in shown)
        cells = (
            "-" if g is None else with_interval(g.difference, g.interval, g.speakers) for g in gaps
        )
        table.add_row("gap (highest - lowest)", "", *cells)
    return table


def _with_interval(score: Score | None, speakers: int | None) -> str:
    return "-" if score is None else with_interval(score.value, score.interval, speakers)


def _counted(kind: str, rows: int, scores: SystemScores) -> str:
    of_speakers = "" if scores.speakers is None else f" of {plural(scores.speakers, 'speaker')}"
    return f"{plural(rows, f'{kind} utterance')}{of_speakers}"


def _short(classes: Sequence[str]) -> Sequence[str]:
    """Return class names so short that eight of them fit 80 columns, where they still differ."""
    short = [name[:5] for name in classes]
    return short if len(set(short)) == len(classes) else classes
