"""The stack as a scikit-learn estimator: `fit`, `predict`, `predict_proba`, `score`.

It is fitted on the logits of a run's heads:

    table = LogitTable.read("runs/mine/heads")
    stack = Stack("lightgbm").fit(table)
    stack.score(table.splits["dev"])

or on arrays of logits and labels, which scikit-learn's cross-validation and searches can split by
rows. No file is written.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import ValidationError
from sklearn.utils.validation import check_is_fitted

from ser.corpus.config import describe
from ser.corpus.errors import UserError
from ser.score.estimator import SectionClassifier
from ser.score.labels import Labels, macro_f1
from ser.stack.config import StackConfig
from ser.stack.model import FittedStack
from ser.stack.table import TRAIN, LogitTable, Rows

NOT_FITTED = "Stack: it is not fitted yet; call `fit` first."


class Stack(SectionClassifier):
    """A meta-model that predicts the emotion from the logits of several heads.

    Args:
        model: the meta-model: mean_logits, greedy, logistic, random_forest, …; `auto` chooses one
            by held-out macro-F1, for which `fit` needs `groups`, or a table of cross-fitted heads.
        **options: the other keys of `stack:` in pipeline.yaml (`folds`, `balance`, `calibrate`,
            `random_forest`, …).

    After `fit`: `classes_`, `config_` and `stack_`, the fitted stack.

        >>> table = LogitTable.read("runs/mine/heads")
        >>> stack = Stack("logistic", folds=2).fit(table)
        >>> stack
        Stack(folds=2, model='logistic')
        >>> stack.predict(table.splits["dev"])[:2].tolist()
        ['angry', 'sad']
        >>> stack.score(table.splits["dev"])
        1.0
        >>> logits = np.random.default_rng(0).normal(size=(40, 6))  # two heads, three classes
        >>> labels = np.repeat(["angry", "sad", "neutral", "sad"], 10)
        >>> Stack("mean_proba").fit(logits, labels).predict_proba(logits).shape
        (40, 3)
    """

    def __init__(self, model: str = "auto", **options: Any) -> None:
        self.model, self.options = model, options

    def known_options(self) -> list[str]:
        """List the keys of the section `stack`, without `heads`: fit on the heads you want."""
        return [name for name in StackConfig.model_fields if name not in ("model", "heads")]

    def fit(
        self,
        X: LogitTable | np.ndarray,
        y: Labels | None = None,
        groups: Sequence[str] | None = None,
    ) -> Self:
        """Fit on the logits of train.

        Args:
            X: a table of logits with its labels, or logits `(rows, heads * classes)`: a block of
                columns for each head, in the order of the sorted classes.
            y: the label of each row; omitted with a table.
            groups: the speaker of each row: folds are then speaker-disjoint.

        Raises `UserError` for labels that do not match, and an invalid option.
        """
        config = self._config()
        if not isinstance(X, LogitTable):
            X = table_of(X, y, groups, config)
        elif y is not None or groups is not None:
            raise UserError(
                "Stack: a table has its own labels and speakers; leave out `y` and `groups`."
            )
        self.stack_ = FittedStack.fit(X, config)
        self.config_ = config
        self.classes_ = np.array(X.classes) if y is None else np.unique(np.asarray(y))
        self._width = len(X.classifiers) * len(X.classes)
        return self

    def predict_proba(self, X: Rows | np.ndarray) -> np.ndarray:
        """Return the probability of each class, float64 `(rows, classes)`."""
        return self._predict(X)[1]

    def predict(self, X: Rows | np.ndarray) -> np.ndarray:
        """Return the predicted class of each row."""
        chosen = self._predict(X)[0]
        predicted: np.ndarray = self.classes_[chosen]
        return predicted

    def score(self, X: Rows | np.ndarray, y: Labels | None = None) -> float:
        """Return macro-F1, the score of `ser score`; rows of a table have their own labels."""
        if isinstance(X, Rows):
            labelled = X.label >= 0
            return macro_f1(self.classes_[X.label[labelled]], self.predict(X)[labelled])
        if y is None:
            raise UserError("Stack: `y` is missing; give the label of each row of logits.")
        return super().score(X, y)

    def _predict(self, X: Rows | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self, "stack_", msg=NOT_FITTED)
        rows = X if isinstance(X, Rows) else unlabelled(X)
        if rows.logits.shape[1] != self._width:
            raise UserError(
                f"Stack: the logits have {rows.logits.shape[1]} columns, but it was fitted on "
                f"{self._width}; give those of the same heads."
            )
        prediction = self.stack_.predict(rows)
        if prediction.chosen is None or prediction.probability is None:
            raise UserError("Stack: no head of the table predicts classes.")
        return prediction.chosen, prediction.probability

    def _config(self) -> StackConfig:
        self.require_known_options()
        try:
            return StackConfig(model=self.model, **self.options)
        except ValidationError as error:
            raise UserError(f"Stack: {describe(error)}; correct it.") from error


def table_of(
    logits: np.ndarray, y: Labels | None, groups: Sequence[str] | None, config: StackConfig
) -> LogitTable:
    """Return logits and labels as a table; raises `UserError` where they do not match."""
    rows = unlabelled(logits)
    if y is None:
        raise UserError("Stack: `y` is missing; give the label of each row of logits.")
    if groups is None and config.protocol == "oof":
        raise UserError("Stack: `groups` is missing; give the speaker of each row for `oof`.")
    classes, label = np.unique(np.asarray(y), return_inverse=True)
    count, width = rows.logits.shape
    for name, values in (("y", y), ("groups", groups)):
        if values is not None and len(values) != count:
            raise UserError(
                f"Stack: {count} rows of logits and {len(values)} values in `{name}`; give one for "
                "each row."
            )
    if width % len(classes):
        raise UserError(
            f"Stack: {width} columns of logits are not a multiple of the {len(classes)} classes in "
            "y; give every head's logits of these classes, side by side."
        )
    heads = [f"head-{i}" for i in range(width // len(classes))]
    table = LogitTable.without_rows(
        Path("X"), dict.fromkeys(heads, ""), [str(name) for name in classes.tolist()], heads, {}
    )
    speaker = [""] * count if groups is None else [str(group) for group in groups]
    return replace(
        table,
        lacking={"oof": heads[0] if groups is None else None, "unicamp": None},
        splits={config.learns_from or TRAIN: replace(rows, label=label, speaker=speaker)},
    )


def unlabelled(logits: np.ndarray) -> Rows:
    """Return logits as rows; raises `UserError` for anything but a table of finite numbers."""
    values = np.asarray(logits)
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise UserError(
            f"Stack: X is an array of shape {values.shape} and {values.dtype}; give logits "
            "(rows, heads * classes)."
        )
    if not np.isfinite(values).all():
        raise UserError("Stack: X has values that are not finite; remove those rows.")
    return Rows.new(values.astype(np.float32), np.empty((len(values), 0), np.float32))
