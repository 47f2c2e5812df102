import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.folds import balanced_rows

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(np.array)


@settings(deadline=None)
@given(LABELS, st.integers(0, 99))
def test_every_class_is_cut_to_the_rarest_without_replacement(labels, seed):
    rows = balanced_rows(labels, seed)
    _, counts = np.unique(labels, return_counts=True)
    _, kept = np.unique(labels[rows], return_counts=True)
    assert kept.tolist() == [counts.min()] * len(counts)
    assert rows.tolist() == sorted(set(rows.tolist()))


def test_the_seed_decides_the_rows():
    labels = np.repeat([0, 1], [5, 50])
    assert balanced_rows(labels, 1).tolist() == balanced_rows(labels, 1).tolist()
    assert balanced_rows(labels, 1).tolist() != balanced_rows(labels, 2).tolist()
