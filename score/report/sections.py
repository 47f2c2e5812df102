"""The sections of a report in their order, the same for the page and for report.md.

A section that a run has nothing for says why in one sentence, and has no table and no figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from score.bootstrap import FEW
from score.report import curves, figures, origins, tables
from score.report.contents import HARDEST, Contents, Shown
from score.report.figures import Figure
from score.report.formats import Table
from score.run import STACK
from score.tables import absent_classes

NO_CLASSES = (
    "Left out: no utterance of dev or test has both a known emotion and a system that tells one."
)
METRICS = {"macro_f1": "Macro-F1", "uar": "UAR", "accuracy": "Accuracy"}


@dataclass(frozen=True)
class Section:
    """Hold one section; `facts` are label, value and note of the few numbers that lead it.

    `clips` has a row an utterance, whose audio the page plays. `folded` tables only repeat the
    numbers of the figures, and the page opens them on demand.
    """

    name: str
    title: str
    text: str
    facts: Sequence[tuple[str, str, str]] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    clips: Sequence[Mapping[str, Any]] = ()
    folded: bool = False


def sections(contents: Contents) -> list[Section]:
    """Return every section, in the order of the report."""
    makers = (
        _headline,
        _systems,
        _confusion,
        _per_class,
        _curves,
        _top,
        _calibration,
        _groups,
        _agreement,
        _hardest,
        _attributes,
        _optimism,
        _made_with,
    )
    return [make(contents) for make in makers]


def _headline(contents: Contents) -> Section:
    title = "In one line"
    if contents.told is not None:
        numbers, interval = contents.numbers, contents.numbers["interval"]
        facts = [_fact(METRICS[m], numbers[m], interval[m]) for m in METRICS]
        n, score = numbers["n"], ("a macro-F1", numbers["macro_f1"], interval["macro_f1"])
        text = _sentence(contents, contents.told, score, n) + _better_head(contents)
    elif contents.rated is not None:
        numbers = contents.metrics[contents.rated.split][contents.rated.system]
        mean = numbers["attributes"]["mean"]
        n, score = mean["n"], ("a mean CCC", mean["ccc"], mean["interval"])
        facts = [_fact("Mean CCC", mean["ccc"], mean["interval"])]
        text = _sentence(contents, contents.rated, score, n)
    else:
        text = (
            "No utterance of dev or test has a known emotion or rating: there is nothing to score."
        )
        return Section("headline", title, text)
    facts.append(("Utterances", str(n), ""))
    if numbers["clusters"] < n:  # where no speaker is known, each row is one
        facts.append(("Speakers", str(numbers["clusters"]), ""))
    return Section("headline", title, text, facts=facts)


def _sentence(contents: Contents, at: Shown, score: tuple[str, float, Any], n: int) -> str:
    what, value, span = score
    clusters = contents.metrics[at.split][at.system]["clusters"]
    speakers = f" of {clusters} speakers" if clusters < n else ""
    between = "" if span is None else f" (95 % interval {span[0]:.3f} to {span[1]:.3f})"
    text = f"{_full_name(contents, at)} reaches {what} of {value:.3f}{between} on {n} {at.split} "
    text += f"utterances{speakers}."
    if clusters == n:
        text += " Each utterance counts as a speaker of its own."
    elif clusters < FEW:
        text += f" With {clusters} speakers the intervals are narrower than they should be."
    return text


def _full_name(contents: Contents, at: Shown) -> str:
    if at.system == STACK and contents.stack is not None:
        model, heads = contents.stack["config"]["model"], contents.stack["heads"]
        return f"The stack ({model} over {len(heads)} heads)"
    best = ", the best on dev," if "dev" in contents.metrics and len(contents.heads) > 1 else ""
    return f"The head {at.system}{best}"


def _better_head(contents: Contents) -> str:
    """Say so when a head alone does better on dev than the stack that is shown."""
    dev = {n: s["macro_f1"] for n, s in contents.metrics.get("dev", {}).items() if "macro_f1" in s}
    highest = max(dev, key=lambda name: dev[name], default=STACK)
    if STACK not in dev or dev[highest] <= dev[STACK]:
        return ""
    return (
        f" On dev the head {highest} alone is better than the stack ({dev[highest]:.3f} against "
        f"{dev[STACK]:.3f})."
    )


def _fact(label: str, value: float, span: Sequence[float] | None) -> tuple[str, str, str]:
    return label, f"{value:.3f}", "" if span is None else f"{span[0]:.3f} – {span[1]:.3f}"


def _systems(contents: Contents) -> Section:
    title = "Systems"
    if contents.told is None:
        return Section("systems", title, NO_CLASSES)
    text = (
        "The columns are those of Table 2 of the UNICAMP system (Interspeech 2025): its range is "
        "the lowest and the highest score over class-balanced subsets of dev, not an interval. "
        "The second table has the 95 % intervals of a bootstrap over speakers."
    )
    split = contents.told.split
    made = [tables.paper_table(contents), tables.intervals_table(contents, split)]
    return Section("systems", title, text, tables=made)


def _confusion(contents: Contents) -> Section:
    title = "Confusion"
    if contents.told is None:
        return Section("confusion", title, NO_CLASSES)
    numbers = contents.numbers
    drawn = figures.confusion_figure(
        numbers["confusion"], list(numbers["per_class"]), _of(contents)
    )
    text = "What the system says of each true class, in percent of the class."
    made = [tables.confusion_table(contents)]
    return Section("confusion", title, text, figures=[drawn], tables=made, folded=True)


def _per_class(contents: Contents) -> Section:
    title = "F1 per class"
    if contents.told is None:
        return Section("per-class", title, NO_CLASSES)
    numbers = contents.numbers
    absent = absent_classes(numbers)
    text = "Macro-F1 is the mean of these bars."
    if absent:
        split = contents.told.split
        text += f" No utterance of {split} is {', '.join(absent)}; means leave such classes out."
    drawn = figures.per_class_figure(numbers, _of(contents))
    made = [tables.per_class_table(contents)]
    return Section("per-class", title, text, figures=[drawn], tables=made, folded=True)


def _curves(contents: Contents) -> Section:
    title = "Learning curves"
    histories = {
        name: head.history
        for name, head in contents.heads.items()
        if head.history is not None and head.history.height
    }
    if not histories:
        text = "Left out: the run folder has no history.csv of any head."
        return Section("curves", title, text)
    chosen_by = {
        name: _chosen_by(contents.heads[name].about, history) for name, history in histories.items()
    }
    text = "How each head learned; a dev score that falls while the loss does is over-fitting."
    drawn = curves.curves_figure(histories, chosen_by)
    return Section("curves", title, text, figures=[drawn])


def _chosen_by(about: Mapping[str, Any], history: pl.DataFrame) -> str:
    """Name the dev score that a head's best epoch is chosen by, or the one that there is."""
    said = about.get("config", {}).get("best_by")
    wanted = [said] if said not in (None, "loss") else []
    found = (by for by in (*wanted, "macro_f1", "ccc") if f"dev_{by}" in history.columns)
    return next(found, "macro_f1")


