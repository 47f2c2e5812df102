"""The sections of a report in their order, the same for the page and for report.md.

A run only has the sections that it has numbers for.
"""

from collections.abc import Callable, Sequence

import polars as pl

from ser.corpus.errors import plural
from ser.corpus.synthetic import scores_note
from ser.score.record import HeadSummary
from ser.score.report import curves, figures, origins, tables
from ser.score.report.agreement import agreement_section
from ser.score.report.confidence import abstention_section, calibration_section
from ser.score.report.contents import HARDEST, Contents, Shown
from ser.score.report.exploration_sections import data_section, layers_section, map_section
from ser.score.report.formats import Table
from ser.score.report.protocols import cross_section, rotations_section
from ser.score.report.section import Section, drawn, with_figure
from ser.score.report.votes import votes_section
from ser.score.run import STACK
from ser.score.scores import MEAN, Score
from ser.score.speakers import LEAST, not_available, speakers_note, too_few

METRICS = {"macro_f1": "Macro-F1", "uar": "UAR", "accuracy": "Accuracy"}


def sections(contents: Contents) -> list[Section]:
    """Return the sections that a run has, in the order of the report: results first."""
    makers: tuple[Callable[[Contents], Section | None], ...] = (
        _result,
        _systems,
        _classes,
        _attributes,
        calibration_section,
        abstention_section,
        votes_section,
        _groups,
        rotations_section,
        cross_section,
        _top,
        agreement_section,
        _hardest,
        _curves,
        _generalization,
        data_section,
        map_section,
        layers_section,
        _setup,
    )
    return [section for make in makers if (section := make(contents)) is not None]


def _result(contents: Contents) -> Section:
    name, title = "result", "Result"
    about = (("Corpus", contents.corpus), ("Date", contents.day), ("Command", contents.command))
    details = [(label, value) for label, value in about if value is not None]
    speakers = contents.scores.speakers
    if contents.classifier is not None:
        shown = contents.classifier
        scores = contents.classes.scores
        facts = [_fact(METRICS[m], scores[m], speakers) for m in METRICS]
        n, what, score = contents.classes.n, "a macro-F1", scores["macro_f1"]
    elif contents.regressor is not None and (mean := contents.scores.mean) is not None:
        shown = contents.regressor
        n, what, score = mean.n, "a mean CCC", Score(value=mean.ccc, interval=mean.interval)
        facts = [_fact("Mean CCC", score, speakers)]
    else:
        text = "No utterance of dev or test has an emotion or a rating, so there are no scores."
        return Section(name, title, text, details=details)
    facts.append(("Utterances", str(n), ""))
    if speakers is not None:
        facts.append(("Speakers", str(speakers), ""))
    between = "" if score.interval is None else f" {_interval(score.interval)}"
    text = _sentence(contents, shown, f"{what} of {score.value:.3f}{between}", n)
    notes = (
        scores_note(contents.synthetic),
        speakers_note(speakers, shown.split),
        _better_head(contents),
    )
    return Section(name, title, text, details=details, facts=facts, notes=[n for n in notes if n])


def _sentence(contents: Contents, shown: Shown, score: str, n: int) -> str:
    speakers = contents.scores.speakers
    of_speakers = "" if speakers is None else f" of {plural(speakers, 'speaker')}"
    utterances = plural(n, f"{shown.split} utterance") + of_speakers
    name = shown.title
    if shown.system == STACK and (stack := contents.stack) is not None:
        model = stack.config.model.replace("_", " ")
        name += f" ({model} over {plural(len(stack.heads), 'head')})"
    return f"{name[0].upper()}{name[1:]} reaches {score} on {utterances}."


def _better_head(contents: Contents) -> str | None:
    """Return a note on a single head that does better on dev than the stack that is shown."""
    systems = contents.metrics.get("dev", {})
    dev = {name: f1 for name, s in systems.items() if (f1 := s.score("macro_f1")) is not None}
    highest = max(dev, key=lambda name: dev[name], default=STACK)
    if STACK not in dev or dev[highest] <= dev[STACK]:
        return None
    return (
        f"On dev, the head {highest} alone scores higher than the stack ({dev[highest]:.3f} "
        f"against {dev[STACK]:.3f})."
    )


def _fact(label: str, score: Score, speakers: int | None) -> tuple[str, str, str]:
    missing = not_available(speakers) if too_few(speakers) else ""
    interval = missing if score.interval is None else _interval(score.interval)
    return label, f"{score.value:.3f}", interval


def _interval(interval: Sequence[float]) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def _systems(contents: Contents) -> Section | None:
    if contents.classifier is None:
        return None
    text = (
        "The columns of the first table are those of Table 2 of the UNICAMP system (Interspeech "
        "2025). Its range is the lowest and the highest score over class-balanced subsets of dev, "
        "not an interval. The second table has 95 % intervals of a bootstrap over speakers."
    )
    split = contents.classifier.split
    section_tables = [tables.paper_table(contents), tables.intervals_table(contents, split)]
    return Section("systems", "Systems", text, tables=section_tables)


