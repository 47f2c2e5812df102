"""emotion2vec and emotion2vec+ as a torch module that reads the published weights.

Ma et al. 2024, "emotion2vec: Self-Supervised Pre-Training for Speech Emotion Representation": the
architecture is that of data2vec 2.0 (Baevski et al. 2023). Convolutions of wav2vec 2.0 with layer
norms; convolutions over time as positions; a norm; transformer blocks with a norm after each half,
whose attention falls off linearly with distance (ALiBi, a learned factor for each head). Extra
tokens precede the frames and are left out of the result.

All sizes follow from the tensors. Weights with another layout are refused.
"""

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, pad, scaled_dot_product_attention

from ser.extract.kinds.own_model import OwnModel, published_errors, renamed
from ser.extract.models import EMOTION2VEC, own_file

STRIDES = (5, 2, 2, 2, 2, 2, 2)  # 320 samples in all
NAMES = (  # of the published tensors, and here
    (r"^d2v_model\.", ""),
    (r"^modality_encoders\.AUDIO\.", ""),
    (r"^local_encoder\.conv_layers\.(\d+)\.0\.", r"convolutions.\1."),
    (r"^local_encoder\.conv_layers\.(\d+)\.2\.1\.", r"convolution_norms.\1."),
    (r"^project_features\.1\.", "projection_norm."),
    (r"^project_features\.2\.", "projection."),
    (r"^context_encoder\.norm\.", "norm."),
    (r"^blocks\.", "later_blocks."),
    (r"^context_encoder\.blocks\.", "blocks."),
)
NOT_NEEDED = re.compile(r"(decoder|proj|_ema)\.|_ema$")  # of training, or of the nine classes


class Block(nn.Module):
    """Self-attention with a bias, and two linear layers, each followed by a norm."""

    def __init__(self, dim: int, hidden: int, heads: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim), "proj": nn.Linear(dim, dim)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, hidden), "fc2": nn.Linear(hidden, dim)})

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return states `(batch, tokens, dim)`; the bias is `(1, heads, tokens, tokens)`."""
        x = self.norm1(x + self.attention(x, bias))
        states: Tensor = self.norm2(x + self.linear(x))
        return states

    def attention(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return what each state attends to."""
        parts = self.attn["qkv"](x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts.unbind(0)
        attended = scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        mixed: Tensor = self.attn["proj"](attended.transpose(1, 2).flatten(2))
        return mixed

    def linear(self, x: Tensor) -> Tensor:
        """Return the output of the two linear layers."""
        states: Tensor = self.mlp["fc2"](gelu(self.mlp["fc1"](x)))
        return states


class Emotion2vec(OwnModel):
    """The network, of the sizes of published tensors under the names of this module."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        dim = len(tensors["norm.weight"])
        self.heads = heads = tensors["alibi_scale"].shape[2]
        depth = count(tensors, "blocks")
        hidden = len(tensors["blocks.0.mlp.fc1.bias"])
        kernels = [tensors[f"convolutions.{i}.weight"] for i in range(len(STRIDES))]
        positions = [tensors[f"positions.{i}.weight"] for i in range(count(tensors, "positions"))]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(k.shape[1], k.shape[0], k.shape[2], stride, bias=False)
            for k, stride in zip(kernels, STRIDES, strict=True)
        )
        self.convolution_norms = nn.ModuleList(nn.LayerNorm(k.shape[0]) for k in kernels)
        self.projection_norm = nn.LayerNorm(kernels[-1].shape[0])
        self.projection = nn.Linear(kernels[-1].shape[0], dim)
        self.positions = nn.ModuleList(
            nn.Conv1d(dim, dim, k.shape[2], padding=k.shape[2] // 2, groups=dim // k.shape[1])
            for k in positions
        )
        self.norm = nn.LayerNorm(dim)
        self.extra_tokens = nn.Parameter(torch.empty_like(tensors["extra_tokens"]))
        self.alibi_scale = nn.Parameter(torch.empty_like(tensors["alibi_scale"]))
        self.blocks = nn.ModuleList(Block(dim, hidden, heads) for _ in range(depth))
        self.config = SimpleNamespace(hidden_size=dim, num_hidden_layers=depth)
        self.load_state_dict(tensors)

    def forward(self, input_values: Tensor, output_hidden_states: bool = False) -> Any:
        """Return the states `(batch, frames, dim)` of waveforms `(batch, samples)`."""
        x = input_values.unsqueeze(1)
        for convolution, norm in zip(self.convolutions, self.convolution_norms, strict=True):
            x = gelu(norm(convolution(x).transpose(1, 2)).transpose(1, 2))
        x = self.projection(self.projection_norm(x.transpose(1, 2)))
        place = x
        for convolution in self.positions:
            place = convolution(place.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
            place = gelu(layer_norm(place, place.shape[-1:]))
        extra = self.extra_tokens.expand(len(x), -1, -1)
        x = self.norm(torch.cat([extra, x + place], dim=1))
        first = extra.shape[1]
        bias = distances(x.shape[1] - first, self.heads, x.device).to(x.dtype)
        bias = pad(bias, (first, 0, first, 0)).unsqueeze(0)
        scales = self.alibi_scale.clamp_min(0).expand(len(self.blocks), -1, -1, -1, -1)
        states = [x[:, first:]]
        for block, scale in zip(self.blocks, scales, strict=True):
            x = block(x, bias * scale)
            states = [*states, x[:, first:]] if output_hidden_states else [x[:, first:]]
        return SimpleNamespace(last_hidden_state=states[-1], hidden_states=states)


def distances(frames: int, heads: int, device: torch.device | None = None) -> Tensor:
    """Return the bias of ALiBi, `(heads, frames, frames)`: minus the distance times a slope.

    Press et al. 2022, "Train Short, Test Long": slopes are powers of 2^(-8 / heads). If heads are
    no power of two, they are those of the next lower one, and every other one of the next higher.
    """
    lower = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / lower) for i in range(lower)]
    slopes += [2 ** (-4 * (i + 1) / lower) for i in range(0, 2 * lower, 2)][: heads - lower]
    place = torch.arange(frames, dtype=torch.float32, device=device)
    slope = torch.tensor(slopes, device=device)[:, None, None]
    return -(place - place[:, None]).abs() * slope


def load_emotion2vec(folder: Path) -> Emotion2vec:
    """Load the published weights of a folder; raises `UserError` for those of another layout."""
    path = own_file(folder, *EMOTION2VEC)
    assert path is not None
    with published_errors(path, "emotion2vec"):
        stored = torch.load(path, map_location="cpu", weights_only=True)
        return Emotion2vec(with_our_names(stored.get("model", stored)))


def with_our_names(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names of `Emotion2vec`."""
    tensors = renamed(published, NAMES, NOT_NEEDED)
    before = count(tensors, "blocks")
    moved = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part == "later_blocks":
            number, _, rest = rest.partition(".")
            moved[f"blocks.{int(number) + before}.{rest}"] = tensor
        elif part == "relative_positional_encoder":
            number, _, rest = rest.partition(".")
            moved[f"positions.{int(number) - 1}.{rest.removeprefix('0.')}"] = tensor
        else:
            moved[name] = tensor
    if moved["alibi_scale"].ndim == 4:
        moved["alibi_scale"] = moved["alibi_scale"].unsqueeze(0)
    return moved


def count(tensors: dict[str, Tensor], part: str) -> int:
    """Return how many numbered modules a part has."""
    return len({name.split(".")[1] for name in tensors if name.startswith(f"{part}.")})