def _top(contents: Contents) -> Section:
    title = "The best k heads"
    if contents.top is None or not contents.top.height:
        text = "Left out: heads are ordered by dev, and dev has no labelled utterance."
        if contents.told is not None and "dev" in contents.metrics:
            text = "Left out: the best heads were not handed to the report."
        return Section("top-k", title, text if contents.told is not None else NO_CLASSES)
    text = (
        "What a combination gains with each further head, as in Figure 4 of the overview of the "
        "Interspeech 2025 challenge. Heads are chosen on dev, so the dev lines flatter."
    )
    drawn, made = curves.top_figure(contents.top), tables.top_table(contents.top)
    return Section("top-k", title, text, figures=[drawn], tables=[made], folded=True)


def _calibration(contents: Contents) -> Section:
    title = "Calibration"
    if contents.told is None or contents.reliability is None:
        return Section("calibration", title, NO_CLASSES)
    ece = contents.numbers["ece"]
    text = f"The expected calibration error is {ece:.3f}; a point under the diagonal is too sure."
    drawn = curves.reliability_figure(contents.reliability, ece, _of(contents))
    made = [tables.reliability_table(contents.reliability)]
    return Section("calibration", title, text, figures=[drawn], tables=made, folded=True)


def _groups(contents: Contents) -> Section:
    title, at = "Groups", contents.told or contents.rated
    groups = contents.metrics[at.split][at.system]["groups"] if at is not None else {}
    if at is None or not groups:
        text = (
            "Left out: the manifest has no group column with a value (score.groups of the "
            "pipeline names them)."
        )
        return Section("groups", title, text)
    text = (
        "The gap is the highest group less the lowest; groups with other classes or fewer speakers "
        "compare badly, and a group of one speaker has no interval."
    )
    drawn = figures.groups_figure(groups, _of(contents, at))
    made = [tables.group_table(column, scored) for column, scored in groups.items()]
    return Section("groups", title, text, figures=[drawn], tables=made)


