"""The registry of meta-models; a user's own is any scikit-learn classifier.

    @meta_model("nearest", NearestOptions)
    def nearest(options: NearestOptions) -> KNeighborsClassifier:
        return KNeighborsClassifier(options.neighbours)

It is fitted like the built-in ones, on the folds of a balanced subset (`ser.stack.folds`). A class
derived from `FoldedClassifier` writes its own files; any other classifier is saved with skops.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ser.corpus.config import Section
from ser.corpus.registry import BuiltIn, Registry, require_call, require_options


@dataclass(frozen=True)
class MetaModelInfo:
    """A meta-model as a pipeline needs it.

    `folded`: it is fitted on the folds of train. `options` are those of a user's model; a built-in
    one has a section of its own in `StackConfig`.
    """

    folded: bool
    options: type[Section] | None = None


META_MODELS = Registry[Callable[..., Any], MetaModelInfo](
    "meta-model",
    "",
    {
        name: BuiltIn(f"ser.stack.{place}", summary, MetaModelInfo(folded))
        # scikit-learn's and LightGBM's import costs a second, so only the one needed is paid
        for name, place, folded, summary in (
            ("random_forest", "forest:Forest", True, "Random forests, as published."),
            ("extra_trees", "forest:ExtraTrees", True, "Extremely randomised trees."),
            ("lightgbm", "boosting:Boosting", True, "Gradient-boosted trees."),
            ("logistic", "linear:Logistic", True, "Logistic regressions."),
            ("meta_soup", "linear:MetaSoup", True, "The average of linear classifiers (MEDUSA)."),
            ("auto", "selection:select", False, "One of the others, by out-of-fold macro-F1."),
            ("mean_logits", "rules:MeanLogits", False, "The mean of the heads' logits."),
            ("mean_proba", "rules:MeanProba", False, "The mean of the heads' probabilities."),
            ("majority", "rules:Majority", False, "The class that most heads put first."),
            ("best_head", "rules:BestHead", False, "The head that is best out of fold, alone."),
            ("mean_scaled", "pools:MeanScaled", False, "The mean of logits on one scale."),
            ("log_pool", "pools:LogPool", False, "A weighted sum of the heads' logits."),
            ("greedy", "pools:Greedy", False, "Heads added one by one, with replacement."),
            ("weighted", "rules:Weighted", False, "A weighted mean of the heads' probabilities."),
            ("top_k", "rules:TopK", False, "The k heads that are best on dev."),
        )
    },
)

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def meta_model(name: str, options: type[Section] = Section) -> Callable[[Decorated], Decorated]:
    """Register a function or class that makes a classifier of scikit-learn from its options.

    Args:
        name: the value of `stack.model` that chooses it in pipeline.yaml.
        options: its options, a subclass of `ser.corpus.config.Section`.

        >>> from sklearn.naive_bayes import GaussianNB
        >>> from ser import LogitTable, Stack
        >>> @meta_model("bayes")
        ... def bayes(options):
        ...     return GaussianNB()
        >>> table = LogitTable.read("runs/mine/heads")
        >>> Stack("bayes", folds=2).fit(table).score(table.splits["dev"])
        1.0
    """

    def register(make: Decorated) -> Decorated:
        require_options("meta-model", name, options, Section)
        if not hasattr(make, "fit_member"):  # a `FoldedClassifier` takes its options by name
            require_call("meta-model", name, make, "(options)", 1)
        META_MODELS.add(name, make, MetaModelInfo(True, options))
        return make

    return register
