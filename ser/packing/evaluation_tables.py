"""The part of a model card about what the model has not seen: scores, calibration, abstention."""

from collections.abc import Sequence
from operator import attrgetter

from ser.packing.markdown import percent, table
from ser.predict.evaluation import ALL, Evaluation, Score

HEAD = ("group", "clips", "speakers", "accuracy", "macro-F1", "calibration error")
CONFIDENT = ("predicted with confidence", "right among those", "confidently wrong")


def evaluation_sections(evaluation: Evaluation) -> list[str]:
    """Return the paragraphs and tables of an evaluation, each under its title."""
    unseen, threshold = evaluation.unseen, evaluation.min_confidence
    right = percent(unseen.confident_accuracy)
    return [
        "## On corpora it has not seen",
        "What to expect of other speech. Each corpus was predicted by the same system, trained on "
        "the other corpora only (`ser cross`). In %, accuracy with 95 % intervals over speakers.",
        _scores(evaluation.unseen_corpora),
        "## On other speakers of its own corpora",
        "The best case: the same recordings and sentences, but speakers that were left out of "
        "training.",
        _scores(evaluation.unseen_speakers),
        "## Confidence and abstention",
        f"Probabilities were calibrated on the predictions for unseen corpora (temperature "
        f"{evaluation.temperature:.2f}), so on its own corpora the model is under-confident.",
        f"**Below a confidence of {threshold:g} a prediction is `unsure`**, unless "
        "`--min-confidence` gives another threshold (0: none is). It is the lowest one with which "
        f"at least {100 * (1 - evaluation.risk):g} % of the confident predictions for unseen "
        f"corpora are right: {right} % of {percent(unseen.coverage)} % of the clips. Threshold and "
        "temperature were chosen on these clips, so these numbers are slightly optimistic, and no "
        "other corpus is guaranteed to keep to them.",
        "## Who it fails for",
        _failures(evaluation),
    ]


def _scores(scores: Sequence[Score]) -> str:
    rows = [
        [
            ALL if score.column == ALL else f"{score.column}: {score.group}",
            str(score.utterances),
            "unknown" if score.speakers is None else str(score.speakers),
            percent(score.accuracy, score.interval),
            *("" if value is None else percent(value) for value in (score.macro_f1, score.ece)),
            percent(score.coverage),
            "-" if score.confident_accuracy is None else percent(score.confident_accuracy),
            percent(score.confidently_wrong),
        ]
        for score in scores
    ]
    return table([*HEAD, *CONFIDENT], rows)


def _failures(evaluation: Evaluation) -> str:
    """Name the worst group of each column on unseen corpora, and the most confident errors."""
    lines = []
    for column in dict.fromkeys(s.column for s in evaluation.unseen_corpora if s.column != ALL):
        groups = [score for score in evaluation.unseen_corpora if score.column == column]
        if len(groups) < 2:
            continue
        worst, best = (pick(groups, key=attrgetter("accuracy")) for pick in (min, max))
        wrong = max(groups, key=attrgetter("confidently_wrong"))
        lines.append(
            f"- By {column}, accuracy is lowest for {worst.group} ({percent(worst.accuracy)} %) "
            f"and highest for {best.group} ({percent(best.accuracy)} %); confident errors are most "
            f"frequent for {wrong.group} ({percent(wrong.confidently_wrong)} %)."
        )
    lines.append(
        "- All of this is acted speech. Spontaneous speech, children, noise, other languages and "
        "emotions outside the classes were not tested; expect less there."
    )
    return "\n".join(lines)
