"""Early fusion and double attention: against the formulas, and the conformance suite."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from ser.heads.architectures.early_mha import EarlyMHA, SubVectorAttention
from ser.heads.options import EarlyMHAOptions
from ser.heads.testing import EVERY_OUTPUT, HeadConformance, padded

SMALL = {"hidden": 8, "attention_heads": 2, "classifier": 6, "classifier_layers": 2}


class TestFull(HeadConformance):
    name = "early_mha"
    options: ClassVar = SMALL
    outputs: ClassVar = EVERY_OUTPUT


class TestSubVector(HeadConformance):
    name = "early_mha"
    options: ClassVar = SMALL | {"attention": "sub_vector"}
    outputs: ClassVar = EVERY_OUTPUT


class TestAdapterOfSpeech(HeadConformance):
    name = "early_mha"
    options: ClassVar = SMALL | {"hidden": 6, "adapter": "first"}
    outputs: ClassVar = EVERY_OUTPUT
    dims: ClassVar = (6, 6, 5)


def test_features_of_the_width_have_a_layer_norm_alone_unless_an_adapter_is_asked_for():
    for adapter, sizes in (("needed", [1, 1, 3]), ("first", [3, 1, 3]), ("all", [3, 3, 3])):
        options = EarlyMHAOptions(**SMALL | {"adapter": adapter})
        module = EarlyMHA({"a": 8, "b": 8, "c": 5}, {"logits": 4}, options)
        assert [len(parts) for parts in module.adapters] == sizes


def make(**options):
    torch.manual_seed(0)
    module = EarlyMHA({"a": 3, "b": 5}, {"logits": 4}, EarlyMHAOptions(**SMALL | options)).eval()
    clip = {"a": torch.randn(4, 3), "b": torch.randn(2, 5)}
    adapted = [adapt(frames) for adapt, frames in zip(module.adapters, clip.values(), strict=True)]
    return module, padded([clip], 3, 1e3), torch.cat(adapted).detach().double().numpy()


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum(axis=0)


def numbers(parameter):
    return parameter.detach().double().numpy()


def test_full_attention_is_the_formula_over_the_frames_of_all_modalities():
    module, batch, x = make()
    attention = module.attention
    contexts = []
    for head in range(2):
        rows = slice(8 * head, 8 * head + 8)  # every head is as wide as the frames
        q, k, v = (
            x @ numbers(project.weight)[rows].T
            for project in (attention.queries, attention.keys, attention.values)
        )
        contexts.append(softmax((q @ k.T / np.sqrt(8)).T).T @ v)
    joined = np.concatenate(contexts, axis=1)
    y = joined @ numbers(attention.unify.weight).T + numbers(attention.unify.bias)
    expected = softmax(y @ numbers(module.pooling.weight)[0]) @ y
    actual = module.embed(batch)[0].detach()
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_sub_vector_attention_is_the_formula_of_double_multi_head_attention():
    module, batch, x = make(attention="sub_vector")
    queries = numbers(module.attention.queries)
    c = np.stack(
        [
            softmax(x[:, i : i + 4] @ u / np.sqrt(2)) @ x[:, i : i + 4]
            for i, u in zip((0, 4), queries, strict=True)
        ]
    )
    expected = softmax(c @ numbers(module.pooling.weight)[0]) @ c
    actual = module.embed(batch)[0].detach()
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_weights_sum_to_one_over_the_real_frames_of_all_modalities():
    attention = SubVectorAttention(8, 2)
    mask = torch.tensor([[True, True, False, True], [False, False, True, False]])
    weights = attention.weights(torch.randn(2, 4, 2, 4), mask)
    assert bool((weights[~mask] == 0).all()) and bool((weights[mask] > 0).all())
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 2))


def test_the_classifier_is_the_published_one():
    module, _, _ = make()
    kinds = [nn.Dropout] + 2 * [nn.Linear, nn.LayerNorm, nn.GELU, nn.Dropout] + [nn.Linear]
    assert [type(layer) for layer in module.outputs["logits"]] == kinds


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="attention_heads: 3 sub-vectors do not divide hidden: 8;"):
        EarlyMHAOptions(hidden=8, attention_heads=3, attention="sub_vector")
    assert EarlyMHAOptions(hidden=8, attention_heads=3).attention == "full"
