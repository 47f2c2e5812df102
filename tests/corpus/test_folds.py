import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpus.errors import UserError
from ser.corpus.folds import speaker_folds

LABELS = [0, 1] * 20
SPEAKERS = [f"s{i // 4}" for i in range(40)]  # ten speakers of four utterances


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["", None, *"abcdefgh"])),
        min_size=12,
        max_size=60,
    ),
    folds=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_every_row_gets_a_fold_and_no_speaker_two(
    rows: list[tuple[int, str | None]], folds: int, seed: int
) -> None:
    labels = [label for label, _ in rows]
    speakers = [speaker for _, speaker in rows]
    try:
        assigned = speaker_folds(labels, speakers, folds, seed)
    except UserError:
        named = {s for s in speakers if s}
        unknown = sum(not s for s in speakers)
        assert len(named) + unknown < folds or max(np.bincount(labels)) < folds
        return
    assert set(assigned.tolist()) == set(range(folds))
    where: dict[str, set[int]] = {}
    for speaker, fold in zip(speakers, assigned.tolist(), strict=True):
        if speaker:
            where.setdefault(speaker, set()).add(fold)
    assert all(len(found) == 1 for found in where.values())


def test_the_same_seed_gives_the_same_folds_and_another_seed_others() -> None:
    first = speaker_folds(LABELS, SPEAKERS, 5, seed=1)
    np.testing.assert_array_equal(first, speaker_folds(LABELS, SPEAKERS, 5, seed=1))
    assert first.dtype == np.int64
    assert any((first != speaker_folds(LABELS, SPEAKERS, 5, seed=s)).any() for s in (2, 3, 4))


def test_classes_are_spread_evenly() -> None:
    assigned = speaker_folds(LABELS, SPEAKERS, 5, seed=0)
    labels = np.array(LABELS)
    assert [int((labels[assigned == f] == 1).sum()) for f in range(5)] == [4] * 5


def test_labels_may_be_names() -> None:
    named = ["sad" if label else "happy" for label in LABELS]
    np.testing.assert_array_equal(
        speaker_folds(named, SPEAKERS, 4, seed=7), speaker_folds(LABELS, SPEAKERS, 4, seed=7)
    )


def test_unknown_speakers_are_each_their_own() -> None:
    assigned = speaker_folds([0] * 6, ["", None, "", None, "", None], 6, seed=0)
    assert sorted(assigned) == [0, 1, 2, 3, 4, 5]


def test_a_speaker_called_like_a_row_is_not_mixed_up_with_it() -> None:
    assigned = speaker_folds([0] * 4, ["", "row 0", "x", "y"], 4, seed=0)
    assert sorted(assigned) == [0, 1, 2, 3]


def test_too_few_speakers_are_reported_in_one_sentence() -> None:
    with pytest.raises(UserError) as caught:
        speaker_folds([0, 1] * 10, ["a", "b"] * 10, 5, seed=0)
    assert str(caught.value) == (
        "folds is 5, but there are only 2 speakers and a speaker is never split; "
        "set folds to 2 or less, or add more speakers."
    )


def test_too_few_utterances_of_every_class_are_reported_in_one_sentence() -> None:
    with pytest.raises(UserError) as caught:
        speaker_folds([0, 0, 1, 1], [*"abcd"], 3, seed=0)
    assert str(caught.value) == (
        "folds is 3, but no class has more than 2 utterances; set folds to 2 or less, "
        "or add more labelled utterances."
    )


def test_one_fold_is_none() -> None:
    with pytest.raises(UserError, match=r"^folds is 1; use 2 or more\.$"):
        speaker_folds(LABELS, SPEAKERS, 1, seed=0)


def test_a_rare_class_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        speaker_folds([2, *LABELS[1:]], SPEAKERS, 5, seed=0)
