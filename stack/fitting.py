"""The classifier of a stack before it is fitted, and the rows that it is fitted on."""

import numpy as np

from ser.corpus.errors import UserError, plural
from ser.stack.config import StackConfig
from ser.stack.folds import FoldedClassifier
from ser.stack.plugin import PluginClassifier
from ser.stack.registry import META_MODELS
from ser.stack.rules import Rule
from ser.stack.table import TRAIN, LogitTable


def make_classifier(config: StackConfig, table: LogitTable) -> FoldedClassifier | Rule:
    """Return the configured classifier, unfitted: a scikit-learn estimator."""
    make = META_MODELS.get(config.model)
    options = config.model_dump().get(config.model, {})
    if not config.folded:
        rule: Rule = make(classes=len(table.classes), **options)
        return rule
    folding = config.model_dump(
        include={"folds", "balance", "draws", "input", "seed"}, exclude_none=True
    )
    if config.reads_attributes:
        folding["extra"] = len(table.columns)
    # a user's model; `config.options` may be left from another model in a comparison
    plugin = None if META_MODELS.about(config.model).options is None else config.options
    if plugin is not None:
        options = plugin.model_dump()
    if hasattr(make, "fit_member"):  # it derives from `FoldedClassifier`
        folded: FoldedClassifier = make(**folding, **options)
        return folded
    estimator = make(**options) if plugin is None else PluginClassifier(config.model, plugin)
    return FoldedClassifier(estimator, **folding)


def labelled_rows(
    table: LogitTable, split: str, config: StackConfig | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of a split's labelled rows, and their class indices.

    `config` is that of the model to be fitted on them; None is for scoring. Raises `UserError` when
    there are none, when a class is missing (unless the model reads no labels), and when a class has
    fewer rows than there are folds.
    """
    rows = table.splits.get(split)
    at = np.zeros(0, np.int64) if rows is None else np.flatnonzero(rows.label >= 0)
    purpose, instead = "to compare stacks", ""
    if config is not None:
        purpose = f"to {'fit' if split == TRAIN else 'select'} a {config.model}"
        instead = ", or set stack.model to mean_logits or majority, which need no training"
    if rows is None or not len(at):
        raise UserError(
            f"{table.folder}: the logits have no labelled rows in the split {split} {purpose} on; "
            f"train the heads on a manifest that has some{instead}."
        )
    y = rows.label[at]
    counts = np.bincount(y, minlength=len(table.classes))
    rarest = table.classes[int(counts.argmin())]
    if counts.min() == 0 and (config is None or config.reads_labels):
        remedy = "add some, remove it" if instead else "add some, or remove it"
        raise UserError(
            f"{table.folder}: {split} has no rows of the class '{rarest}'; {remedy} from "
            f"corpus.classes{instead}."
        )
    if config is not None and config.folded and counts.min() < config.folds:
        raise UserError(
            f"{table.folder}: train has {plural(int(counts.min()), 'row')} of the class "
            f"'{rarest}', fewer than the {config.folds} folds; lower stack.folds (at least 2)"
            f"{instead}."
        )
    return at, y
