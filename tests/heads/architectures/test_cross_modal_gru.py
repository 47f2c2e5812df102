"""The published head: golden parity, and the conformance suite."""

import json
import os
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from ser.heads.peers import unicamp
from ser.heads.published import prepared
from ser.heads.testing import EVERY_OUTPUT, HeadConformance, padded
from tests.heads.factories import weights_by_rule

SHARED = os.environ.get("SER_SHARED")
PUBLISHED = ["bimodal_wce", "bimodal_wce_sml", "trimodal_wce", "trimodal_wce_sml"]


class TestCrossModalGRU(HeadConformance):
    name = "cross_modal_gru"
    options: ClassVar = {"hidden": 8}
    outputs: ClassVar = EVERY_OUTPUT
    shift_free = ("pooling.bias",)


class TestCrossModalGRUWithHeads(HeadConformance):
    name = "cross_modal_gru"
    options: ClassVar = {"hidden": 8, "attention_heads": {"f2": 2}}
    outputs: ClassVar = EVERY_OUTPUT
    shift_free = ("pooling.bias",)
    counts = (3,)


@pytest.mark.skipif(not SHARED, reason="SER_SHARED is not set")
@pytest.mark.parametrize("tag", PUBLISHED)
def test_it_equals_the_published_code_alone_and_in_a_padded_batch(tag):
    golden = Path(SHARED) / "golden"
    about = json.loads((golden / "heads.json").read_text())[tag]
    shapes = next(v for v in about.values() if isinstance(v, dict))
    names = ("speech", "text", "prosody")[: len(about["dims"])]
    heads = dict(zip(names, about["heads_of_attention"], strict=True))
    released = unicamp(weights_by_rule(shapes), heads)
    dims, outputs = dict(zip(names, about["dims"], strict=True)), released.outputs
    assert (released.dims, outputs["logits"]) == (dims, about["classes"])
    assert ("neutral_logit" in outputs) == ("sml" in tag)
    module = prepared(released, "cross_modal_gru")
    tensors = np.load(golden / f"head_{tag}.npz")
    clips = [
        {
            name: torch.from_numpy(tensors[f"input_{clip}_{i}"]).reshape(-1, dims[name])
            for i, name in enumerate(names)
        }
        for clip in range(3)
    ]
    with torch.inference_mode():
        alone = [module(padded([clip], 0, 0.0)) for clip in clips]
        batch = module(padded(clips, 4, 9.0))
    for key in outputs:
        for found in (torch.cat([out[key] for out in alone]), batch[key]):
            np.testing.assert_allclose(found.numpy(), tensors[key], atol=1e-5, rtol=0)
