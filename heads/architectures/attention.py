"""Attention of a long sequence over a short one, or the other way round, cheap on a CPU.

nn.MultiheadAttention projects queries, keys, values and outputs where they are. Where one
sequence is 14 tokens and the other 285 frames, nearly all of its time goes into projecting frames
to and fro. Matrix products may be taken in any order: q·(W k) = (Wᵀ q)·k and (P v) Wₒ = P (v Wₒ),
so here every projection is done on the shorter sequence, with the same parameters and, but for
rounding, the same result. With 285 frames, 14 tokens and 1024 channels forward and backward take a
fifth of the time. The price is one score vector of full width a head, so for many heads over
sequences of like length the usual order is better; on a GPU its fused kernel is.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def cross_attention(
    attention: nn.MultiheadAttention, query: Tensor, other: Tensor, mask: Tensor
) -> Tensor:
    """Return what `attention` gives for queries of one sequence over another, masked.

    `query` is `(batch, queries, width)`, `other` `(batch, keys, width)`, `mask` `(batch, keys)`
    bool, True where a key is real. `attention` has `batch_first` and biases.
    """
    # an exported graph has one order for all lengths
    if query.is_cuda or torch.onnx.is_in_onnx_export() or _is_dear(attention, query, other):
        usual: Tensor = attention(query, other, other, key_padding_mask=~mask, need_weights=False)[
            0
        ]
        return usual
    attend = _short_keys if other.shape[1] <= query.shape[1] else _short_queries
    return attend(attention, query, other, mask)


def _is_dear(attention: nn.MultiheadAttention, query: Tensor, other: Tensor) -> bool:
    """Return whether projecting on the shorter sequence costs more than the usual order."""
    queries, keys = query.shape[1], other.shape[1]
    scores = queries * keys * (attention.num_heads - 1)
    return bool(scores >= abs(queries - keys) * attention.embed_dim)


def _short_keys(
    attention: nn.MultiheadAttention, query: Tensor, other: Tensor, mask: Tensor
) -> Tensor:
    width, heads = attention.embed_dim, attention.num_heads
    (wq, wk, wv), (bq, bk, bv) = _parameters(attention)
    key = functional.linear(other, wk, bk).unflatten(2, (heads, -1))
    value = functional.linear(other, wv, bv).unflatten(2, (heads, -1))
    wide_key = torch.einsum("bshd,hde->bhse", key, wq.view(heads, -1, width))
    out = attention.out_proj.weight.view(width, heads, -1)
    wide_value = torch.einsum("bshd,ehd->bhse", value, out)
    bias = torch.einsum("bshd,hd->bhs", key, bq.view(heads, -1)).unsqueeze(2)
    weights = _weights(attention, query.unsqueeze(1) @ wide_key.mT + bias, mask)
    return (weights @ wide_value).sum(dim=1) + attention.out_proj.bias


def _short_queries(
    attention: nn.MultiheadAttention, query: Tensor, other: Tensor, mask: Tensor
) -> Tensor:
    width, heads = attention.embed_dim, attention.num_heads
    (wq, wk, wv), (bq, _, bv) = _parameters(attention)
    projected = functional.linear(query, wq, bq).unflatten(2, (heads, -1))
    # the keys' bias adds the same to all scores of a query, which the softmax cancels
    wide = torch.einsum("bqhd,hde->bhqe", projected, wk.view(heads, -1, width))
    weights = _weights(attention, wide @ other.unsqueeze(1).mT, mask)
    values = torch.einsum("bhqe,hde->bqhd", weights @ other.unsqueeze(1), wv.view(heads, -1, width))
    # with dropout the weights of a query do not sum to 1, and its values' bias counts as much
    values = values + weights.sum(dim=-1).mT.unsqueeze(3) * bv.view(heads, -1)
    out: Tensor = attention.out_proj(values.flatten(2))
    return out


def _parameters(attention: nn.MultiheadAttention) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)


def _weights(attention: nn.MultiheadAttention, scores: Tensor, mask: Tensor) -> Tensor:
    """Return the weights `(batch, heads, queries, keys)` of unscaled scores."""
    scaled = scores / attention.head_dim**0.5
    weights = scaled.masked_fill(~mask[:, None, None], float("-inf")).softmax(dim=-1)
    return functional.dropout(weights, attention.dropout, attention.training)