def _agreement(contents: Contents) -> Section:
    title = "Agreement"
    if contents.told is None:
        return Section("agreement", title, NO_CLASSES)
    if contents.agreement is None:
        return Section("agreement", title, "Left out: there is one system only.")
    text = (
        f"Cohen's kappa of every two systems on all utterances of {contents.told.split}, whether "
        "right or wrong; heads that agree less have more to give one another."
    )
    drawn = figures.agreement_figure(contents.agreement)
    made = [tables.agreement_table(contents.agreement)]
    return Section("agreement", title, text, figures=[drawn], tables=made, folded=True)


def _hardest(contents: Contents) -> Section:
    title, hardest = "Hardest utterances", contents.hardest
    if contents.told is None or hardest is None:
        return Section("hardest", title, NO_CLASSES)
    text = (
        f"The {min(HARDEST, hardest.height)} utterances of {contents.told.split} whose true class "
        f"{_name(contents.told)} finds least probable."
    )
    if hardest["transcript"].null_count() == hardest.height:
        text += " No transcript is known of them."
    if hardest["audio"].null_count() == hardest.height:
        text += " Their audio files are not on this machine."
    else:
        text += " The players need the audio where it was when the report was written."
    made = tables.hardest_table(hardest)
    return Section("hardest", title, text, tables=[made], clips=hardest.to_dicts())


def _attributes(contents: Contents) -> Section:
    title, at = "Attributes", contents.rated
    if at is None:
        text = "Left out: no head predicts arousal, valence or dominance of rated utterances."
        return Section("attributes", title, text)
    attributes = contents.metrics[at.split][at.system]["attributes"]
    rated = {name: n for name, n in attributes.items() if n["n"] and name != "mean"}
    text = "The concordance correlation coefficient (CCC, Lin 1989) with 95 % intervals."
    drawn = figures.bins_figure(rated, _of(contents, at))
    made = [tables.attributes_table(contents, at.split)]
    return Section("attributes", title, text, figures=[drawn], tables=made)


def _optimism(contents: Contents) -> Section:
    title, made = "Optimism", tables.optimism_table(contents)
    if made is None:
        text = "Left out: no head has logits of labelled utterances of train."
        return Section("optimism", title, text)
    text = (
        "How much more a head promises on utterances that it was trained on than it keeps on test; "
        "out of fold, each is scored by a training that did not hear its speaker."
    )
    return Section("optimism", title, text, tables=[made])


def _made_with(contents: Contents) -> Section:
    text = "The resolved pipeline is pipeline.yaml in the run folder."
    if not any(head.about for head in contents.heads.values()):
        text += " The folder has no head.json, so how the heads were trained is not known."
    made = [
        origins.heads_table(contents),
        origins.features_table(contents),
        origins.made_table(contents),
    ]
    return Section("made-with", "What was run", text, tables=made)


def _of(contents: Contents, at: Shown | None = None) -> str:
    """Name the system that is shown and its split."""
    at = at or contents.told
    assert at is not None
    return f"{_name(at)} on {at.split}"


def _name(at: Shown) -> str:
    return "the stack" if at.system == STACK else f"the head {at.system}"
