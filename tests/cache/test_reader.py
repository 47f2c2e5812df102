"""Padded batches: every utterance keeps its values whatever it is batched with."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.cache.features import FeatureCache
from ser.cache.reader import BatchReader, FeatureInput, bucket, lengths_of, padded_share
from ser.corpus.errors import UserError
from tests.cache.factories import make_cache, ragged


def load_batch(features, utterances):
    return next(BatchReader(features).batches([utterances]))


def test_a_batch_is_padded_with_zeros_and_aligned_by_id(tmp_path):
    a, b = ragged(0, 5, dim=3), ragged(1, 5, dim=2)
    columns = {
        "a": FeatureInput(make_cache(tmp_path, a, name="a")),
        "b": FeatureInput(make_cache(tmp_path, dict(reversed(b.items())), name="b")),
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
    column = FeatureInput(make_cache(tmp_path, {"u": frames}), stride=2)
    batch = load_batch({"x": column}, ["u"])
    assert batch.frames["x"][0].tolist() == [[1.0, 2.0], [5.0, 6.0], [8.0, 9.0]]
    assert lengths_of({"x": column}, ["u"])["x"].tolist() == [3]


def test_a_stride_longer_than_the_clip_is_its_mean(tmp_path):
    column = FeatureInput(
        make_cache(tmp_path, {"u": np.array([[1.0], [3.0]], np.float32)}), stride=9
    )
    assert load_batch({"x": column}, ["u"]).frames["x"].tolist() == [[[2.0]]]


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_one_layer_of_all_is_read_as_if_it_were_alone(tmp_path, precision):
    frames = {u: f.reshape(len(f), 3, -1) for u, f in ragged(4, 6, dim=12).items()}
    every = make_cache(tmp_path, frames, name="every", precision=precision)
    names = list(frames)
    whole = load_batch({"x": FeatureInput(every, 2)}, names).frames["x"]
    for layer in (0, 2, -1):
        column = FeatureInput(every, 2, layer)
        assert (column.item_shape, FeatureInput(every).item_shape) == ((4,), (3, 4))
        assert torch.equal(load_batch({"x": column}, names).frames["x"], whole[:, :, layer])
    two = FeatureInput(every, 2, (2, 0))
    assert two.item_shape == (8,)
    expected = torch.cat([whole[:, :, 2], whole[:, :, 0]], dim=-1)
    assert torch.equal(load_batch({"x": two}, names).frames["x"], expected)


def test_a_layer_that_does_not_exist_is_refused(tmp_path):
    frames = {"u": np.ones((2, 3, 4), np.float32)}
    every, one = make_cache(tmp_path, frames, name="every"), make_cache(tmp_path, ragged(0, 1))
    with pytest.raises(
        UserError, match=r"layer 3 does not exist: this feature has layers 0 to 2; corr"
    ):
        FeatureInput(every, layer=3)
    with pytest.raises(
        UserError, match=r"layer -1 does not exist: this feature has one layer; correct"
    ):
        FeatureInput(one, layer=-1)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_batches_do_not_depend_on_the_number_of_threads(tmp_path, threads):
    data = ragged(2, 60)
    columns = {"x": FeatureInput(make_cache(tmp_path, data, shard_bytes=2_000))}
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


def test_buffers_have_room_for_the_largest_batch_from_the_start(tmp_path):
    frames = {f"u{n}": np.ones((n, 2), np.float32) for n in (1, 2, 3, 4)}
    reader = BatchReader({"x": FeatureInput(make_cache(tmp_path, frames))}, threads=1)
    first, second, third = reader.batches([["u1"], ["u2"], ["u3", "u4"]])
    storages = [batch.frames["x"].untyped_storage() for batch in (first, second, third)]
    assert [storage.nbytes() for storage in storages] == [2 * 4 * 2 * 4] * 3
    assert storages[0].data_ptr() == storages[2].data_ptr() != storages[1].data_ptr()


def test_batches_are_read_in_inference_mode_too(tmp_path):
    columns = {"x": FeatureInput(make_cache(tmp_path, {"u": np.ones((1, 2), np.float32)}))}
    with torch.inference_mode():
        assert load_batch(columns, ["u"]).frames["x"].tolist() == [[[1.0, 1.0]]]


def test_nothing_is_read_when_something_is_missing(tmp_path):
    columns = {"x": FeatureInput(make_cache(tmp_path, ragged(0, 2)))}
    with pytest.raises(UserError, match=r"1 of 2 utterances are not cached \(nobody\)"):
        next(BatchReader(columns).batches([["u0"], ["nobody"]]))


def test_what_is_missing_may_be_skipped_by_choice(tmp_path):
    a, b = ragged(0, 4, dim=3), ragged(1, 3, dim=2)
    columns = {
        "a": FeatureInput(make_cache(tmp_path, a, name="a")),
        "b": FeatureInput(make_cache(tmp_path, b, name="b")),
    }
    plan = [["u0", "u3", "u2"], ["nobody", "u3"], ["u1"]]
    reader = BatchReader(columns, threads=1)
    assert [b.utterances for b in reader.batches(plan, "skip")] == [["u0", "u2"], ["u1"]]
    with pytest.raises(UserError, match=r"1 of 5 utterances are not cached \(nobody\)"):
        next(reader.batches(plan))


def test_a_checking_reader_names_what_is_damaged(tmp_path):
    cache = make_cache(tmp_path, ragged(0, 3))
    (file,) = cache.path.glob("data.zarr/*/frames/c/0/0")
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    columns = {"x": FeatureInput(FeatureCache(cache.path))}
    assert len(list(BatchReader(columns).batches([["u0", "u1"]]))) == 1
    with pytest.raises(UserError, match="the frames of 'u0' in feature 'whisper' are damaged"):
        list(BatchReader(columns, check=True).batches([["u2"], ["u0", "u1"]]))


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    root = tmp_path_factory.mktemp("columns")
    data = ragged(5, 30, dim=3)
    return {
        "half": FeatureInput(make_cache(root, data, name="half", shard_bytes=500)),
        "int8": FeatureInput(make_cache(root, data, name="int8", precision="int8"), stride=3),
    }


@settings(deadline=None)
@given(st.lists(st.integers(0, 29), min_size=1, max_size=9))
def test_any_batch_gives_each_utterance_the_same_values(columns, positions):
    batch = load_batch(columns, [f"u{i}" for i in positions])
    for row, utterance in enumerate(batch.utterances):
        alone = load_batch(columns, [utterance])
        for name in columns:
            n = int(alone.lengths[name][0])
            assert int(batch.lengths[name][row]) == n
            assert torch.equal(batch.frames[name][row, :n], alone.frames[name][0])
            assert not batch.frames[name][row, n:].any()


@settings(deadline=None)
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
