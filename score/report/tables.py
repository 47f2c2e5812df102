"""The tables of a report: what the numbers of a run come to, as polars frames with captions."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from score.groups import GAP
from score.report.contents import Contents
from score.report.formats import NONE, Table, frame_of
from score.run import STACK

INTERVAL = pl.List(pl.Float64)
ABBREVIATED = {"ce", "wce", "sml", "kld", "ccc", "mse", "vs"}  # losses that are written in capitals


def paper_table(contents: Contents) -> Table:
    """Make the table of the UNICAMP paper (Table 2), in its column order, a row a system."""
    schema = {
        "System": pl.String,
        "Features": pl.String,
        "Loss": pl.String,
        "Balancing": pl.String,
        "Dev macro-F1": pl.Float64,
        "Dev acc.": pl.Float64,
        "Bootstrap mean": pl.Float64,
        "Range": INTERVAL,
        "Test macro-F1": pl.Float64,
    }
    dev, test = contents.metrics.get("dev", {}), contents.metrics.get("test", {})
    rows = []
    for system in _systems(contents, "macro_f1"):
        here, there = dev.get(system, {}), test.get(system, {})
        drawn = here.get("bootstrap", {})
        rows.append(
            (
                system,
                *_made_of(contents, system),
                here.get("macro_f1"),
                here.get("accuracy"),
                drawn.get("mean"),
                [drawn["min"], drawn["max"]] if drawn else None,
                there.get("macro_f1"),
            )
        )
    return Table(
        "systems",
        "Every system: scores on dev, mean and range (lowest to highest) of macro-F1 over "
        "class-balanced subsets of dev, and macro-F1 on test; the best in bold.",
        frame_of(rows, schema),
        best=("Dev macro-F1", "Dev acc.", "Bootstrap mean", "Test macro-F1"),
    )


def intervals_table(contents: Contents, split: str) -> Table:
    """Make the table of macro-F1, UAR and accuracy with intervals, and ECE, of one split."""
    schema: dict[str, Any] = {"System": pl.String}
    titles = {"macro_f1": "Macro-F1", "uar": "UAR", "accuracy": "Acc."}
    for title in titles.values():
        schema |= {title: pl.Float64, f"{title}, 95 %": INTERVAL}
    rows = []
    for system, numbers in contents.metrics[split].items():
        if "macro_f1" in numbers:
            cells = [(numbers[m], numbers["interval"][m]) for m in titles]
            rows.append((system, *(cell for pair in cells for cell in pair), numbers["ece"]))
    return Table(
        f"intervals-{split}",
        f"Scores on {split} with 95 % intervals over resampled speakers, and the expected "
        "calibration error (ECE).",
        frame_of(rows, schema | {"ECE": pl.Float64}),
        best=tuple(titles.values()),
    )


def confusion_table(contents: Contents) -> Table:
    """Make the table of counts behind the confusion matrix."""
    assert contents.told is not None
    numbers = contents.numbers
    classes = list(numbers["per_class"])
    rows = [(c, *counts) for c, counts in zip(classes, numbers["confusion"], strict=True)]
    schema = {"True class": pl.String, **dict.fromkeys(classes, pl.Int64)}
    caption = f"Utterances of {contents.told.split} by true class (rows) and prediction (columns)."
    return Table("confusion", caption, frame_of(rows, schema))


def per_class_table(contents: Contents) -> Table:
    """Make the table of F1 per class."""
    assert contents.told is not None
    numbers = contents.numbers
    rows = [
        (name, sum(counts), f1 if sum(counts) else None, numbers["interval"]["per_class"][name])
        for (name, f1), counts in zip(
            numbers["per_class"].items(), numbers["confusion"], strict=True
        )
    ]
    schema = {"Class": pl.String, "n": pl.Int64, "F1": pl.Float64, "95 %": INTERVAL}
    caption = f"F1 of each class on {contents.told.split}, with 95 % intervals."
    return Table("per-class", caption, frame_of(rows, schema))


def top_table(top: pl.DataFrame) -> Table:
    """Make the table of the best k heads: macro-F1 by k and rule, a row a k."""
    splits = [split for split in ("dev", "test") if split in top.columns]
    frame = top.pivot("by", index=["k", "head"], values=splits, maintain_order=True)
    if len(splits) == 1:  # polars then names the columns by the rule alone
        frame = frame.rename({by: f"{splits[0]}_{by}" for by in ("mean", "plurality")})
    chosen = {f"{s}_{by}": f"{s.title()}, {by}" for s in splits for by in ("mean", "plurality")}
    frame = frame.select("k", pl.col("head").alias("Head added"), *chosen).rename(chosen)
    return Table(
        "top-k", "Macro-F1 of the best k heads by dev.", frame, best=tuple(chosen.values())
    )


def reliability_table(reliability: pl.DataFrame) -> Table:
    """Make the table of the reliability curve, without empty bins."""
    frame = reliability.drop_nulls().select(
        pl.concat_list("lower", "upper").alias("Confidence bin"),
        pl.col("n").cast(pl.Int64),
        pl.col("confidence").alias("Confidence"),
        pl.col("accuracy").alias("Accuracy"),
    )
    return Table("reliability", "Confidence and accuracy by bin of confidence.", frame)


def group_table(column: str, scored: Mapping[str, Any]) -> Table:
    """Make the table of one grouping, the gap last."""
    titles = {"macro_f1": "Macro-F1", "uar": "UAR", "ccc": "Mean CCC"}
    groups = {name: numbers for name, numbers in scored.items() if name != GAP}
    titles = {m: title for m, title in titles.items() if any(m in g for g in groups.values())}
    schema: dict[str, Any] = {column.capitalize(): pl.String, "n": pl.Int64}
    for title in titles.values():
        schema |= {title: pl.Float64, f"{title}, 95 %": INTERVAL}
    rows = []
    for name, numbers in groups.items():
        cells = [(numbers.get(m), numbers["interval"].get(m)) for m in titles]
        rows.append((name, numbers["n"], *(cell for pair in cells for cell in pair)))
    if gap := scored.get(GAP):
        of = [gap.get(metric, {}) for metric in titles]
        cells = [(each.get("difference"), each.get("interval")) for each in of]
        rows.append(("gap (highest – lowest)", None, *(cell for pair in cells for cell in pair)))
    caption = f"Scores by {column}, with 95 % intervals over resampled speakers."
    return Table(f"group-{column}", caption, frame_of(rows, schema))


def agreement_table(agreement: pl.DataFrame) -> Table:
    """Make the table of Cohen's kappa."""
    frame = agreement.rename({"system": "System"})
    digits = dict.fromkeys(frame.columns, 2)
    return Table("agreement", "Cohen's kappa between systems.", frame, digits=digits)


