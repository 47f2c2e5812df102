"""The page's description of its model: what it is, its training data, how often it errs.

The scores of a run are read from its report/metrics.json, those of a bundle from its card.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import polars as pl

from ser.corpus.classes import read_with_classes
from ser.corpus.errors import UserError, plural
from ser.corpus.manifest import corpus_name
from ser.score.record import scores_are_current
from ser.score.run import SCORED, STACK
from ser.score.scores import ClassScores, read_metrics
from ser.score.speakers import shown_interval

if TYPE_CHECKING:
    from ser.predict.audio_predictor import AudioPredictor
    from ser.predict.evaluation import Evaluation
    from ser.predict.predictor import Predictor

CARD = "card.md"  # of a bundle
LIMITS = (
    "It predicts which emotion a listener would most likely name, not what a person feels. Not for "
    "decisions about people."
)
UNSCORED = "Unknown: the model has not been scored (run `ser score`)."
# of the card's scores: system, n, and percents that may have an interval behind them
SHARE = r"\s*(100(?:\.0{1,3})?|[0-9]{1,2}(?:\.[0-9]{1,3})?)(?:\s[^|]*)?"
ROW = re.compile(rf"\|[^|]*\|\s*([1-9][0-9]{{0,8}})\s*\|{SHARE}\|{SHARE}\|{SHARE}\|.*")


def describe(predictor: "AudioPredictor") -> dict[str, str]:
    """Return sentences about a model by their titles: Model, Training data, Errors."""
    run = _of_run(predictor)
    if run is None:
        outputs = ", ".join(predictor.classes or predictor.attributes)
        model = f"{outputs}, predicted by the published model {predictor.source}."
        unknown = "Unknown: it was not trained or scored with ser; see its own page."
        return {"Model": model, "Training data": unknown, "Errors": unknown}
    return {"Model": _model(run), "Training data": _training(run), "Errors": _errors(run)}


def read_card(predictor: "AudioPredictor") -> str | None:
    """Return the model card of a bundle, None for the folder of a run and a published model."""
    run = _of_run(predictor)
    path = None if run is None else run.run / CARD
    return path.read_text(encoding="utf-8", errors="replace") if path and path.is_file() else None


def _of_run(predictor: "AudioPredictor") -> "Predictor | None":
    from ser.predict.published import PublishedPredictor

    return None if isinstance(predictor, PublishedPredictor) else cast("Predictor", predictor)


def _model(predictor: "Predictor") -> str:
    classes, attributes = predictor.classes, predictor.attributes
    outputs = [f"{plural(len(classes), 'emotion')} ({', '.join(classes)})"] if classes else []
    outputs += [", ".join(attributes)] if attributes else []
    heads = plural(len(predictor.heads), "head")
    system = f"the head {predictor.heads[0]}"
    if predictor.stack is not None:
        system = f"{predictor.stack.config.model.replace('_', ' ')} over {heads}"
    reads = ", ".join(predictor.features.names)
    return f"{' and '.join(outputs)}, predicted by {system} from {reads}."


def _training(predictor: "Predictor") -> str:
    corpus = predictor.pipeline.corpus
    name = corpus_name(corpus.manifest)
    if predictor.evaluation is not None:
        corpora = ", ".join(corpus.name for corpus in predictor.evaluation.corpora)
        return f"{corpora}; see the model card."
    if read_card(predictor) is not None:
        return f"{name}; see the model card."
    try:
        frame = read_with_classes(corpus).frame
    except UserError:  # not on this machine, or no longer valid
        return f"{name}."
    frame = frame.filter(pl.col("split") == "train")
    speakers = frame.filter(pl.col("speaker") != "")["speaker"].n_unique()
    of = f" of {plural(speakers, 'speaker')}" if speakers else ""
    return f"{name}, {plural(frame.height, 'training utterance')}{of}."


def _errors(predictor: "Predictor") -> str:
    name = STACK if predictor.stack is not None else predictor.heads[0]
    if predictor.evaluation is not None and predictor.stack is not None:
        return _errors_elsewhere(predictor.evaluation)
    if (card := read_card(predictor)) is not None:
        return _errors_of_card(card, name)
    try:
        return _errors_of_run(predictor.run, name)
    except (UserError, pl.exceptions.PolarsError, OSError):
        return "Unknown: the scores are not readable (run `ser score` again)."


def _errors_elsewhere(evaluation: "Evaluation") -> str:
    unseen = evaluation.unseen
    return (
        f"On corpora that it has not seen, {percent(1 - unseen.accuracy)} of {unseen.utterances} "
        f"utterances are misclassified, {percent(unseen.confidently_wrong)} with a confidence of "
        f"{evaluation.min_confidence:g} or more; see the model card."
    )


def _errors_of_run(run: Path, name: str) -> str:
    """Describe a system's scores of the last split that it has been scored on.

    Raises `UserError`, `PolarsError` or `OSError` for damaged files.
    """
    path = run / "report" / "metrics.json"
    metrics = read_metrics(path) if path.is_file() else {}
    split = next((split for split in reversed(SCORED) if name in metrics.get(split, {})), None)
    if split is None or (name == STACK and not scores_are_current(run)):
        return UNSCORED
    scores, sentences = metrics[split][name], []
    if scores.classes is not None:
        sentences.append(_class_errors(scores.classes, scores.speakers, split))
    if (mean := scores.mean) is not None:
        score = _score(mean.ccc, shown_interval(mean.interval, scores.speakers))
        sentences.append(f"Attributes have a mean CCC of {score} on {split}.")
    return " ".join(sentences) or UNSCORED


def _class_errors(classes: ClassScores, speakers: int | None, split: str) -> str:
    of_speakers = "" if speakers is None else f" of {plural(speakers, 'speaker')}"
    rows = enumerate(zip(classes.per_class, classes.confusion, strict=True))
    recall = {name: counts[i] / sum(counts) for i, (name, counts) in rows if sum(counts)}
    best, worst = max(recall, key=lambda c: recall[c]), min(recall, key=lambda c: recall[c])
    f1, accuracy = classes.scores["macro_f1"], classes.scores["accuracy"].value
    score = _score(f1.value, shown_interval(f1.interval, speakers))
    return (
        f"{percent(1 - accuracy)} of {classes.n} {split} utterances{of_speakers} are "
        f"misclassified (macro-F1 {score}). Recall is highest for {best} "
        f"({percent(recall[best])}) and lowest for {worst} ({percent(recall[worst])})."
    )


def _errors_of_card(card: str, name: str) -> str:
    """Read the last row of a system's scores: | system | n | macro-F1 | UAR | accuracy |, in %."""
    lines = [line for line in card.split("\n") if line.startswith(f"| {name} | ")]
    rows = [line for line in lines if line.count("|") == 6]
    match = ROW.fullmatch(rows[-1]) if rows else None
    if match is None:
        return "See the model card."
    n, f1, _, accuracy = match.groups()
    wrong = f"{100 - float(accuracy):.0f} % of {n} utterances are misclassified"
    return f"{wrong} (macro-F1 {f1} %); see the model card."


def percent(share: float) -> str:
    """Return a share as whole percent."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _score(value: float, interval: Sequence[float] | None) -> str:
    between = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"{value:.3f}{between}"