def _classes(contents: Contents) -> Section | None:
    if contents.classifier is None:
        return None
    scores, subject = contents.classes, contents.classifier.subject
    text = f"Predictions of {subject} by true class. Macro-F1 is the mean of F1 over the classes."
    if absent := scores.absent:
        text += f" {contents.classifier.split.capitalize()} has no utterance of "
        text += f"{', '.join(absent)}; means leave such classes out."
    matrix = figures.confusion_figure(scores.confusion, list(scores.per_class), subject)
    per_class = figures.per_class_figure(scores, subject)
    return Section(
        "classes",
        "Classes",
        text,
        figures=drawn(matrix, per_class),
        tables=[tables.per_class_table(contents), tables.confusion_table(contents)],
        folded=per_class is not None,
    )


def _attributes(contents: Contents) -> Section | None:
    shown = contents.regressor
    if shown is None:
        return None
    attributes = contents.metrics[shown.split][shown.system].attributes
    rated = {name: scores for name, scores in attributes.items() if scores.n and name != MEAN}
    text = "The concordance correlation coefficient (CCC, Lin 1989) with 95 % intervals."
    figure = figures.bins_figure(rated, shown.subject)
    table = tables.attributes_table(contents, shown.split)
    return Section("attributes", "Attributes", text, figures=[figure], tables=[table])


def _groups(contents: Contents) -> Section | None:
    shown = contents.classifier or contents.regressor
    groups = contents.scores.groups
    if shown is None or not groups:
        return None
    text = (
        "The gap is the score of the highest group less that of the lowest. Groups with different "
        f"classes are hard to compare; a group of fewer than {LEAST} speakers has no interval."
    )
    figure = figures.groups_figure(groups, shown.subject)
    section_tables = [tables.group_table(column, scored) for column, scored in groups.items()]
    return Section("groups", "Groups", text, figures=drawn(figure), tables=section_tables)


def _top(contents: Contents) -> Section | None:
    top = contents.top
    if contents.classifier is None or top is None or not top.height or top["k"].n_unique() < 2:
        return None
    text = (
        "Macro-F1 of combinations with each further head, as in Figure 4 of the overview of the "
        "Interspeech 2025 challenge. Heads are chosen on dev, so the dev lines are optimistically "
        "biased."
    )
    figure, table = curves.top_figure(top), tables.top_table(top)
    return with_figure("top-k", "The best k heads", text, figure, table)


def _hardest(contents: Contents) -> Section | None:
    shown, hardest = contents.classifier, contents.hardest
    if shown is None or hardest is None:
        return None
    text = (
        f"The {plural(min(HARDEST, hardest.height), 'utterance')} of {shown.split} to whose true "
        f"class {shown.title} gives the lowest probability."
    )
    if hardest["transcript"].null_count() == hardest.height:
        text += " They have no transcripts."
    if hardest["audio"].null_count() == hardest.height:
        text += " Their audio files are not on this machine."
    else:
        text += " The players work as long as the audio files stay where they are."
    headings = {"utterance": "Utterance", "emotion": "True", "prediction": "Predicted"}
    headings |= {"probability": "p(true)", "speaker": "Speaker", "transcript": "Transcript"}
    frame = hardest.select(headings.keys()).rename(headings)
    caption = "The utterances whose true class has the lowest probability."
    table = Table("hardest", caption, frame, wraps="Transcript")
    return Section("hardest", "Hardest utterances", text, tables=[table], clips=hardest.to_dicts())


def _curves(contents: Contents) -> Section | None:
    histories = {
        name: head.history
        for name, head in contents.heads.items()
        if head.history is not None and head.history.height
    }
    if not histories:
        return None
    chosen_by = {
        name: _chosen_by(contents.heads[name].summary, history)
        for name, history in histories.items()
    }
    text = "A dev score that falls while the training loss still falls is a sign of over-fitting."
    figure = curves.curves_figure(histories, chosen_by)
    return None if figure is None else Section("curves", "Learning curves", text, figures=[figure])


def _chosen_by(summary: HeadSummary, history: pl.DataFrame) -> str:
    """Name the dev score that a head's best epoch is chosen by, or the one that there is."""
    best_by = summary.config.best_by
    wanted = [best_by] if best_by not in (None, "loss") else []
    recorded = (by for by in (*wanted, "macro_f1", "ccc") if f"dev_{by}" in history.columns)
    return next(recorded, "macro_f1")


def _generalization(contents: Contents) -> Section | None:
    table = tables.generalization_table(contents)
    if table is None:
        return None
    text = (
        "How much higher a head scores on utterances that it was trained on than on test. Out of "
        "fold, an utterance is scored by a head that was trained without its speaker."
    )
    return Section("generalization", "Generalization gap", text, tables=[table])


def _setup(contents: Contents) -> Section:
    text = "The resolved pipeline is pipeline.yaml in the run folder."
    if all(head.summary == HeadSummary() for head in contents.heads.values()):
        text += " The folder has no head.json, so how the heads were trained is not known."
    makers = (origins.heads_table, origins.features_table, origins.setup_table)
    return Section("setup", "Setup", text, tables=[make(contents) for make in makers])
