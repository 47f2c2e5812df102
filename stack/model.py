"""One stack: what is learned from, the model over it, its temperature, and the attributes' model.

1. Take the logits of train that the protocol says (`stack.table`), of the rows with a label.
2. Fit the model. Under `oof` its folds are speaker-disjoint, under `unicamp` stratified rows, as
   published. `top_k` and `weighted: {by: macro_f1}` choose by dev instead; nothing looks at test.
3. With `calibrate`, fit one temperature on what the members say of rows held out of them.
4. Where heads predict attributes, fit or average those.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from corpus.errors import UserError
from corpus.folds import speaker_folds
from score.heads import softmax
from stack.config import LEARNED, ProtocolName, StackConfig
from stack.table import TRAIN, LogitTable, Rows

TELLERS = {  # scikit-learn's and LightGBM's import costs a second, so only the one needed is paid
    "random_forest": ("stack.forest", "ForestStacker"),
    "extra_trees": ("stack.forest", "ExtraTreesStacker"),
    "lightgbm": ("stack.boosting", "LightGBMStacker"),
    "logistic": ("stack.linear", "LogisticStacker"),
    "meta_soup": ("stack.linear", "MetaSoup"),
    "mean_logits": ("stack.rules", "MeanLogits"),
    "mean_proba": ("stack.rules", "MeanProba"),
    "majority": ("stack.rules", "Majority"),
    "weighted": ("stack.rules", "Weighted"),
    "top_k": ("stack.rules", "TopK"),
}
TINY = float(np.finfo(np.float64).eps)  # what a probability of 0 counts as


@dataclass(frozen=True)
class Said:
    """Hold what a stack says of rows; None where no head tells classes, or attributes."""

    chosen: np.ndarray | None  # (rows,) class indices
    probability: np.ndarray | None  # (rows, classes) float64
    attributes: np.ndarray | None  # (rows, attributes) float64


@dataclass
class Stack:
    """Hold a fitted stack: `teller` tells the class, `rater` the attributes.

    `held_out` are class indices and probabilities of training rows by members that have not seen
    them; None unless asked for, and of models that do not learn from train.
    """

    config: StackConfig
    protocol: ProtocolName
    teller: Any = None
    rater: Any = None
    temperature: float = 1.0
    used: np.ndarray | None = None  # class indices of the rows that were learned from
    held_out: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def fit(cls, table: LogitTable, config: StackConfig, *, hold_out: bool = False) -> "Stack":
        """Fit on a table; `hold_out` keeps the held-out probabilities.

        Raises `UserError` when the logits of a protocol are lacking, and when the split that is
        learned from has no labelled row, lacks a class, or is too small for the folds.
        """
        stack = cls(config, table.protocol(config.protocol))
        if table.tellers:
            stack._fit_teller(table, hold_out)
        if table.columns:
            stack.fit_rater(table)
        return stack

    def ask(self, rows: Rows) -> Said:
        """Ask about every row of a split, of train with the protocol's logits."""
        attributes = None if self.rater is None else self.rater.predict(rows.predicted)
        if self.teller is None:
            return Said(None, None, attributes)
        chosen, probability = self.tell(self.inputs(rows))
        return Said(chosen, probability, attributes)

    def inputs(self, rows: Rows) -> np.ndarray:
        """Return the model's columns: logits, and for the soup the predicted attributes too."""
        logits = rows.under(self.protocol)
        if not getattr(self.teller, "extra", 0):
            return logits
        return np.concatenate([logits, rows.predicted], axis=1)

    def tell(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return class indices `(rows,)` and probabilities `(rows, classes)`."""
        probability = self.teller.predict_proba(X)
        # Only votes have ties that their probabilities (vote shares) cannot break.
        by_vote = self.config.model == "majority" or (
            self.config.model == "top_k" and self.config.top_k.by == "plurality"
        )
        chosen = self.teller.predict(X) if by_vote else probability.argmax(axis=1)
        if self.temperature != 1:
            probability = softmax(np.log(probability.clip(TINY)) / self.temperature)
        return chosen, probability

    def save(self, folder: Path) -> None:
        """Write the models' files."""
        for model in (self.teller, self.rater):
            if model is not None:
                model.save(folder)

    @classmethod
    def load(
        cls,
        folder: Path,
        config: StackConfig,
        protocol: ProtocolName,
        temperature: float,
        table: LogitTable,
    ) -> "Stack":
        """Read what `save` wrote, for a table of the heads that it was fitted on."""
        stack = cls(config, protocol, temperature=temperature)
        classes, columns = len(table.classes), len(table.columns)
        if table.tellers:
            teller = make_teller(config, table)
            extra = getattr(teller, "extra", 0)
            stack.teller = teller.load(folder, classes, classes * len(table.tellers) + extra)
        if table.columns:
            stack.rater = _make_rater(config, table).load(folder, len(table.attributes), columns)
        return stack

    def _fit_teller(self, table: LogitTable, hold_out: bool) -> None:
        config = self.config
        self.teller = make_teller(config, table)
        split = config.learns_from
        self.used = np.zeros(0, np.int64)
        if split is None:
            self.teller.fit()
        else:
            rows, y = labelled(table, split, config)
            X = self.inputs(table.splits[split])[rows]
            if config.model in LEARNED:
                self._fit_members(table, X, y, rows)
                self.used = y[self.teller.rows_]
                if hold_out or config.calibrate:
                    self.held_out = self.used, self.teller.held_out_proba(X)
            else:
                self.teller.fit(X, y)
                self.used = y
        if config.calibrate:
            self.temperature = self._calibrated(table)

    def _fit_members(
        self, table: LogitTable, X: np.ndarray, y: np.ndarray, rows: np.ndarray
    ) -> None:
        from stack.folds import MissingClassError

        config, fold = self.config, None
        if self.protocol == "oof":
            speakers = [table.splits[TRAIN].speaker[i] for i in rows]
            fold = speaker_folds(y, speakers, config.folds, config.seed)
        try:
            self.teller.fit(X, y, fold)
        except MissingClassError as error:
            raise UserError(
                f"{table.folder}: without the speakers of one fold no row of the class "
                f"'{table.classes[error.label]}' is left to learn from; lower stack.folds, set "
                "stack.balance: false, or set stack.protocol: unicamp."
            ) from error

    def _calibrated(self, table: LogitTable) -> float:
        from score.calibration import fit_temperature

        if self.held_out is None:  # a rule is fitted on no row of train, or nearly
            rows, y = labelled(table, TRAIN, self.config)
            if self.config.balance:
                from stack.folds import balanced_rows

                kept = balanced_rows(y, self.config.seed)
                rows, y = rows[kept], y[kept]
            self.held_out = y, self.tell(self.inputs(table.splits[TRAIN])[rows])[1]
        y, probability = self.held_out
        return fit_temperature(np.log(probability.clip(TINY)), y)

    def fit_rater(self, table: LogitTable) -> None:
        """Fit the attributes' model alone."""
        self.rater = _make_rater(self.config, table)
        if self.config.attributes == "mean":
            self.rater.fit()
            return
        rows = table.splits.get(TRAIN)
        truth = np.full((1, len(table.attributes)), np.nan) if rows is None else rows.truth
        unknown = np.flatnonzero(np.isnan(truth).all(axis=0))
        if rows is None or len(unknown):
            raise UserError(
                f"{table.folder}: no row of train has a known {table.attributes[unknown[0]]}, "
                "which the ridge regression is fitted on; set stack.attributes: mean."
            )
        self.rater.fit(rows.predicted, truth)


def make_teller(config: StackConfig, table: LogitTable) -> Any:
    """Return the configured classifier, not fitted; a scikit-learn estimator."""
    module, name = TELLERS[config.model]
    options = config.model_dump().get(config.model, {})
    if config.model in LEARNED:
        said = config.model_dump(include={"folds", "balance", "draws", "input", "seed"})
        options |= {key: value for key, value in said.items() if value is not None}
    else:
        options["classes"] = len(table.classes)
    if config.model == "meta_soup":
        options["extra"] = len(table.columns)
    return getattr(import_module(module), name)(**options)


def _make_rater(config: StackConfig, table: LogitTable) -> Any:
    from stack.attributes import MeanAttributes, RidgeAttributes

    if config.attributes == "ridge":
        return RidgeAttributes(config.ridge.alpha)
    names = [name for _, name in table.columns]
    return MeanAttributes([[i for i, n in enumerate(names) if n == a] for a in table.attributes])


def labelled(
    table: LogitTable, split: str, config: StackConfig | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a split that have a label, and their class indices.

    `config` is of the model that learns from them; None is for scoring. Raises `UserError` without
    any row, when a class is absent, and when a model with folds finds fewer rows of a class.
    """
    rows = table.splits.get(split)
    known = np.zeros(0, np.int64) if rows is None else np.flatnonzero(rows.label >= 0)
    what, instead = "stacks are compared", ""
    if config is not None:
        what = f"a {config.model} is {'fitted' if split == TRAIN else 'chosen'}"
        instead = ", or set stack.model to mean_logits or majority, which learn nothing"
    if rows is None or not len(known):
        raise UserError(
            f"{table.folder}: the logits have no labelled rows in the split {split}, which {what} "
            f"on; train the heads on a manifest that has some{instead}."
        )
    y = rows.label[known]
    counts = np.bincount(y, minlength=len(table.classes))
    rarest = table.classes[int(counts.argmin())]
    if counts.min() == 0:
        remedy = "add some, take it" if instead else "add some, or take it"
        raise UserError(
            f"{table.folder}: no row of {split} is of the class '{rarest}'; {remedy} out of "
            f"corpus.classes{instead}."
        )
    if config is not None and config.model in LEARNED and counts.min() < config.folds:
        raise UserError(
            f"{table.folder}: train has {counts.min()} rows of the class '{rarest}', fewer than "
            f"the {config.folds} folds; lower stack.folds (2 is the least){instead}."
        )
    return known, y
