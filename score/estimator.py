"""The base of the classifiers whose options are keys of a section of pipeline.yaml."""

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from ser.corpus.errors import UserError, nearest
from ser.score.labels import Labels, macro_f1


class SectionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of scikit-learn with `options` beside the named arguments of its constructor.

    A subclass's `__init__` sets its named arguments and `options`, and lists the keys that options
    may have.
    """

    options: dict[str, Any]

    @abstractmethod
    def known_options(self) -> list[str]:
        """List the keys that `options` may have."""

    @abstractmethod
    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted class of each row."""

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Return the arguments of the constructor by name."""
        return {name: getattr(self, name) for name in self._get_param_names()} | self.options

    def set_params(self, **params: object) -> Self:
        """Change arguments of the constructor; raises `UserError` for an unknown option."""
        changed = type(self)(**self.get_params() | params)
        changed.require_known_options()
        for name in self._get_param_names():
            setattr(self, name, getattr(changed, name))
        self.options = changed.options
        return self

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted copy that shares the arguments, such as an opened cache."""
        return type(self)(**self.get_params())

    def require_known_options(self) -> None:
        """Raise `UserError` for an option that does not exist, with the nearest one."""
        names = self.known_options()
        for name in self.options:
            if name not in names:
                raise UserError(
                    f"{type(self).__name__}: no option '{name}'; {nearest(name, names)}"
                )

    def score(self, X: Any, y: Labels) -> float:
        """Return macro-F1, the score of `ser score` (that of other classifiers is accuracy)."""
        return macro_f1(np.asarray(y), self.predict(X))