def hardest_table(hardest: pl.DataFrame) -> Table:
    """Make the table of the hardest utterances."""
    names = {
        "utterance": "Utterance",
        "emotion": "True",
        "prediction": "Predicted",
        "probability": "p(true)",
        "speaker": "Speaker",
        "transcript": "Transcript",
    }
    frame = hardest.select(names.keys()).rename(names)
    caption = "The utterances whose true class the system finds least probable."
    return Table("hardest", caption, frame, folds="Transcript")


def attributes_table(contents: Contents, split: str) -> Table:
    """Make the table of attributes: a row a system and attribute, and of their mean."""
    schema = {
        "System": pl.String,
        "Attribute": pl.String,
        "n": pl.Int64,
        "CCC": pl.Float64,
        "95 %": INTERVAL,
        "Pearson": pl.Float64,
        "RMSE": pl.Float64,
    }
    rows = [
        (system, name, n["n"], n["ccc"], n["interval"], n["pearson"], n["rmse"])
        for system, numbers in contents.metrics[split].items()
        for name, n in numbers.get("attributes", {}).items()
        if n["n"]
    ]
    caption = f"Attributes on {split}; RMSE in points of the 1–7 scale."
    return Table("attributes", caption, frame_of(rows, schema))


def optimism_table(contents: Contents) -> Table | None:
    """Make the table of what each head scores on train; None where no head has rows of train."""
    beside = contents.metrics.get("test") or contents.metrics.get("dev") or {}
    rows = [
        (system, *(numbers["train"][k] for k in ("in_sample", "out_of_fold", "optimism")))
        for system, numbers in beside.items()
        if "train" in numbers
    ]
    titles = ("In sample", "Out of fold", "Optimism")
    schema = {"Head": pl.String, **dict.fromkeys(titles, pl.Float64)}
    caption = "Macro-F1 of each head on train; optimism is that in sample less that of test."
    return Table("optimism", caption, frame_of(rows, schema)) if rows else None


def _systems(contents: Contents, metric: str) -> list[str]:
    """Name every system that a split has the metric of, the stack last."""
    every = [n for systems in contents.metrics.values() for n, s in systems.items() if metric in s]
    return sorted(dict.fromkeys(every), key=lambda name: name == STACK)


def _made_of(contents: Contents, system: str) -> tuple[str, str, str]:
    """Return features, loss and balancing of a system, as the paper's table has them."""
    if system == STACK:
        stack = contents.stack or {}
        counts = set(stack.get("rows_per_class", {}).values())
        learned = bool(stack.get("rows"))
        balanced = ("yes" if len(counts) == 1 else "no") if learned else NONE
        model = stack.get("config", {}).get("model", "stack")
        return f"{model} of {len(stack.get('heads', {}))} heads", NONE, balanced
    head = contents.heads[system]
    config = head.about.get("config", {})
    stages = [
        config | {k: v for k, v in p.items() if v is not None} for p in config.get("phases", ())
    ]
    stages = stages or ([config] if config else [])
    losses = dict.fromkeys(use["name"] for stage in stages for use in stage["loss"])
    samplers = dict.fromkeys(stage["sampler"]["name"] for stage in stages)
    return (
        " + ".join(head.features) or NONE,
        " + ".join(map(_loss, losses)) or NONE,
        " + ".join(map(_sampler, samplers)) or NONE,
    )


def _loss(name: str) -> str:
    return name.upper() if name in ABBREVIATED else name.replace("_", " ")


def _sampler(name: str) -> str:
    return "no" if name == "natural" else name.replace("_", " ")
