import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ser.score.metrics import (
    accuracy,
    confusion,
    macro_f1,
    micro_f1,
    per_class_f1,
    row_normalised,
    score,
    uar,
)

ROWS = st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 4)), min_size=1, max_size=60)


def test_confusion_counts_true_rows_by_predicted_columns_and_skips_unlabelled_rows():
    matrix = confusion(np.array([0, 0, 1, -1]), np.array([0, 1, 1, 1]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert matrix.dtype == np.int64


@settings(deadline=None)
@given(ROWS.filter(lambda rows: any(label >= 0 for label, _ in rows)))
def test_every_metric_equals_scikit_learn(rows):
    labels, predictions = np.array(rows).T
    matrix = confusion(labels, predictions, 5)
    y, p = labels[labels >= 0], predictions[labels >= 0]
    present = np.unique(y)

    def f1(average, wanted):
        return sk.f1_score(y, p, labels=wanted, average=average, zero_division=0)

    assert matrix.tolist() == sk.confusion_matrix(y, p, labels=range(5)).tolist()
    np.testing.assert_allclose(per_class_f1(matrix), f1(None, range(5)), atol=1e-12)
    np.testing.assert_allclose(macro_f1(matrix), f1("macro", present), atol=1e-12)
    np.testing.assert_allclose(micro_f1(matrix), f1("micro", range(5)), atol=1e-12)
    np.testing.assert_allclose(accuracy(matrix), sk.accuracy_score(y, p), atol=1e-12)
    recall = sk.recall_score(y, p, labels=present, average="macro", zero_division=0)
    np.testing.assert_allclose(uar(matrix), recall, atol=1e-12)


@settings(deadline=None)
@given(ROWS, st.permutations(range(5)))
def test_renaming_the_classes_changes_no_mean(rows, names):
    labels, predictions = np.array(rows).T
    rename = np.array([*names, -1])  # -1 stays -1
    matrix = confusion(labels, predictions, 5)
    renamed = confusion(rename[labels], rename[predictions], 5)
    for metric in (macro_f1, micro_f1, accuracy, uar):
        np.testing.assert_allclose(metric(matrix), metric(renamed), atol=1e-12)


def test_rows_are_normalised_as_scikit_learn_does():
    y, p = [0, 0, 0, 1], [0, 2, 0, 1]
    expected = sk.confusion_matrix(y, p, labels=range(3), normalize="true")
    ours = row_normalised(confusion(np.array(y), np.array(p), 3))
    assert ours == pytest.approx(expected)
    assert ours[2].tolist() == [0, 0, 0]


def test_means_leave_out_a_class_without_rows_even_when_it_is_predicted():
    matrix = confusion(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2]), 3)
    assert per_class_f1(matrix) == pytest.approx([1, 2 / 3, 0])
    assert macro_f1(matrix) == pytest.approx((1 + 2 / 3) / 2)
    assert uar(matrix) == pytest.approx(0.75)


def test_a_stack_of_matrices_is_scored_at_once():
    rng = np.random.default_rng(0)
    matrices = rng.integers(0, 9, (4, 3, 3))
    for metric in (macro_f1, micro_f1, accuracy, uar):
        assert metric(matrices).tolist() == [float(metric(matrix)) for matrix in matrices]


def test_score_is_one_plain_entry():
    assert score(np.array([0, 1, 1, -1]), np.array([0, 1, 0, 0]), ("a", "b")) == {
        "macro_f1": pytest.approx(2 / 3),
        "micro_f1": pytest.approx(2 / 3),
        "accuracy": pytest.approx(2 / 3),
        "uar": 0.75,
        "per_class": {"a": pytest.approx(2 / 3), "b": pytest.approx(2 / 3)},
        "n": 3,
        "confusion": [[1, 0], [1, 1]],
    }


def test_no_labelled_row_scores_zero_without_a_warning():
    entry = score(np.array([-1]), np.array([0]), ("a", "b"))
    assert (entry["n"], entry["macro_f1"], entry["uar"], entry["accuracy"]) == (0, 0, 0, 0)
