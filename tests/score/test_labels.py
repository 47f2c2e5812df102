"""Scores of labels, held to scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from ser.corpus.errors import UserError
from ser.score.labels import macro_f1, uar


@pytest.mark.parametrize("kind", [str, int])
def test_names_and_numbers_are_scored_as_scikit_learn_does(kind):
    rng = np.random.default_rng(0)
    true, predicted = (rng.integers(5, size=200).astype(kind) for _ in range(2))
    assert macro_f1(true, predicted) == pytest.approx(f1_score(true, predicted, average="macro"))
    assert uar(true.tolist(), predicted.tolist()) == pytest.approx(
        balanced_accuracy_score(true, predicted)
    )


def test_a_class_that_is_only_predicted_is_left_out_of_the_mean():
    assert macro_f1(["a", "b"], ["a", "c"]) == 0.5


def test_arrays_of_another_length_are_refused():
    with pytest.raises(UserError, match=r"y_true is of shape \(2,\) and y_pred of \(1,\)"):
        macro_f1(["a", "b"], ["a"])
