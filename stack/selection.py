"""`model: auto`: the stack's model is chosen by out-of-fold macro-F1 on train.

Candidates: the mean of the logits, the best single head, three weighted means, a logistic
regression and a random forest. Each is fitted on four fifths of the speakers and predicts the last
fifth, so that every labelled row of train gets one prediction of a model that was fitted without
its speaker, on logits of heads that were trained without its speaker.

`PREFERRED` is taken, unless another candidate is better by more than `MARGIN` standard errors of
the difference (paired, over resampled speakers). Its weights include every single head and the
mean of the logits, so it rarely loses to them; and on a few hundred rows, choosing whatever scored
highest loses more than it gains (docs/stack.md, "Which model").

Without out-of-fold logits there is no evidence, and the mean of the logits is taken.
"""

import logging
from collections.abc import Mapping

import numpy as np

from ser.corpus.errors import UserError
from ser.corpus.folds import speaker_folds
from ser.stack.config import StackConfig, WeightedConfig
from ser.stack.fitting import labelled_rows, make_classifier
from ser.stack.folds import FoldedClassifier, MissingClassError
from ser.stack.record import Candidate
from ser.stack.rules import Rule
from ser.stack.scorer import Scorer
from ser.stack.table import TRAIN, LogitTable

log = logging.getLogger("ser.stack")

RULES = ("mean_logits", "best_head", "weighted", "greedy", "log_pool")
CANDIDATES = (*RULES, "logistic", "random_forest")
PREFERRED = "log_pool"
MARGIN = 1.5  # standard errors
RESAMPLES = 200


def select(table: LogitTable, config: StackConfig) -> tuple[StackConfig, list[Candidate]]:
    """Return the configuration with the chosen model in place of `auto`, and all candidates.

    The candidates are empty where there is nothing to choose by.
    """
    fallback = config.model_copy(update={"model": CANDIDATES[0]})
    if len(table.classifiers) < 2 or table.protocol(config.protocol) != "oof":
        return fallback, []
    try:
        rows, y = labelled_rows(table, TRAIN, fallback)
        speakers = table.splits[TRAIN].speakers_of(rows)
        folds = min(config.folds, len({s or i for i, s in enumerate(speakers)}))
        fold = speaker_folds(y, speakers, folds, config.seed)
    except UserError as error:
        log.debug("%s: %s is taken: %s", table.folder, fallback.model, error)
        return fallback, []
    X = table.splits[TRAIN].logits[rows]
    changes = {"folds": folds, "weighted": WeightedConfig()}
    variants = [config.model_copy(update=changes | {"model": model}) for model in CANDIDATES]
    rarest = np.bincount(y).min()
    predictions = {
        variant.model: predicted
        for variant in variants
        if not (variant.folded and rarest < folds)
        and (predicted := _held_out(make_classifier(variant, table), X, y, fold)) is not None
    }
    scorer = Scorer(y, speakers, len(table.classes), RESAMPLES, config.seed)
    candidates = _score(predictions, scorer)
    chosen = next(candidate.model for candidate in candidates if candidate.chosen)
    return next(variant for variant in variants if variant.model == chosen), candidates


def _held_out(
    classifier: FoldedClassifier | Rule, X: np.ndarray, y: np.ndarray, fold: np.ndarray
) -> np.ndarray | None:
    """Predict every row by a model fitted without its fold: class indices `(rows,)`.

    None where a fold leaves a class without rows to fit on.
    """
    if isinstance(classifier, FoldedClassifier):
        try:
            classifier.fit(X, y, fold)
        except MissingClassError:
            return None
        predicted: np.ndarray = classifier.held_out_proba(X, fold).argmax(axis=1)
        return predicted
    chosen = np.empty(len(y), np.int64)
    for k in range(fold.max() + 1):
        held_out = fold == k
        classifier.fit(X[~held_out], y[~held_out])
        chosen[held_out] = classifier.predict_proba(X[held_out]).argmax(axis=1)
    return chosen


def _score(predictions: Mapping[str, np.ndarray], scorer: Scorer) -> list[Candidate]:
    """Score the candidates and mark the chosen one."""
    scores = {model: scorer.macro_f1(chosen) for model, chosen in predictions.items()}
    drawn = {model: scorer.drawn(chosen) for model, chosen in predictions.items()}
    errors = {m: float(np.std(drawn[m] - drawn[PREFERRED])) for m in scores}
    better = [m for m in scores if scores[m] - scores[PREFERRED] > MARGIN * errors[m]]
    chosen = max(better, key=lambda model: scores[model], default=PREFERRED)
    return [
        Candidate(model=m, macro_f1=scores[m], error=errors[m], chosen=m == chosen) for m in scores
    ]
