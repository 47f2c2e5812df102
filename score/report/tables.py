"""The tables of a report: the scores of a run, as polars frames with captions."""

from collections.abc import Iterable, Mapping

import polars as pl

from ser.corpus.errors import plural
from ser.score import baseline
from ser.score.record import Phase, StackSummary
from ser.score.report.contents import Contents
from ser.score.report.formats import NONE, Schema, Table, frame_of
from ser.score.run import STACK
from ser.score.scores import Groups, Score
from ser.score.speakers import LEAST, not_available, too_few
from ser.score.tables import further_metrics

INTERVAL = pl.List(pl.Float64)
ACRONYMS = {"ce", "wce", "sml", "kld", "ccc", "mse", "vs"}  # names of losses


def paper_table(contents: Contents) -> Table:
    """Make the table of the UNICAMP paper (Table 2), in its column order, a row a system."""
    schema: Schema = dict.fromkeys(("System", "Features", "Loss", "Balancing"), pl.String)
    schema |= dict.fromkeys(("Dev macro-F1", "Dev acc.", "Bootstrap mean"), pl.Float64)
    schema |= {"Range": INTERVAL, "Test macro-F1": pl.Float64}
    dev, test = contents.metrics.get("dev", {}), contents.metrics.get("test", {})
    rows = []
    names = baseline.labels(dev | test, "macro_f1")
    for system in _classifiers(contents):
        on_dev = dev[system].classes if system in dev else None
        on_test = test[system].score("macro_f1") if system in test else None
        scored: tuple[object, ...] = (None, None, None, None)
        if on_dev is not None:
            f1, accuracy = (on_dev.scores[metric].value for metric in ("macro_f1", "accuracy"))
            subsets = on_dev.bootstrap
            scored = (f1, accuracy, subsets.mean, [subsets.min, subsets.max])
        rows.append((names[system], *_ingredients(contents, system), *scored, on_test))
    return Table(
        "systems",
        "All systems: scores on dev, mean and range (lowest to highest) of macro-F1 over "
        f"class-balanced subsets of dev, and macro-F1 on test; the best in bold.{_note(names)}",
        frame_of(rows, schema),
        best=("Dev macro-F1", "Dev acc.", "Bootstrap mean", "Test macro-F1"),
    )


def intervals_table(contents: Contents, split: str) -> Table:
    """Make the table of the metrics with intervals, and ECE, of one split."""
    titles = {"macro_f1": "Macro-F1", "uar": "UAR", "accuracy": "Acc."}
    titles |= {name: name for name in further_metrics(contents.metrics[split].values())}
    schema: Schema = {"System": pl.String, **with_intervals(titles.values())}
    rows = []
    names = baseline.labels(contents.metrics[split], "macro_f1")
    for system, scores in contents.metrics[split].items():
        if (classes := scores.classes) is not None:
            cells = cells_of(classes.scores, titles)
            rows.append((names[system], *cells, classes.ece, classes.aurc))
    return Table(
        f"intervals-{split}",
        f"Scores on {split} with 95 % intervals over resampled speakers, and the expected "
        "calibration error (ECE) and area under the risk-coverage curve (AURC): the lower the "
        "better.",
        frame_of(rows, schema | {"ECE": pl.Float64, "AURC": pl.Float64}),
        best=tuple(titles.values()),
        no_interval=missing_interval(contents, split),
    )


def confusion_table(contents: Contents) -> Table:
    """Make the table of counts behind the confusion matrix."""
    assert contents.classifier is not None
    scores = contents.classes
    classes = list(scores.per_class)
    rows = [(c, *counts) for c, counts in zip(classes, scores.confusion, strict=True)]
    schema: Schema = {"True class": pl.String, **dict.fromkeys(classes, pl.Int64)}
    caption = (
        f"Utterances of {contents.classifier.split} by true class (rows) and prediction (columns)."
    )
    return Table("confusion", caption, frame_of(rows, schema))


def per_class_table(contents: Contents) -> Table:
    """Make the table of F1 per class."""
    assert contents.classifier is not None
    scores = contents.classes
    rows = [
        (name, sum(counts), f1.value if sum(counts) else None, f1.interval)
        for (name, f1), counts in zip(scores.per_class.items(), scores.confusion, strict=True)
    ]
    schema: Schema = {"Class": pl.String, "n": pl.Int64, "F1": pl.Float64, "95 %": INTERVAL}
    caption = f"F1 of each class on {contents.classifier.split}, with 95 % intervals."
    no_interval = missing_interval(contents, contents.classifier.split)
    return Table("per-class", caption, frame_of(rows, schema), no_interval=no_interval)


def top_table(top: pl.DataFrame) -> Table:
    """Make the table of the best k heads: macro-F1 by k and rule, a row a k."""
    splits = [split for split in ("dev", "test") if split in top.columns]
    frame = top.pivot("by", index=["k", "head"], values=splits, maintain_order=True)
    if len(splits) == 1:  # polars then names the columns by the rule alone
        frame = frame.rename({by: f"{splits[0]}_{by}" for by in ("mean", "plurality")})
    titles = {f"{s}_{by}": f"{s.title()}, {by}" for s in splits for by in ("mean", "plurality")}
    frame = frame.select("k", pl.col("head").alias("Head added"), *titles).rename(titles)
    caption = "Macro-F1 of the k heads that are best on dev."
    return Table("top-k", caption, frame, best=tuple(titles.values()))


