"""Agreement of two systems, against scikit-learn and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from ser.score.agreement import Agreement, agreement, kappa


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_kappa_is_scikit_learns(pairs):
    first, second = np.array(pairs).T
    classes = {*first.tolist(), *second.tolist()}
    expected = 1.0 if len(classes) == 1 else cohen_kappa_score(first, second)
    assert kappa(first, second) == pytest.approx(expected)


def test_the_shares_are_of_the_labelled_rows():
    labels = np.array([0, 0, 1, 1, 1, -1])
    first, second = np.array([0, 1, 1, 1, 0, 0]), np.array([0, 1, 1, 0, 1, 1])
    assert agreement(labels, first, second) == Agreement(
        # 3 of 5 equal; both choose class 1 in 3 of 5: by chance 9/25 + 4/25
        kappa=pytest.approx((3 / 5 - 13 / 25) / (1 - 13 / 25)),
        same=3 / 5,
        both_right=2 / 5,
        only_first=1 / 5,
        only_second=1 / 5,
        both_wrong=1 / 5,
    )


def test_without_labels_there_is_no_agreement():
    with pytest.raises(ValueError, match="there are no labelled rows"):
        agreement(np.array([-1]), np.array([0]), np.array([0]))
