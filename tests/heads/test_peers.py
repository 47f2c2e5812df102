"""The challenge teams' own heads: outputs and gradients equal theirs, alone and padded."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ser.heads.published import READERS, prepared
from ser.heads.testing import padded
from tests.heads.factories import weights_by_rule

SHARED = os.environ.get("SER_SHARED")
PEERS = Path(SHARED or "") / "golden" / "peers"
HEADS = {
    "baseline": "attentive_stats",
    "sail": "conv_pool",
    "medusa": "deep_fusion",
    "bsc_upc": "early_mha",
    "unicamp": "cross_modal_gru",
}
ABOUT = json.loads((PEERS / "peers.json").read_text()) if SHARED else {}
TAGS = list(ABOUT)


def state_of(tag):
    """Make the weights of a released head."""
    if tag == "unicamp_padded_text":  # whose weights are those of another golden head
        heads = json.loads((PEERS.parent / "heads.json").read_text())["bimodal_wce"]
        shapes = next(value for value in heads.values() if isinstance(value, dict))
        return weights_by_rule(shapes)
    state = weights_by_rule(ABOUT[tag]["state_dict"])
    for name in ABOUT[tag].get("plus_one", ()):
        state[name] = state[name] + 1
    if tag == "sail_whisper":  # as in the released file
        state["embed_positions.weight"] = torch.zeros(2, 2)
    return state


def load(tag):
    """Return the released head as one of ours, and the names of its features."""
    head = next(head for name, head in HEADS.items() if tag.startswith(name))
    released = READERS[head](state_of(tag), {})
    return prepared(released, head), list(released.dims)


def clips_of(tensors, dims):
    """Return the clips, frames `(frames, dim)` or `(frames, layers, dim)`."""
    return [
        {
            name: torch.from_numpy(values.swapaxes(0, 1) if values.ndim == 3 else values)
            for i, name in enumerate(dims)
            for values in [tensors[f"input_{clip}_{i}"]]
        }
        for clip in range(3)
    ]


def expected(tag, tensors):
    """Return their outputs, by our names and in our orders."""
    if tag.startswith("sail"):
        order = [0, 6, 4, 7, 3, 2, 1, 5]  # of Anger, Contempt, Disgust, Fear, Happiness, Neutral, …
        rated = [tensors[name] for name in ("arousal", "valence", "dominance")]
        attributes = 1 + 6 * np.concatenate(rated, axis=1)
        logits = tensors["logits"]
        values = {"logits": logits[:, order], "other": logits[:, 8:], "attributes": attributes}
        return values | {"secondary": tensors["detailed"]}
    values = {n: tensors[n] for n in ("logits", "attributes") if n in tensors.files}
    if tag == "baseline_attributes":
        values["attributes"] = np.clip(1 + 6 * values["attributes"][:, [0, 2, 1]], 1, 7)
    return values


@pytest.mark.skipif(not SHARED, reason="SER_SHARED is not set")
@pytest.mark.parametrize("tag", TAGS)
def test_a_released_head_gives_its_own_outputs_alone_and_in_a_padded_batch(tag):
    module, names = load(tag)
    tensors = np.load(PEERS / f"head_{tag}.npz")
    clips = clips_of(tensors, names)
    with torch.inference_mode():
        alone = [module(padded([clip], 0, 0.0)) for clip in clips]
        batch = module(padded(clips, 4, 9.0))
    theirs = expected(tag, tensors)
    assert set(theirs) == set(batch)
    for key, values in theirs.items():
        for ours in (torch.cat([out[key] for out in alone]), batch[key]):
            np.testing.assert_allclose(ours.numpy(), values, atol=1e-5, rtol=0)


@pytest.mark.skipif(not SHARED, reason="SER_SHARED is not set")
@pytest.mark.parametrize("tag", TAGS)
def test_every_weight_has_a_gradient_and_padding_does_not_change_it(tag):
    module, names = load(tag)
    clips = clips_of(np.load(PEERS / f"head_{tag}.npz"), names)

    def gradients(batches):
        module.zero_grad()
        for features in batches:
            sum(v.square().sum() for v in module(features).values()).backward()
        return {name: p.grad.clone() for name, p in module.named_parameters()}

    batch = gradients([padded(clips, 4, 9.0)])
    alone = gradients([padded([clip], 0, 0.0) for clip in clips])
    for name, gradient in batch.items():
        scale = alone[name].abs().max().clamp_min(1.0)
        torch.testing.assert_close(gradient / scale, alone[name] / scale, atol=1e-5, rtol=1e-5)


# the scores of an attention; the plain weights of BSC-UPC are too weak to show theirs, and MEDUSA's
# those of its joint legs (tests/heads/architectures/test_deep_fusion.py has stronger ones)
ATTENTION = {
    "baseline_categorical": "pooling.0.score",
    "baseline_attributes": "pooling.0.score",
    "medusa": "legs.0.first.self_attn",
    "medusa_three": "legs.2.first.self_attn",
    "bsc_upc_sub_vector_plus_one": "attention",
    "bsc_upc_sub_vector_speech_adapter_plus_one": "pooling",
    "bsc_upc_full_plus_one": "attention.queries",
    "bsc_upc_full_adapter_layers_plus_one": "attention.keys",
    "unicamp_padded_text": "modalities.1.pooling",
}


@pytest.mark.skipif(not SHARED, reason="SER_SHARED is not set")
@pytest.mark.parametrize("tag", ATTENTION)
def test_uniform_attention_is_told_from_theirs(tag):
    module, names = load(tag)
    tensors = np.load(PEERS / f"head_{tag}.npz")
    part = module.head.get_submodule(ATTENTION[tag])
    with torch.inference_mode():
        for name, weights in part.named_parameters(recurse=False):
            rows = len(weights) // 3 if name == "in_proj_weight" else len(weights)  # the queries
            if not name.endswith("bias"):
                weights[:rows] = 0
        outputs = module(padded(clips_of(tensors, names), 4, 9.0))
    theirs = expected(tag, tensors)
    assert max(np.abs(outputs[key].numpy() - theirs[key]).max() for key in theirs) > 1e-4


@pytest.mark.skipif(not SHARED, reason="SER_SHARED is not set")
def test_equal_weights_of_layers_are_told_from_those_of_sail():
    module, names = load("sail")
    tensors = np.load(PEERS / "head_sail.npz")
    with torch.inference_mode():
        module.inputs[0].layer_weights.zero_()
        outputs = module(padded(clips_of(tensors, names), 4, 9.0))
    assert np.abs(outputs["secondary"].numpy() - tensors["detailed"]).max() > 1e-3


@pytest.mark.skipif(not SHARED, reason="SER_SHARED is not set")
def test_real_rows_of_text_alone_give_the_logits_that_unicamp_has_without_padding():
    module, names = load("unicamp_padded_text")
    tensors = np.load(PEERS / "head_unicamp_padded_text.npz")
    rows = ABOUT["unicamp_padded_text"]["real_text_rows"]
    clips = zip(clips_of(tensors, names), rows, strict=True)
    real = [clip | {"text": clip["text"][:n]} for clip, n in clips]
    with torch.inference_mode():
        logits = module(padded(real, 4, 9.0))["logits"].numpy()
    np.testing.assert_allclose(logits, tensors["logits_unpadded"], atol=1e-5, rtol=0)