def with_intervals(titles: Iterable[str]) -> Schema:
    """Return two columns a metric, its value and its interval."""
    columns = (((title, pl.Float64), (f"{title}, 95 %", INTERVAL)) for title in titles)
    return dict(column for pair in columns for column in pair)


def cells_of(scores: Mapping[str, Score], metrics: Iterable[str]) -> list[object]:
    """Return two cells a metric, its value and its interval; None where there is no such score."""
    shown = (scores.get(metric) for metric in metrics)
    return [cell for s in shown for cell in ((None, None) if s is None else (s.value, s.interval))]


def group_table(column: str, scored: Groups) -> Table:
    """Make the table of one grouping, the gap last."""
    titles = {"macro_f1": "Macro-F1", "uar": "UAR", "ccc": "Mean CCC"}
    groups = scored.groups
    titles = {m: t for m, t in titles.items() if any(m in g.scores for g in groups.values())}
    schema: Schema = {column.capitalize(): pl.String, "n": pl.Int64, "Speakers": pl.Int64}
    schema |= with_intervals(titles.values())
    rows: list[tuple[object, ...]] = [
        (name, group.n, group.speakers, *cells_of(group.scores, titles))
        for name, group in groups.items()
    ]
    if scored.gap:
        gaps = {m: Score(value=g.difference, interval=g.interval) for m, g in scored.gap.items()}
        rows.append(("gap (highest – lowest)", None, None, *cells_of(gaps, titles)))
    caption = (
        f"Scores by {column}, with 95 % intervals over resampled speakers; a group of fewer than "
        f"{LEAST} has none."
    )
    return Table(f"group-{column}", caption, frame_of(rows, schema), no_interval="n/a")


def attributes_table(contents: Contents, split: str) -> Table:
    """Make the table of attributes: a row a system and attribute, and of their mean."""
    schema: Schema = {"System": pl.String, "Attribute": pl.String, "n": pl.Int64}
    schema |= {"CCC": pl.Float64, "95 %": INTERVAL, "Pearson": pl.Float64, "RMSE": pl.Float64}
    names = baseline.labels(contents.metrics[split], "ccc")
    rows = [
        (names[system], name, rated.n, rated.ccc, rated.interval, rated.pearson, rated.rmse)
        for system, scores in contents.metrics[split].items()
        for name, rated in scores.attributes.items()
        if rated.n
    ]
    caption = f"Attributes on {split}; RMSE in points of the 1–7 scale."
    no_interval = missing_interval(contents, split)
    return Table("attributes", caption, frame_of(rows, schema), no_interval=no_interval)


def generalization_table(contents: Contents) -> Table | None:
    """Make the table of macro-F1 on train and the gap to test; None if no head has rows of train.

    The gap is `optimism` in metrics.json.
    """
    scored = contents.metrics.get("test") or contents.metrics.get("dev") or {}
    rows = [
        (system, train.in_sample, train.out_of_fold, train.optimism)
        for system, scores in scored.items()
        if (train := scores.train) is not None
    ]
    titles = ("In sample", "Out of fold", "Gap to test")
    schema = {"Head": pl.String, **dict.fromkeys(titles, pl.Float64)}
    caption = "Macro-F1 of each head on train, and the in-sample score less that on test."
    return Table("generalization", caption, frame_of(rows, schema)) if rows else None


def _note(names: Mapping[str, str]) -> str:
    """Return the sentence on the marks of a table, behind a space; "" where there are none."""
    below = any(name.endswith(baseline.BELOW) for name in names.values())
    return f" {baseline.BELOW} scores below the plain baseline, a linear probe." if below else ""


def missing_interval(contents: Contents, split: str) -> str:
    """Return what the tables of a split have for an interval that is missing."""
    speakers = next(iter(contents.metrics[split].values())).speakers
    return not_available(speakers) if too_few(speakers) else NONE


def _classifiers(contents: Contents) -> list[str]:
    """Name every system that predicts classes on a split, the stack last."""
    scored = [item for systems in contents.metrics.values() for item in systems.items()]
    names = dict.fromkeys(name for name, scores in scored if scores.classes is not None)
    return sorted(names, key=lambda name: name == STACK)


def _ingredients(contents: Contents, system: str) -> tuple[str, str, str]:
    """Return features, loss and balancing of a system, as the paper's table has them."""
    if system == STACK:
        stack = contents.stack or StackSummary(heads={})
        counts = set(stack.rows_per_class.values())
        balanced = ("yes" if len(counts) == 1 else "no") if stack.rows else NONE
        model = stack.config.model.replace("_", " ")
        return f"{model} of {plural(len(stack.heads), 'head')}", NONE, balanced
    head = contents.heads[system]
    config = head.summary.config
    phases = config.phases or [Phase()]
    losses = dict.fromkeys(
        use.name for p in phases for use in (config.loss if p.loss is None else p.loss)
    )
    samplers = dict.fromkeys(s.name for p in phases if (s := p.sampler or config.sampler))
    return (
        " + ".join(head.features) or NONE,
        " + ".join(map(_loss, losses)) or NONE,
        " + ".join(map(_sampler, samplers)) or NONE,
    )


def _loss(name: str) -> str:
    return name.upper() if name in ACRONYMS else name.replace("_", " ")


def _sampler(name: str) -> str:
    return "no" if name == "natural" else name.replace("_", " ")
