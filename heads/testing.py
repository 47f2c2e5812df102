"""The conformance suite: the tests that every head must pass, whoever wrote it.

Subclass it in a test module and name the architecture:

    class TestMine(HeadConformance):
        name = "mine"
        options = {"hidden": 8}

It tests logits alone; for a head that derives from `Head` set `outputs = EVERY_OUTPUT`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ser.heads.config import HeadConfig, parse_head
from ser.heads.head import Features, Head, build_head, mask_of

CLASSES = 4
EVERY_OUTPUT = {"logits": CLASSES, "other": 1, "neutral_logit": 1, "attributes": 3, "gender": 2}


class HeadConformance:
    """Run against `name` with `options`, for every number of features it allows."""

    name: ClassVar[str]
    options: ClassVar[Mapping[str, object]] = {}
    outputs: ClassVar[Mapping[str, int]] = {"logits": CLASSES}
    counts: ClassVar[tuple[int, ...]] = (1, 2, 3)
    dims: ClassVar[tuple[int, ...]] = (6, 4, 5)
    shift_free: ClassVar[tuple[str, ...]] = ()  # biases that a softmax cancels: gradient 0

    def make(self, count: int) -> nn.Module:
        """Build the head for the first `count` features, in evaluation mode."""
        torch.manual_seed(0)
        names = [f"f{i}" for i in range(count)]
        config: HeadConfig = parse_head({"head": self.name, "features": names} | dict(self.options))
        dims = dict(zip(names, self.dims, strict=False))
        return build_head(config, dims, self.outputs).eval()

    def clips(self, count: int) -> list[dict[str, Tensor]]:
        """Return clips whose features have lengths of their own, one frame among them."""
        generator = torch.Generator().manual_seed(1)
        lengths = [(7, 3, 9), (1, 5, 2), (4, 1, 1), (12, 8, 6)]
        return [
            {
                f"f{i}": torch.randn(frames[i], self.dims[i], generator=generator)
                for i in range(count)
            }
            for frames in lengths
        ]

    def test_a_batch_equals_the_clips_alone(self) -> None:
        """Padding, whatever it holds, changes no output."""
        for count in self.counts:
            module, clips = self.make(count), self.clips(count)
            with torch.inference_mode():
                alone = [module(padded([clip], 0, 0.0)) for clip in clips]
                for extra, filling in ((0, 0.0), (5, 1e3)):
                    batch = module(padded(clips, extra, filling))
                    for key, value in batch.items():
                        expected = torch.cat([out[key] for out in alone])
                        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)

    def test_gradients_of_a_batch_are_those_of_the_clips(self) -> None:
        """The gradient of a padded batch is the sum over the clips alone, and reaches all."""
        for count in self.counts:
            module, clips = self.make(count), self.clips(count)
            batch = _gradients(module, [padded(clips, 3, 7.0)])
            alone = _gradients(module, [padded([clip], 0, 0.0) for clip in clips])
            for name, gradient in batch.items():
                # against the largest of the tensor: what cancels keeps the rounding of its terms
                scale = alone[name].abs().max().clamp_min(1.0)
                torch.testing.assert_close(
                    gradient / scale, alone[name] / scale, atol=1e-5, rtol=1e-5
                )
                if not name.endswith(self.shift_free):
                    assert gradient.abs().max() > 0, f"no gradient reaches {name}"

    def test_it_saves_and_loads(self, tmp_path: Path) -> None:
        """A head read back from safetensors gives the same bits."""
        from safetensors.torch import load_file, save_file

        for count in self.counts:
            module, clips = self.make(count), self.clips(count)
            save_file(module.state_dict(), tmp_path / "head.safetensors")
            torch.manual_seed(9)
            again = self.make(count)
            for parameter in again.parameters():
                nn.init.zeros_(parameter)
            again.load_state_dict(load_file(tmp_path / "head.safetensors"))
            with torch.inference_mode():
                features = padded(clips, 0, 0.0)
                expected = module(features)
                for key, value in again(features).items():
                    assert torch.equal(value, expected[key])

    def test_shapes(self) -> None:
        """Outputs are those requested, `(batch, width)` float32, finite; attributes 1 to 7."""
        for count in self.counts:
            out = self.make(count)(padded(self.clips(count), 2, 0.0))
            assert {key: value.shape for key, value in out.items()} == {
                key: (4, width) for key, width in self.outputs.items()
            }
            assert all(value.dtype == torch.float32 for value in out.values())
            assert all(bool(value.isfinite().all()) for value in out.values())
            if "attributes" in out:
                assert bool(((out["attributes"] >= 1) & (out["attributes"] <= 7)).all())

    def test_mix_changes_the_embedding(self) -> None:
        """A permutation of the embeddings permutes the outputs (heads derived from `Head`)."""
        order = [1, 0, 3, 2]
        for count in self.counts:
            module = self.make(count)
            if not isinstance(module, Head):
                continue
            features = padded(self.clips(count), 0, 0.0)
            with torch.inference_mode():
                plain = module(features)
                same = module(features, lambda embedding: embedding)
                swapped = module(features, lambda embedding: embedding[order])
            for key, value in plain.items():
                assert torch.equal(same[key], value)
                torch.testing.assert_close(swapped[key], value[order], atol=1e-6, rtol=1e-6)
                assert not torch.equal(swapped[key], value)


def padded(clips: list[dict[str, Tensor]], extra: int, filling: float) -> Features:
    """Pad clips to the longest and `extra` frames more, with a value that must not matter."""
    features = {}
    for name in clips[0]:
        lengths = torch.tensor([len(clip[name]) for clip in clips])
        frames = int(lengths.max()) + extra
        batch = torch.full((len(clips), frames, *clips[0][name].shape[1:]), filling)
        for row, clip in zip(batch, clips, strict=True):
            row[: len(clip[name])] = clip[name]
        features[name] = (batch, mask_of(lengths, frames))
    return features


def _gradients(module: nn.Module, batches: list[Features]) -> dict[str, Tensor]:
    module.zero_grad()
    for features in batches:
        outputs = module(features)
        # squares, weighted by place: a plain sum is blind to what a softmax or a norm leaves out
        total = sum(
            (value.square() * torch.arange(1, value.shape[1] + 1)).sum()
            for value in outputs.values()
        )
        torch.as_tensor(total).backward()
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
