"""UFG's MDAT: as the released module, as its formulas, and the conformance suite."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from ser.corpus.errors import UserError
from ser.heads.architectures.mdat import MDAT, CoAttention, GraphAttention, Pool
from ser.heads.options import MDATOptions
from ser.heads.published import READERS, prepared
from ser.heads.testing import EVERY_OUTPUT, HeadConformance, padded
from tests.heads.factories import published_weights

SMALL = {"hidden": 8, "attention_heads": 2, "feed_forward": 12, "classifier": 6}
PUBLISHED = json.loads((Path(__file__).parent / "mdat_published.json").read_text())
ORDER = [0, 6, 4, 7, 3, 2, 1, 5]  # of angry, contempt, disgust, fear, happy, neutral, sad, surprise


class TestMDAT(HeadConformance):
    name = "mdat"
    options: ClassVar = SMALL
    outputs: ClassVar = EVERY_OUTPUT
    shift_free: ClassVar = ("pools.0.score.bias", "pools.1.score.bias")


class TestMean(HeadConformance):
    name = "mdat"
    options: ClassVar = SMALL | {"pooling": "mean"}


class TestSteps(HeadConformance):
    name = "mdat"
    options: ClassVar = SMALL | {"steps": {"f2": 4}}
    counts: ClassVar = (3,)
    dims: ClassVar = (6, 4, 1)
    shift_free: ClassVar = ("pools.0.score.bias", "pools.1.score.bias")


def published():
    """Return the released module's weights as our head, its clips and its logits."""
    clips = []
    for seed, (audio, text, pitch) in enumerate(PUBLISHED["lengths"]):
        rng = np.random.Generator(np.random.PCG64(seed))
        speech = rng.standard_normal((audio, 10)).astype(np.float32)
        tokens = rng.standard_normal((text, 6)).astype(np.float32)
        steps = rng.integers(1, 8, (pitch, 1)).astype(np.float32)
        clip = {"speech": speech, "text": tokens, "pitch": steps}
        clips.append({name: torch.from_numpy(values) for name, values in clip.items()})
    module = prepared(READERS["mdat"](published_weights(PUBLISHED), {}), "mdat")
    return module, clips, np.array(PUBLISHED["logits"])[:, ORDER]


def test_the_released_module_gives_the_same_logits_alone_and_in_a_padded_batch():
    module, clips, theirs = published()
    with torch.inference_mode():
        alone = torch.cat([module(padded([clip], 0, 0.0))["logits"] for clip in clips])
        batch = module(padded(clips, 4, 3.0))["logits"]
    for ours in (alone, batch):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "part",
    [
        "graphs.0.score",
        "graphs.1.projection",
        "co_attention.first",
        "pools.0.score",
        "transformers.1.self_attn.out_proj",
        "projections.2.0.vectors",
    ],
)
def test_without_one_of_its_parts_the_logits_are_others(part):
    module, clips, theirs = published()
    with torch.inference_mode():
        module.head.get_submodule(part).weight.zero_()
        logits = module(padded(clips, 4, 3.0))["logits"].numpy()
    assert np.abs(logits - theirs).max() > 1e-3


def test_attentions_are_as_their_formulas():
    torch.manual_seed(0)
    graph, both, pool = GraphAttention(4), CoAttention(4), Pool(4)
    x, y = torch.randn(1, 3, 4), torch.randn(1, 2, 4)
    masks = torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)
    h = x[0] @ graph.projection.weight.T
    pairs = [[torch.cat([h[i], h[j]]) @ graph.score.weight[0] for j in range(3)] for i in range(3)]
    scores = torch.stack(
        [torch.stack([torch.where(v > 0, v, 0.2 * v) for v in row]) for row in pairs]
    )
    torch.testing.assert_close(graph(x, masks[0])[0], scores.softmax(1) @ h)
    affinity = both.first(x[0]) @ both.second(y[0]).T
    to_x, to_y = both(x, y, masks)
    torch.testing.assert_close(to_x[0], x[0] + affinity.softmax(1) @ y[0])
    torch.testing.assert_close(to_y[0], y[0] + affinity.T.softmax(1) @ x[0])
    torch.testing.assert_close(pool(x, masks[0])[0], (pool.score(x[0]).softmax(0) * x[0]).sum(0))


def test_the_attention_that_is_shown_sums_to_one_over_the_real_frames():
    module = MDAT({"a": 3, "b": 2, "c": 5}, {"logits": 2}, MDATOptions(**SMALL)).eval()
    clips = [
        {"a": torch.randn(n, 3), "b": torch.randn(4, 2), "c": torch.ones(2, 5)} for n in (6, 2)
    ]
    weights = module.attention_of(padded(clips, 1, 9.0))
    assert list(weights) == ["a", "b"]
    torch.testing.assert_close(weights["a"].sum(dim=1), torch.ones(2))
    assert weights["a"][1, 2:].eq(0).all()


def test_steps_are_of_one_whole_number_and_heads_divide_the_width():
    with pytest.raises(UserError, match="steps: a has 3 values per frame, and steps are of one"):
        MDAT({"a": 3}, {"logits": 2}, MDATOptions(**SMALL, steps={"a": 4}))
    with pytest.raises(ValueError, match="attention_heads: 3 do not divide hidden: 8"):
        MDATOptions(**SMALL | {"attention_heads": 3})
