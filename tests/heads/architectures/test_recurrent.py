"""The recurrent layer: what nn.GRU gives over packed sequences, and each clip as if alone."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from ser.heads.architectures.recurrent import SEGMENT, bidirectional_gru, in_float32

CLOSE = {"atol": 1e-12, "rtol": 1e-9}  # in float64


def make_gru(dim=3, hidden=4, dtype=torch.float64):
    torch.manual_seed(0)
    return nn.GRU(dim, hidden, batch_first=True, bidirectional=True, dtype=dtype)


def make_batch(lengths, extra=0, filling=0.0, dim=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = torch.full((len(lengths), max(lengths) + extra, dim), filling, dtype=dtype)
    for row, length in zip(x, lengths, strict=True):
        row[:length] = torch.randn(length, dim, generator=generator, dtype=dtype)
    return x, torch.tensor(lengths)


def packed_gru(gru, x, lengths):
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def gradients(run, gru, x, lengths):
    """Return the output, and the gradients of the input and of every parameter by name."""
    gru, x = copy.deepcopy(gru), x.clone().requires_grad_()
    out = run(gru, x, lengths)
    # weighted by place, so that no two frames can be mistaken for one another
    weights = torch.linspace(0.5, 2, out.numel(), dtype=out.dtype).view_as(out)
    (out.square() * weights).sum().backward()
    return {"out": out.detach(), "x": x.grad} | {n: p.grad for n, p in gru.named_parameters()}


def assert_same(found, wanted, **close):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, msg=lambda m, n=name: f"{n}: {m}", **close)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 2 * SEGMENT + 3), min_size=1, max_size=5),
    st.integers(0, SEGMENT + 1),
)
def test_outputs_and_gradients_are_those_of_the_packed_gru(lengths, extra):
    gru, (x, n) = make_gru(), make_batch(lengths, extra)
    wanted = gradients(packed_gru, gru, x, n)
    assert_same(gradients(bidirectional_gru, gru, x, n), wanted, **CLOSE)


@pytest.mark.parametrize("frames", [SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT])
def test_where_nothing_is_padded_it_is_the_gru(frames):
    gru, (x, lengths) = make_gru(), make_batch([frames, frames])
    wanted = gradients(lambda gru, x, _: gru(x)[0], gru, x, lengths)
    assert_same(gradients(bidirectional_gru, gru, x, lengths), wanted, **CLOSE)


def test_float32_agrees_with_the_packed_gru():
    lengths = [70, 3, 41, 1]
    gru, (x, n) = make_gru(8, 16, torch.float32), make_batch(lengths, 2, 0.0, 8, torch.float32)
    wanted = gradients(packed_gru, gru, x, n)
    assert_same(gradients(bidirectional_gru, gru, x, n), wanted, atol=1e-5, rtol=1e-5)


def test_padding_is_never_read():
    lengths = [2, SEGMENT + 5, 9]
    gru, (zeros, n) = make_gru(), make_batch(lengths, 4)
    nans, _ = make_batch(lengths, 4, float("nan"))
    found, wanted = (gradients(bidirectional_gru, gru, x, n) for x in (nans, zeros))
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


def test_it_is_zero_where_padded_and_no_gradient_comes_from_there():
    x, lengths = make_batch([5, 2], extra=3)
    actual = gradients(bidirectional_gru, make_gru(), x, lengths)
    for name in ("out", "x"):
        assert actual[name][0, 5:].eq(0).all() and actual[name][1, 2:].eq(0).all()
        assert actual[name][0, :5].ne(0).all() and actual[name][1, :2].ne(0).all()


def test_the_same_call_gives_the_same_bits():
    gru, (x, lengths) = (
        make_gru(8, 16, torch.float32),
        make_batch([40, 7, 33], 0, 0, 8, torch.float32),
    )
    first, second = (gradients(bidirectional_gru, gru, x, lengths) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(second[name], value), name


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients_it_gives_the_same(context):
    gru, (x, lengths) = make_gru(), make_batch([4, 40])
    with context():
        actual = bidirectional_gru(gru, x, lengths)
    assert not actual.requires_grad
    torch.testing.assert_close(actual, bidirectional_gru(gru, x, lengths).detach(), **CLOSE)


def test_it_runs_under_autocast():
    gru, (x, lengths) = (
        make_gru(8, 16, torch.float32),
        make_batch([40, 7], 0, 0.0, 8, torch.float32),
    )
    with torch.autocast("cpu", torch.bfloat16):
        actual = gradients(bidirectional_gru, gru, x, lengths)
    wanted = gradients(bidirectional_gru, gru, x, lengths)
    torch.testing.assert_close(actual["out"].float(), wanted["out"], atol=0.03, rtol=0)
    assert actual["weight_hh_l0"].dtype == torch.float32


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_within_autocast_it_can_run_in_float32(kind):
    layer = kind(8, 16, batch_first=True)
    packed = pack_sequence([torch.randn(5, 8), torch.randn(3, 8)])
    with torch.autocast("cpu", torch.bfloat16):
        outputs = in_float32(layer, packed)
        assert not torch.equal(layer(packed)[0].data, outputs.data)
    assert torch.equal(outputs.data, layer(packed)[0].data)


def test_the_gpu_gets_the_packed_sequence():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    gru, (x, lengths) = (
        make_gru(8, 16, torch.float32),
        make_batch([40, 7], 3, 0.0, 8, torch.float32),
    )
    actual = bidirectional_gru(copy.deepcopy(gru).cuda(), x.cuda(), lengths.cuda()).cpu()
    torch.testing.assert_close(actual, packed_gru(gru, x, lengths), atol=1e-4, rtol=1e-4)
