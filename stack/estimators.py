"""The bases of the stack's estimators: scikit-learn's conventions without importing scikit-learn.

Its import takes over a second, and a fitted stack predicts with numpy alone.
"""

from inspect import signature
from typing import Self

import numpy as np


class Estimator:
    """An estimator whose parameters are the arguments of its constructor, kept under their names.

    A subclass is a dataclass (with `eq=False`: an estimator equals itself only). scikit-learn can
    clone it and search its parameters, those of estimators within it as well.
    """

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Return the parameters by name; if `deep`, also `<name>__<parameter>` of estimators."""
        params = {name: getattr(self, name) for name in signature(type(self)).parameters}
        inner = {name: value for name, value in params.items() if hasattr(value, "get_params")}
        for name, value in inner.items() if deep else ():
            params |= {f"{name}__{key}": v for key, v in value.get_params().items()}
        return params

    def set_params(self, **params: object) -> Self:
        """Change parameters; raises ValueError for a name that is not one."""
        for name, value in params.items():
            outer, _, inner = name.partition("__")
            if outer not in signature(type(self)).parameters:
                raise ValueError(f"{type(self).__name__} has no parameter '{outer}'")
            if inner:
                getattr(self, outer).set_params(**{inner: value})
            else:
                setattr(self, outer, value)
        return self


class Classifier(Estimator):
    """A classifier; a subclass defines `predict_proba` and sets `classes_` in `fit`."""

    _estimator_type = "classifier"  # for scikit-learn before 1.6; later versions read the tags
    classes_: np.ndarray

    def __sklearn_tags__(self) -> object:
        """Return scikit-learn's description of a classifier."""
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags("classifier", TargetTags(required=True), classifier_tags=ClassifierTags())

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probability of each class: float64 `(rows, classes)`."""
        raise NotImplementedError

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class of every row; ties go to the first."""
        chosen: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return chosen

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        """Return the accuracy."""
        return float(np.mean(self.predict(X) == np.asarray(y)))
