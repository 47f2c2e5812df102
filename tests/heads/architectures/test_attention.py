"""Attention in another order of its products: the same numbers and gradients."""

import pytest
import torch
from torch import nn

from ser.heads.architectures.attention import cross_attention

LENGTHS = [(9, 3), (3, 9), (5, 5), (1, 7), (7, 1)]


def make(heads, queries, keys, width=8, dropout=0.0):
    torch.manual_seed(queries * 10 + keys)
    attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True).double()
    nn.init.normal_(attention.in_proj_bias)
    nn.init.normal_(attention.out_proj.bias)
    query, other = (torch.randn(3, n, width, dtype=torch.float64) for n in (queries, keys))
    mask = torch.arange(keys) < torch.tensor([[keys], [max(1, keys - 2)], [1]])
    return attention, query.requires_grad_(), other.requires_grad_(), mask


def gradients(out, *of):
    return torch.autograd.grad((out * torch.arange(out.numel()).view_as(out)).sum(), of)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_it_is_what_pytorch_gives(heads, queries, keys):
    attention, query, other, mask = make(heads, queries, keys)
    theirs = attention(query, other, other, key_padding_mask=~mask, need_weights=False)[0]
    ours = cross_attention(attention, query, other, mask)
    torch.testing.assert_close(ours, theirs)
    of = (query, other, *attention.parameters())
    for a, b in zip(gradients(ours, *of), gradients(theirs, *of), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("queries", "keys"), [(9, 3), (3, 9)])
def test_dropout_falls_on_the_weights(queries, keys):
    attention, query, other, mask = make(1, queries, keys, width=64, dropout=0.5)
    plain = cross_attention(attention.eval(), query, other, mask)
    attention.train()
    torch.manual_seed(0)
    often = (x.detach().repeat(4000, *[1] * (x.dim() - 1)) for x in (query, other, mask))
    drawn = cross_attention(attention, *often).unflatten(0, (4000, 3))
    # the third clip has one key: it is seen doubled, or not at all and only the bias is left
    alone = drawn[:, 2] - attention.out_proj.bias
    seen = 2 * (plain[2] - attention.out_proj.bias)
    kept = (alone - seen).abs().amax(dim=2) < 1e-9
    gone = alone.abs().amax(dim=2) < 1e-9
    assert bool((kept ^ gone).all())
    assert float(kept.double().mean()) == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(drawn.mean(0), plain, atol=0.1, rtol=0.1)
