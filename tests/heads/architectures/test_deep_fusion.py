"""The MEDUSA head: as the released module, as its formulas, and the conformance suite."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.nn.functional import layer_norm

from ser.heads.architectures.deep_fusion import DeepFusion
from ser.heads.options import DeepFusionOptions
from ser.heads.published import READERS, prepared
from ser.heads.testing import EVERY_OUTPUT, HeadConformance, padded
from tests.heads.factories import published_weights

PUBLISHED = json.loads((Path(__file__).parent / "deep_fusion_published.json").read_text())


class TestDeepFusion(HeadConformance):
    name = "deep_fusion"
    options: ClassVar = {"hidden": 8, "feed_forward": 12}
    outputs: ClassVar = EVERY_OUTPUT


def published():
    """Return the released module's weights as our head, and its clips."""
    clips = []
    for seed, frames in enumerate(PUBLISHED["lengths"]):
        rng = np.random.Generator(np.random.PCG64(seed))
        draws = [rng.standard_normal(s).astype("f4") for s in zip(frames, (10, 6), strict=True)]
        clips.append({f"feature-{i}": torch.from_numpy(x) for i, x in enumerate(draws)})
    return prepared(READERS["deep_fusion"](published_weights(PUBLISHED), {}), "deep_fusion"), clips


def test_the_released_module_gives_the_same_outputs_alone_and_in_a_padded_batch():
    module, clips = published()
    with torch.inference_mode():
        alone = [module(padded([clip], 0, 0.0)) for clip in clips]
        batch = module(padded(clips, 4, 3.0))
    for key in ("logits", "attributes"):
        for ours in (torch.cat([out[key] for out in alone]), batch[key]):
            np.testing.assert_allclose(ours.numpy(), PUBLISHED[key], atol=2e-5, rtol=0)


@pytest.mark.parametrize("leg", ["legs.0", "legs.1", "shallow", "deep"])
@pytest.mark.parametrize("layer", ["first", "second"])
def test_uniform_attention_of_any_layer_is_told_from_theirs(leg, layer):
    module, clips = published()
    with torch.inference_mode():
        attention = module.head.get_submodule(f"{leg}.{layer}.self_attn")
        attention.in_proj_weight[: attention.embed_dim] = 0  # the queries
        logits = module(padded(clips, 4, 3.0))["logits"].numpy()
    assert np.abs(logits - PUBLISHED["logits"]).max() > 1e-3


def make(dims):
    torch.manual_seed(0)
    return DeepFusion(dims, {"logits": 5}, DeepFusionOptions(hidden=8, feed_forward=12)).eval()


def transform(layer, x):
    """Apply a post-norm transformer layer of one head (Vaswani et al. 2017) to `(frames, 8)`."""
    attention = layer.self_attn
    q, k, v = (x @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
    context = (q @ k.T / 8**0.5).softmax(dim=-1) @ v
    x = layer_norm(x + attention.out_proj(context), (8,), layer.norm1.weight, layer.norm1.bias)
    forward = layer.linear2(layer.linear1(x).relu())
    return layer_norm(x + forward, (8,), layer.norm2.weight, layer.norm2.bias)


def walk(leg, x):
    h1 = transform(leg.first, leg.projection[2](leg.projection[0](x).relu()))
    h2 = transform(leg.second, h1)
    return h1, h2, h2.mean(dim=0)


def test_it_is_the_formulas_for_one_modality_and_for_two():
    generator = torch.Generator().manual_seed(1)
    frames = {"a": torch.randn(6, 3, generator=generator), "b": torch.randn(4, 2)}
    for names in (["a"], ["a", "b"]):
        module = make({name: frames[name].shape[1] for name in names})
        h1, h2, h3 = zip(
            *(walk(leg, frames[n]) for n, leg in zip(names, module.legs, strict=True)), strict=True
        )
        _, f12, _ = walk(module.shallow, torch.cat(h1))
        _, _, f23 = walk(module.deep, torch.cat([*h2, f12]))
        expected = module.fuse(torch.cat([*h3, f23]))
        batch = padded([{name: frames[name] for name in names}], 3, 1e3)
        torch.testing.assert_close(module.embed(batch)[0], expected, atol=1e-5, rtol=1e-5)
        read = module.outputs["logits"][1]
        torch.testing.assert_close(module(batch)["logits"][0], read(expected.relu()))


def test_without_positions_the_order_of_frames_changes_nothing():
    module = make({"a": 3, "b": 2})
    clip = {"a": torch.randn(6, 3), "b": torch.randn(4, 2)}
    turned = {name: frames.flip(0) for name, frames in clip.items()}
    with torch.inference_mode():
        found, expected = (module(padded([each], 0, 0.0))["logits"] for each in (turned, clip))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_mix_comes_before_the_relu():
    module = make({"a": 3})
    batch = padded([{"a": torch.randn(6, 3)}], 0, 0.0)
    actual = module(batch, lambda embedding: embedding - 1e3)["logits"][0]
    assert torch.equal(actual, module.outputs["logits"][1].bias)
