"""Padded batches: every utterance keeps its values whatever it is batched with."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.reader import BatchReader, Column, bucket, load_batch, padded_share
from corpus.errors import UserError
from tests.cache.factories import make_cache, ragged


def test_a_batch_is_padded_with_zeros_and_aligned_by_id(tmp_path):
    a, b = ragged(0, 5, dim=3), ragged(1, 5, dim=2)
    columns = {
        "a": Column(make_cache(tmp_path, a, name="a")),
        "b": Column(make_cache(tmp_path, dict(reversed(b.items())), name="b")),
    }
    batch = load_batch(columns, ["u3", "u1"])
    assert batch.utterances == ["u3", "u1"]
    for name, data in (("a", a), ("b", b)):
        for row, utterance in enumerate(batch.utterances):
            n = len(data[utterance])
            assert int(batch.lengths[name][row]) == n
            np.testing.assert_array_equal(
                batch.frames[name][row, :n], data[utterance].astype(np.float16)
            )
            assert not batch.frames[name][row, n:].any()


def test_stride_is_the_mean_of_k_frames_and_of_what_is_left(tmp_path):
    frames = np.arange(10, dtype=np.float32).reshape(5, 2)
    column = Column(make_cache(tmp_path, {"u": frames}), stride=2)
    batch = load_batch({"x": column}, ["u"])
    assert batch.frames["x"][0].tolist() == [[1.0, 2.0], [5.0, 6.0], [8.0, 9.0]]
    assert column.lengths(["u"]).tolist() == [3]


def test_a_stride_longer_than_the_clip_is_its_mean(tmp_path):
    column = Column(make_cache(tmp_path, {"u": np.array([[1.0], [3.0]], np.float32)}), stride=9)
    assert load_batch({"x": column}, ["u"]).frames["x"].tolist() == [[[2.0]]]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_batches_do_not_depend_on_the_number_of_threads(tmp_path, threads):
    data = ragged(2, 60)
    columns = {"x": Column(make_cache(tmp_path, data, shard_bytes=2_000))}
    plan = [[f"u{i}" for i in range(start, start + 6)] for start in range(0, 60, 6)]
    seen = 0
    for batch, utterances in zip(BatchReader(columns, threads).batches(plan), plan, strict=True):
        assert batch.utterances == utterances
        for row, utterance in enumerate(utterances):
            n = len(data[utterance])
            expected = torch.from_numpy(data[utterance].astype(np.float16)).float()
            assert torch.equal(batch.frames["x"][row, :n], expected)
            seen += 1
    assert seen == 60


def test_nothing_is_read_when_something_is_missing(tmp_path):
    columns = {"x": Column(make_cache(tmp_path, ragged(0, 2)))}
    with pytest.raises(UserError, match=r"1 of 2 utterances are not cached \(nobody\)"):
        next(BatchReader(columns).batches([["u0"], ["nobody"]]))


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=200),
    batch=st.integers(1, 17),
    seed=st.integers(0, 5),
)
def test_bucketing_visits_every_position_once(lengths, batch, seed):
    lengths = np.array(lengths)
    order = np.random.default_rng(seed).permutation(len(lengths))
    batches = bucket(order, lengths, batch, np.random.default_rng(seed))
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    assert max(len(b) for b in batches) <= batch
    assert batches == bucket(order, lengths, batch, np.random.default_rng(seed))
    assert 0 <= padded_share(batches, lengths) < 1


def test_bucketing_keeps_what_a_sampler_draws_twice():
    batches = bucket([0, 0, 1], np.array([5, 9]), 2, np.random.default_rng(0))
    assert sorted(i for b in batches for i in b) == [0, 0, 1]


def test_padded_share_is_counted_in_frames():
    assert padded_share([[0, 1]], np.array([1, 3])) == pytest.approx(1 - 4 / 6)
    assert padded_share([], np.array([])) == 0.0
