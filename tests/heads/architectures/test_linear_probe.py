import numpy as np
import torch

from ser.heads.architectures.linear_probe import LinearProbe
from ser.heads.options import LinearProbeOptions
from ser.heads.testing import HeadConformance, padded


class TestLinearProbe(HeadConformance):
    name = "linear_probe"


class TestQuantiles(HeadConformance):
    name = "linear_probe"
    options = {"quantiles": [0.1, 0.9]}  # noqa: RUF012


def test_it_pools_mean_deviation_and_quantiles_of_the_real_frames():
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal((n, 4)).astype(np.float32) for n in (1, 5, 8)]
    probe = LinearProbe({"f": 4}, {"logits": 2}, LinearProbeOptions(quantiles=(0.0, 0.3, 1.0)))
    frames, mask = padded([{"f": torch.from_numpy(clip)} for clip in clips], 2, 50.0)["f"]
    expected = [
        np.concatenate([c.mean(0), c.std(0), *np.quantile(c, [0.0, 0.3, 1.0], axis=0)])
        for c in clips
    ]
    np.testing.assert_allclose(probe.pool(frames, mask), expected, atol=1e-5)
    layers = torch.stack([frames, 2 * frames], dim=2)
    pooled = probe.pool(layers, mask)
    assert pooled.shape == (3, 2, 20)
    np.testing.assert_allclose(pooled[:, 1], 2 * np.array(expected), atol=1e-4)


def test_attributes_are_linear_and_limited_to_their_scale():
    probe = LinearProbe({"f": 1}, {"attributes": 2}, LinearProbeOptions())
    with torch.no_grad():
        probe.outputs["attributes"].weight.copy_(torch.tensor([[1.0, 0.0], [-10.0, 0.0]]))
        probe.outputs["attributes"].bias.copy_(torch.tensor([3.0, 3.0]))
    frames, mask = torch.ones(1, 4, 1), torch.ones(1, 4, dtype=torch.bool)
    assert probe({"f": (frames, mask)})["attributes"].tolist() == [[4.0, 1.0]]
