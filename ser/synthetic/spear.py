"""SPEAR with random weights, as it is published, of any size."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BANDS = 128
QUERY, PLACE, VALUE = 32, 4, 12  # values of a head, in all published models
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class SpearSizes:
    """The sizes of SPEAR; each stack has its layers, its step between frames, and its kernel."""

    dim: int
    hidden: int
    heads: int
    layers: Sequence[int]
    steps: Sequence[int]
    kernels: Sequence[int]
    places: int = 48

    def config(self) -> dict[str, object]:
        """Return the config.json, which has a size of each stack as a string."""
        stacks = len(self.layers)
        by_stack = {
            "num_encoder_layers": self.layers,
            "downsampling_factor": self.steps,
            "cnn_module_kernel": self.kernels,
            "encoder_dim": [self.dim] * stacks,
            "feedforward_dim": [self.hidden] * stacks,
            "num_heads": [self.heads] * stacks,
        }
        return {
            "architectures": ["SpearModel"],
            "model_type": "spear",
            "num_mel_bins": BANDS,
            "output_downsampling_factor": 1,
            "pos_dim": self.places,
            "causal": False,
            **{key: ",".join(map(str, values)) for key, values in by_stack.items()},
        }


def write_spear(folder: Path, sizes: SpearSizes) -> None:
    """Write SPEAR with random weights, and a tensor of training."""
    import torch
    from safetensors.torch import save_file

    (folder / "config.json").write_text(json.dumps(sizes.config()))
    tensors = {"model.model.mask_emb": torch.zeros(BANDS)}
    for name, shape in spear_shapes(sizes).items():
        tensor = torch.randn(shape) * (math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1)
        tensors[f"model.model.{name}"] = 0.5 + tensor if "scale" in name else tensor
    save_file(tensors, folder / "model.safetensors")


def spear_shapes(sizes: SpearSizes) -> Shapes:
    """Return the shapes of SPEAR's tensors."""
    dim = sizes.dim
    width = ((BANDS - 1) // 2 - 1) // 2  # of the bands, after two strides
    shapes: Shapes = {
        **with_bias("encoder_embed.conv.0", 8, 1, 3, 3),
        **with_bias("encoder_embed.conv.4", 32, 8, 3, 3),
        **with_bias("encoder_embed.conv.7", 128, 32, 3, 3),
        **with_bias("encoder_embed.convnext.depthwise_conv", 128, 1, 7, 7),
        **with_bias("encoder_embed.convnext.pointwise_conv1", 384, 128, 1, 1),
        **with_bias("encoder_embed.convnext.pointwise_conv2", 128, 384, 1, 1),
        **with_bias("encoder_embed.out", dim, 128 * width),
        "encoder_embed.out_norm.bias": (dim,),
        "encoder_embed.out_norm.log_scale": (),
    }
    stacks = zip(sizes.layers, sizes.steps, sizes.kernels, strict=True)
    for number, (layers, step, kernel) in enumerate(stacks):
        stack = f"encoder.encoders.{number}"
        if step > 1:
            shapes |= {f"{stack}.downsample.bias": (step,)}
            shapes |= {f"{stack}.out_combiner.bypass_scale": (dim,)}
            stack += ".encoder"
        for i in range(layers):
            layer = _layer_shapes(sizes, kernel)
            shapes |= {f"{stack}.layers.{i}.{name}": shape for name, shape in layer.items()}
    return shapes


def _layer_shapes(sizes: SpearSizes, kernel: int) -> Shapes:
    dim, heads, hidden = sizes.dim, sizes.heads, sizes.hidden
    attention = "self_attn_weights"
    shapes: Shapes = {
        **with_bias(f"{attention}.in_proj", heads * (2 * QUERY + PLACE), dim),
        f"{attention}.linear_pos.weight": (heads * PLACE, sizes.places),
        **with_bias("nonlin_attention.in_proj", 3 * (3 * dim // 4), dim),
        **with_bias("nonlin_attention.out_proj", dim, 3 * dim // 4),
        "norm.bias": (dim,),
        "norm.log_scale": (),
        "bypass_scale": (dim,),  # of no use, but published
        "bypass.bypass_scale": (dim,),
        "bypass_mid.bypass_scale": (dim,),
    }
    for name, inner in (("1", 3 * hidden // 4), ("2", hidden), ("3", 5 * hidden // 4)):
        shapes |= with_bias(f"feed_forward{name}.in_proj", inner, dim)
        shapes |= with_bias(f"feed_forward{name}.out_proj", dim, inner)
    for name in ("1", "2"):
        shapes |= with_bias(f"self_attn{name}.in_proj", heads * VALUE, dim)
        shapes |= with_bias(f"self_attn{name}.out_proj", dim, heads * VALUE)
        shapes |= with_bias(f"conv_module{name}.in_proj", 2 * dim, dim)
        shapes |= with_bias(f"conv_module{name}.depthwise_conv", dim, 1, kernel)
        shapes |= with_bias(f"conv_module{name}.out_proj", dim, dim)
    return shapes


def with_bias(name: str, *shape: int) -> Shapes:
    """Return the shapes of a weight and its bias."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
