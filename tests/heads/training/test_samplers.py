"""Samplers: what an epoch sees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.heads.registry import SAMPLERS as REGISTERED
from ser.heads.training.samplers import draw_epoch

SAMPLERS = ("natural", "neutral_expressive", "class_balanced", "undersample")
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)
SEEDS = st.integers(0, 2**32)


def draw(sampler, labels, seed=0, *, neutral=2, no_consensus=0.0, done=0.0, **options):
    choice = REGISTERED.about(sampler)(name=sampler, no_consensus=no_consensus, **options)
    return draw_epoch(choice, labels, neutral, np.random.default_rng(seed), done)


def test_natural_sees_every_utterance_once():
    labels = np.arange(50) % 3
    order = draw("natural", labels, 0)
    assert sorted(order) == list(range(50))
    assert order.tolist() != list(range(50))


def test_neutral_expressive_draws_both_groups_equally():
    labels = np.array([0] * 900 + [1] * 60 + [2] * 40)  # 40 neutral of 1000
    order = draw("neutral_expressive", labels, 0)
    assert len(order) == 1000
    drawn = labels[order]
    assert abs((drawn == 2).mean() - 0.5) < 0.05
    assert abs((drawn == 1).mean() - 0.5 * 60 / 960) < 0.02


def test_class_balanced_draws_every_class_equally():
    labels = np.array([0] * 900 + [1] * 60 + [2] * 40)
    order = draw("class_balanced", labels, 0)
    assert len(order) == 1000
    np.testing.assert_allclose(np.bincount(labels[order]) / 1000, [1 / 3] * 3, atol=0.05)
    # with replacement: 60 clips fill a third of the epoch
    assert set(order[labels[order] == 1]) > set(range(930, 960))


@pytest.mark.parametrize("done", [0.0, 0.25, 0.95, 1.0])
def test_weights_that_move_draw_classes_at_a_rate_between_equal_and_their_own(done):
    counts = np.array([9_000, 600, 400])
    labels = np.repeat([0, 1, 2], counts)
    for weights, balanced in (("to_uniform", 1 - done), ("to_distribution", done)):
        order = draw("class_balanced", labels, weights=weights, done=done)
        of_class = balanced * 10_000 + (1 - balanced) * counts  # clips times N / n_c, and times 1
        drawn = np.bincount(labels[order]) / 10_000
        np.testing.assert_allclose(drawn, of_class / of_class.sum(), atol=0.015)


def test_weights_begin_where_they_say():
    labels = np.array([0] * 90 + [1] * 6 + [-1] * 4)
    balanced = draw("class_balanced", labels, 3)
    natural = draw("class_balanced", labels, 3, weights="to_distribution")
    assert draw("class_balanced", labels, 3, weights="to_uniform").tolist() == balanced.tolist()
    assert draw("class_balanced", labels, 3, done=0.9).tolist() == balanced.tolist()
    expected = np.random.default_rng(3).choice(100, size=100, p=np.full(100, 0.01))
    assert natural.tolist() == expected.tolist()


def test_undersample_is_fresh_every_epoch_and_sees_all_in_the_end():
    labels = np.array([0] * 90 + [1] * 6 + [2] * 10)
    epochs = [draw("undersample", labels, seed) for seed in range(100)]
    assert epochs[0].tolist() != epochs[1].tolist()
    assert set(np.concatenate(epochs)) == set(range(106))
    # in random order: classes do not come one after another
    assert (np.diff(labels[epochs[0]]) != 0).sum() > 3


def test_a_subset_with_a_seed_is_the_same_in_every_epoch_in_another_order():
    labels = np.array([0] * 90 + [1] * 6 + [-1] * 20)
    one, two, three = (
        draw("undersample", labels, seed, no_consensus=0.5, subset_seed=subset)
        for seed, subset in ((0, 42), (1, 42), (0, 43))
    )
    assert np.bincount(labels[one] + 1).tolist() == [6, 6, 6]
    classes, again, other = (sorted(order[labels[order] >= 0]) for order in (one, two, three))
    assert classes == again != other
    assert one.tolist() != two.tolist()
    assert set(one[labels[one] < 0]) != set(two[labels[two] < 0])  # these are drawn anew


@settings(deadline=None)
@given(labels=LABELS, seed=SEEDS)
def test_undersample_cuts_every_class_to_the_rarest(labels, seed):
    order = draw("undersample", labels, seed, neutral=None)
    assert len(set(order)) == len(order)
    classes, counts = np.unique(labels, return_counts=True)
    drawn, times = np.unique(labels[order], return_counts=True)
    assert drawn.tolist() == classes.tolist()
    assert times.tolist() == [counts.min()] * len(classes)


@settings(deadline=None)
@given(labels=LABELS, seed=SEEDS, sampler=st.sampled_from(SAMPLERS))
def test_draws_are_positions_and_as_many_as_documented(labels, seed, sampler):
    order = draw(sampler, labels, seed)
    assert order.dtype == np.int64
    assert ((order >= 0) & (order < len(labels))).all()
    if sampler != "undersample":
        assert len(order) == len(labels)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_generator_draws_the_same_and_another_does_not(sampler):
    labels = np.arange(30) % 3
    assert draw(sampler, labels, 4).tolist() == draw(sampler, labels, 4).tolist()
    assert draw(sampler, labels, 4).tolist() != draw(sampler, labels, 5).tolist()


def test_neutral_expressive_draws_what_it_always_drew():
    labels = np.arange(12) % 3
    order = draw("neutral_expressive", labels, 4)
    weights = np.where(labels == 2, 1 / 4, 1 / 8)
    expected = np.random.default_rng(4).choice(12, size=12, p=weights / weights.sum())
    assert order.tolist() == expected.tolist()


def test_clips_without_a_class_keep_their_share_where_the_rest_is_balanced():
    labels = np.array([0] * 900 + [1] * 60 + [2] * 40 + [-1] * 250)
    drawn = labels[draw("class_balanced", labels)]
    assert len(drawn) == 1250
    shares = np.array([(drawn == c).mean() for c in (-1, 0, 1, 2)])
    np.testing.assert_allclose(shares, [0.2, *[0.8 / 3] * 3], atol=0.03)
    drawn = labels[draw("neutral_expressive", labels)]
    shares = np.array([(drawn == c).mean() for c in (-1, 2)])
    np.testing.assert_allclose(shares, [0.2, 0.4], atol=0.03)


def test_undersample_takes_clips_without_a_class_beside_the_balanced_ones():
    labels = np.array([0] * 90 + [1] * 8 + [2] * 10 + [-1] * 50)
    order = draw("undersample", labels, no_consensus=1 / 8)
    assert np.bincount(labels[order] + 1).tolist() == [3, 8, 8, 8]
    assert len(set(order)) == len(order)
    assert order.tolist() != draw("undersample", labels, 1, no_consensus=1 / 8).tolist()
    seen = [draw("undersample", labels, seed, no_consensus=1 / 8) for seed in range(100)]
    assert set(np.concatenate(seen)) == set(range(158))


def test_undersample_draws_no_clip_twice_when_more_are_requested_than_exist():
    labels = np.array([0] * 9 + [1] * 8 + [-1] * 5)
    order = draw("undersample", labels, no_consensus=1)
    assert sorted(labels[order]) == [-1] * 5 + [0] * 8 + [1] * 8
    assert (labels[draw("undersample", labels)] >= 0).all()


def test_natural_sees_clips_without_a_class_too():
    assert sorted(draw("natural", np.array([-1, 0, -1]))) == [0, 1, 2]
