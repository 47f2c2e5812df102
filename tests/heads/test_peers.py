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
}
ABOUT = json.loads((PEERS / "peers.json").read_text()) if SHARED else {}
TAGS = [tag for tag in ABOUT if tag != "unicamp_padded_text"]  # whose weights are another tag's


def state_of(tag):
    """Make the weights of a released head."""
    state = weights_by_rule(ABOUT[tag]["state_dict"])
    for name in ABOUT[tag].get("plus_one", ()):
        state[name] = state[name] + 1
    if tag == "sail_whisper":  # as in the released file
        state["embed_positions.weight"] = torch.zeros(2, 2)
    return state


def load(tag):
    """Return the released head as one of ours, and the record of its weights."""
    head = next(head for name, head in HEADS.items() if tag.startswith(name))
    released = READERS[head](state_of(tag), {})
    return prepared(released, head), released


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
    module, released = load(tag)
    tensors = np.load(PEERS / f"head_{tag}.npz")
    clips = clips_of(tensors, released.dims)
    with torch.inference_mode():
        alone = [module(padded([clip], 0, 0.0)) for clip in clips]
        batch = module(padded(clips, 4, 9.0))
    theirs = expected(tag, tensors)
    assert set(theirs) == set(batch) >= set(released.outputs)
    for key, values in theirs.items():
        for ours in (torch.cat([out[key] for out in alone]), batch[key]):
            np.testing.assert_allclose(ours.numpy(), values, atol=1e-5, rtol=0)


@pytest.mark.skipif(not SHARED, reason="SER_SHARED is not set")
@pytest.mark.parametrize("tag", TAGS)
def test_every_weight_has_a_gradient_and_padding_does_not_change_it(tag):
    module, released = load(tag)
    clips = clips_of(np.load(PEERS / f"head_{tag}.npz"), released.dims)

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


@pytest.mark.skipif(not SHARED, reason="SER_SHARED is not set")
@pytest.mark.parametrize("tag", [t for t in TAGS if t.endswith("plus_one") and "full" in t])
def test_uniform_attention_is_told_from_theirs(tag):
    module, released = load(tag)
    tensors = np.load(PEERS / f"head_{tag}.npz")
    with torch.inference_mode():
        module.head.attention.queries.weight.zero_()
        logits = module(padded(clips_of(tensors, released.dims), 4, 9.0))["logits"].numpy()
    assert np.abs(logits - tensors["logits"]).max() > 1e-3


@pytest.mark.skipif(not SHARED, reason="SER_SHARED is not set")
def test_text_padded_to_80_rows_gives_the_logits_that_unicamp_published_and_real_rows_other_ones():
    about = ABOUT["unicamp_padded_text"]
    heads = json.loads((PEERS.parent / "heads.json").read_text())["bimodal_wce"]
    shapes = next(value for value in heads.values() if isinstance(value, dict))
    module = prepared(READERS["cross_modal_gru"](weights_by_rule(shapes), {}), "cross_modal_gru")
    tensors = np.load(PEERS / "head_unicamp_padded_text.npz")
    clips = clips_of(tensors, ["speech", "text"])
    rows = about["real_text_rows"]
    real = [clip | {"text": clip["text"][:n]} for clip, n in zip(clips, rows, strict=True)]
    for key, batch in (("logits", clips), ("logits_unpadded", real)):
        with torch.inference_mode():
            logits = module(padded(batch, 4, 9.0))["logits"].numpy()
        np.testing.assert_allclose(logits, tensors[key], atol=1e-5, rtol=0)
