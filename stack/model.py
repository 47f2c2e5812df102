"""The stack: a meta-model over the heads' logits, its temperature, and a model of attributes.

0. With `auto`, choose the model by held-out scores (`ser.stack.selection`).
1. Take the labelled rows of train, with the logits that the protocol prescribes
   (`ser.stack.table`).
2. Fit the model. Under `oof` its folds are speaker-disjoint; under `unicamp` they are stratified
   rows, as published. `top_k` and `weighted: {by: macro_f1}` are selected on dev instead; nothing
   uses test.
3. With `offsets`, fit one offset per class on the log-probabilities of held-out rows.
4. With `calibrate`, fit one temperature on the members' predictions for rows held out of them.
5. Where heads predict attributes, fit a regression on them, or average them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ser.corpus.errors import UserError
from ser.corpus.folds import speaker_folds
from ser.score.heads import softmax
from ser.score.predictions import Predictions
from ser.stack.attributes import MeanAttributes, RidgeAttributes
from ser.stack.config import AUTO, ProtocolName, StackConfig
from ser.stack.fitting import labelled_rows, make_classifier
from ser.stack.folds import FoldedClassifier, MissingClassError, balanced_rows
from ser.stack.offsets import TINY, fit_offsets, with_offsets
from ser.stack.record import Candidate, StackRecord
from ser.stack.rules import Rule
from ser.stack.table import TRAIN, LogitTable, Rows


@dataclass
class FittedStack:
    """A fitted stack: one model for the emotion class, one for the attributes.

    Attributes:
        config: the stack's configuration.
        protocol: which logits of train it was fitted on.
        classifier: the scikit-learn estimator of the class; None where no head predicts classes.
        regressor: the estimator of the attributes; None where no head predicts any.
        offsets: what is added to each class's log probability, `(classes,)`; None for nothing.
        temperature: what the log probabilities are then divided by.
        candidates: those of `model: auto`, whose place in `config` the chosen model takes.
        used: class indices of the rows that the classifier was fitted on.
        held_out: class indices and held-out probabilities of training rows; None unless requested,
            and for models that do not learn from train.
    """

    config: StackConfig
    protocol: ProtocolName
    classifier: FoldedClassifier | Rule | None = None
    regressor: RidgeAttributes | MeanAttributes | None = None
    offsets: np.ndarray | None = None
    temperature: float = 1.0
    candidates: list[Candidate] = field(default_factory=list)
    used: np.ndarray | None = None
    held_out: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def fit(
        cls, table: LogitTable, config: StackConfig, *, hold_out: bool = False
    ) -> "FittedStack":
        """Fit a stack on a table; with `hold_out`, also keep the held-out probabilities.

        Raises `UserError` when the protocol's logits are missing, and when the split that the model
        is fitted on has no labelled rows, lacks a class, or is too small for the folds.
        """
        protocol, candidates = table.protocol(config.protocol), list[Candidate]()
        if config.model == AUTO:
            from ser.stack.selection import select

            config, candidates = select(table, config)
        stack = cls(config, protocol, candidates=candidates)
        if table.classifiers:
            stack._fit_classifier(table, hold_out)
        if table.columns:
            stack.regressor = fit_regressor(config, table)
        return stack

    def predict(self, rows: Rows) -> Predictions:
        """Predict every row of a split; train with the protocol's logits."""
        attributes = None if self.regressor is None else self.regressor.predict(rows.predicted)
        if self.classifier is None:
            return Predictions(None, None, attributes)
        chosen, probability = self.classify(self.inputs(rows))
        return Predictions(chosen, probability, attributes)

    def inputs(self, rows: Rows) -> np.ndarray:
        """Return the classifier's inputs: logits, for the soup also the predicted attributes."""
        logits = rows.logits if self.protocol == "oof" else rows.in_sample
        if not self.config.reads_attributes:
            return logits
        return np.concatenate([logits, rows.predicted], axis=1)

    def classify(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return class indices `(rows,)` and probabilities `(rows, classes)`."""
        if self.classifier is None:
            raise ValueError("no head of the stack predicts classes")
        probability = self.classifier.predict_proba(X)
        if self.offsets is not None:
            probability = with_offsets(probability, self.offsets)
        # Only votes can tie in a way that their probabilities (vote shares) cannot break.
        chosen = self.classifier.predict(X) if self.config.votes else probability.argmax(axis=1)
        if self.temperature != 1:
            probability = softmax(np.log(probability.clip(TINY)) / self.temperature)
        return chosen, probability

    def save(self, folder: Path) -> None:
        """Write the files of both models."""
        for model in (self.classifier, self.regressor):
            if model is not None:
                model.save(folder)

    @classmethod
    def load(
        cls, folder: Path, record: StackRecord, config: StackConfig, table: LogitTable
    ) -> "FittedStack":
        """Read what `save` wrote; `table` has the heads that the stack was fitted on."""
        offsets = np.array(record.offsets) if record.offsets else None
        stack = cls(config, record.protocol, offsets=offsets, temperature=record.temperature)
        classes, columns = len(table.classes), len(table.columns)
        if table.classifiers:
            dim = classes * len(table.classifiers) + columns * config.reads_attributes
            stack.classifier = make_classifier(config, table).load(folder, classes, dim)
        if table.columns:
            stack.regressor = _make_regressor(config, table).load(
                folder, len(table.attributes), columns
            )
        return stack

    def _fit_classifier(self, table: LogitTable, hold_out: bool) -> None:
        config = self.config
        self.classifier = classifier = make_classifier(config, table)
        self.used = np.zeros(0, np.int64)
        if isinstance(classifier, FoldedClassifier):
            X, y, speakers = self._labelled(table, TRAIN)
            try:
                classifier.fit(X, y, self._folds(y, speakers) if self.protocol == "oof" else None)
            except MissingClassError as error:
                raise UserError(
                    f"{table.folder}: without the speakers of one fold, no row of the class "
                    f"'{table.classes[error.label]}' is left for training; lower stack.folds, set "
                    "stack.balance: false, or set stack.protocol: unicamp."
                ) from error
            self.used = y[classifier.rows_]
            if hold_out or config.calibrate:
                self.held_out = self.used, classifier.held_out_proba(X)
        elif config.learns_from is None:
            classifier.fit()
        else:
            X, self.used, _ = self._labelled(table, config.learns_from)
            classifier.fit(X, self.used)
        if config.offsets:
            self._fit_offsets(classifier, table)
        if config.calibrate:
            self.temperature = self._calibrated(table)

    def _labelled(self, table: LogitTable, split: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return the inputs, the class indices and the speakers of a split's labelled rows."""
        at, y = labelled_rows(table, split, self.config)
        rows = table.splits[split]
        return self.inputs(rows)[at], y, rows.speakers_of(at)

    def _folds(self, y: np.ndarray, speakers: Sequence[str]) -> np.ndarray:
        return speaker_folds(y, speakers, self.config.folds, self.config.seed)

    def _fit_offsets(self, classifier: FoldedClassifier | Rule, table: LogitTable) -> None:
        if self.protocol != "oof":
            raise UserError(
                f"{table.folder}: stack.offsets needs out-of-fold logits of train; train every "
                "head with cross_fit: 5 and keep stack.protocol oof, or remove stack.offsets."
            )
        X, y, speakers = self._labelled(table, TRAIN)
        # A rule has few parameters or none, so its own rows are as good as held out.
        probability = (
            classifier.held_out_proba(X, self._folds(y, speakers))
            if isinstance(classifier, FoldedClassifier)
            else classifier.predict_proba(X)
        )
        self.offsets = fit_offsets(probability, y, speakers, self.config.folds, self.config.seed)
        if self.held_out is not None:
            y, probability = self.held_out
            self.held_out = y, with_offsets(probability, self.offsets)

    def _calibrated(self, table: LogitTable) -> float:
        from ser.score.calibration import fit_temperature

        if self.held_out is None:  # a rule is fitted on few rows of train, or on none
            X, y, _ = self._labelled(table, TRAIN)
            if self.config.balance:
                balanced = balanced_rows(y, self.config.seed)
                X, y = X[balanced], y[balanced]
            self.held_out = y, self.classify(X)[1]
        y, probability = self.held_out
        return fit_temperature(np.log(probability.clip(TINY)), y)


def fit_regressor(config: StackConfig, table: LogitTable) -> RidgeAttributes | MeanAttributes:
    """Fit the model of the attributes; raises `UserError` where no row of train has one of them."""
    regressor = _make_regressor(config, table)
    if isinstance(regressor, MeanAttributes):
        return regressor.fit()
    rows = table.splits.get(TRAIN)
    truth = np.full((1, len(table.attributes)), np.nan) if rows is None else rows.truth
    unknown = np.flatnonzero(np.isnan(truth).all(axis=0))
    if rows is None or len(unknown):
        raise UserError(
            f"{table.folder}: the ridge regression needs {table.attributes[unknown[0]]} of "
            "training rows, and none has it; set stack.attributes: mean."
        )
    return regressor.fit(rows.predicted, truth)


def _make_regressor(config: StackConfig, table: LogitTable) -> RidgeAttributes | MeanAttributes:
    if config.attributes == "ridge":
        return RidgeAttributes(config.ridge.alpha)
    names = [name for _, name in table.columns]
    return MeanAttributes([[i for i, n in enumerate(names) if n == a] for a in table.attributes])
