"""An LSTM over experts: by hand, in their order, and the conformance suite."""

from typing import ClassVar

import numpy as np
import torch

from ser.heads.architectures.expert_lstm import ExpertLSTM
from ser.heads.options import ExpertLSTMOptions
from ser.heads.testing import EVERY_OUTPUT, HeadConformance, padded


class TestExpertLSTM(HeadConformance):
    name = "expert_lstm"
    options: ClassVar = {"hidden": 8}
    outputs: ClassVar = EVERY_OUTPUT
    counts = (2, 3)


class TestExpertLSTMOfOneExpert(HeadConformance):
    name = "expert_lstm"
    options: ClassVar = {"hidden": 8, "attention": 3}
    outputs: ClassVar = EVERY_OUTPUT
    counts = (1,)
    shift_free = ("lstm.weight_hh_l0",)  # no state comes before the first expert


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_it_is_the_recurrence_over_the_experts_in_the_order_of_the_features():
    torch.manual_seed(0)
    module = ExpertLSTM({"b": 3, "a": 2}, {"logits": 5}, ExpertLSTMOptions(hidden=4)).eval()
    clip = {"a": torch.randn(6, 2), "b": torch.randn(4, 3)}
    names, mask = ("b", "a"), {n: torch.ones(1, len(x), dtype=torch.bool) for n, x in clip.items()}
    w, u, bias_w, bias_u = (p.detach().double().numpy() for p in module.lstm.parameters())
    h = c = np.zeros(4)
    for name, pool, project in zip(names, module.pooling, module.projections, strict=True):
        x = project(pool(clip[name][None], mask[name]))[0].detach().double().numpy()
        i, f, g, o = np.split(w @ x + bias_w + u @ h + bias_u, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    batch = padded([clip], 2, 1e3)
    np.testing.assert_allclose(module.embed(batch)[0].detach(), h, atol=1e-5)
    logits = module.outputs["logits"][1](torch.from_numpy(h).float())
    torch.testing.assert_close(module(batch)["logits"][0], logits, atol=1e-5, rtol=1e-5)
