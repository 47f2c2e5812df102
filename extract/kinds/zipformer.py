"""The stacks of Zipformer as torch modules that read published tensors, for inference alone.

Yao et al. 2024, "Zipformer: A faster and better encoder for automatic speech recognition". A stack
runs its layers on every frame or, averaged by learned weights, on every second, fourth or eighth,
and mixes the result, repeated, with its input. A layer computes attention weights once, by content
and by distance, for three modules; feed-forward and convolution modules are between these.

All sizes but one follow from the tensors, and the modules have the names of the published ones.
What lies behind the end of a clip never has a weight: no frame depends on the batch.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import glu, softplus

PLACE = 4  # values by which a head attends to distances, in all published models
Tensors = dict[str, Tensor]


def part(tensors: Tensors, name: str) -> Tensors:
    """Return the tensors of a module, by their names in it."""
    prefix = f"{name}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def numbered(tensors: Tensors, name: str) -> list[Tensors]:
    """Return the tensors of each module of a list."""
    modules = part(tensors, name)
    return [part(modules, str(i)) for i in range(len({key.split(".")[0] for key in modules}))]


def linear(tensors: Tensors, name: str) -> nn.Linear:
    """Return a linear layer of the shape of its tensors."""
    outputs, inputs = tensors[f"{name}.weight"].shape
    return nn.Linear(inputs, outputs, f"{name}.bias" in tensors)


def swoosh_l(x: Tensor) -> Tensor:
    """Return SwooshL (section 2.4), about 0 at 0."""
    return softplus(x - 4) - 0.08 * x - 0.035


def swoosh_r(x: Tensor) -> Tensor:
    """Return SwooshR (section 2.4), 0 at 0."""
    return softplus(x - 1) - 0.08 * x - 0.313261687


class BiasNorm(nn.Module):
    """A norm by the root mean square of the distance from a bias (section 2.3)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(dim))
        self.log_scale = nn.Parameter(torch.empty(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised states of the same shape."""
        square = (x - self.bias).square().mean(-1, keepdim=True)
        return x * (square.rsqrt() * self.log_scale.exp())


class Bypass(nn.Module):
    """A learned mean, per value, of what went into a module and what came out."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bypass_scale = nn.Parameter(torch.empty(dim))

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Return states of the same shape."""
        return before + (after - before) * self.bypass_scale


class Projections(nn.Module):
    """The linear layers around a module."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        self.in_proj, self.out_proj = linear(tensors, "in_proj"), linear(tensors, "out_proj")


class FeedForward(Projections):
    """Two linear layers."""

    def forward(self, x: Tensor) -> Tensor:
        """Return states `(batch, frames, dim)`."""
        states: Tensor = self.out_proj(swoosh_l(self.in_proj(x)))
        return states


class Convolution(Projections):
    """A gate, then a convolution of each value over time."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__(tensors)
        dim, _, size = tensors["depthwise_conv.weight"].shape
        self.depthwise_conv = nn.Conv1d(dim, dim, size, padding=size // 2, groups=dim)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Return states `(batch, frames, dim)`; `valid` is False behind the end of a clip."""
        gated = glu(self.in_proj(x)) * valid.unsqueeze(2)
        mixed = self.depthwise_conv(gated.transpose(1, 2)).transpose(1, 2)
        states: Tensor = self.out_proj(swoosh_r(mixed))
        return states


class AttentionWeights(nn.Module):
    """The attention weights of all heads, by content and by distance."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        self.in_proj, self.linear_pos = linear(tensors, "in_proj"), linear(tensors, "linear_pos")
        self.heads = self.linear_pos.out_features // PLACE

    def forward(self, x: Tensor, distances: Tensor, valid: Tensor) -> Tensor:
        """Return weights `(batch, heads, frames, frames)`."""
        frames, places = x.shape[1], self.heads * PLACE
        states = self.in_proj(x)
        content = (states.shape[2] - places) // 2
        query, key, place = (
            heads.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for heads in states.split([content, content, places], dim=2)
        )
        table = self.linear_pos(distances.to(x.dtype)).unflatten(1, (self.heads, -1))
        by_distance = place @ table.permute(1, 2, 0)
        time = torch.arange(frames, device=x.device)
        index = time - time.unsqueeze(1) + frames - 1
        scores = query @ key.transpose(2, 3)
        scores = scores + by_distance.gather(3, index.expand_as(scores))
        weights: Tensor = scores.masked_fill(~valid[:, None, None], -math.inf).softmax(3)
        return weights


class SelfAttention(Projections):
    """What each frame attends to, by weights that are given."""

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return states `(batch, frames, dim)`."""
        values = self.in_proj(x).unflatten(2, (weights.shape[1], -1)).transpose(1, 2)
        states: Tensor = self.out_proj((weights @ values).transpose(1, 2).flatten(2))
        return states


class NonlinAttention(Projections):
    """Attention by the weights of the first head, between two products (section 2.2)."""

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return states `(batch, frames, dim)`."""
        gate, values, factor = self.in_proj(x).chunk(3, dim=2)
        attended = weights[:, 0] @ (values * gate.tanh())
        states: Tensor = self.out_proj(attended * factor)
        return states


class Layer(nn.Module):
    """A layer: feed-forward, attention and convolution modules, each added, and two bypasses."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        dim = len(tensors["norm.bias"])
        self.self_attn_weights = AttentionWeights(part(tensors, "self_attn_weights"))
        self.feed_forward1 = FeedForward(part(tensors, "feed_forward1"))
        self.nonlin_attention = NonlinAttention(part(tensors, "nonlin_attention"))
        self.self_attn1 = SelfAttention(part(tensors, "self_attn1"))
        self.conv_module1 = Convolution(part(tensors, "conv_module1"))
        self.feed_forward2 = FeedForward(part(tensors, "feed_forward2"))
        self.bypass_mid = Bypass(dim)
        self.self_attn2 = SelfAttention(part(tensors, "self_attn2"))
        self.conv_module2 = Convolution(part(tensors, "conv_module2"))
        self.feed_forward3 = FeedForward(part(tensors, "feed_forward3"))
        self.norm, self.bypass = BiasNorm(dim), Bypass(dim)

    def forward(self, x: Tensor, distances: Tensor, valid: Tensor) -> Tensor:
        """Return states `(batch, frames, dim)`."""
        before, weights = x, self.self_attn_weights(x, distances, valid)
        x = x + self.feed_forward1(x)
        x = x + self.nonlin_attention(x, weights)
        x = x + self.self_attn1(x, weights)
        x = x + self.conv_module1(x, valid)
        x = x + self.feed_forward2(x)
        x = self.bypass_mid(before, x)
        x = x + self.self_attn2(x, weights)
        x = x + self.conv_module2(x, valid)
        x = x + self.feed_forward3(x)
        states: Tensor = self.bypass(before, self.norm(x))
        return states


class Stack(nn.Module):
    """Layers at one frame rate."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        layers = numbered(tensors, "layers")
        self.layers = nn.ModuleList(map(Layer, layers))
        self.place_dim = layers[0]["self_attn_weights.linear_pos.weight"].shape[1]
        self.step = len(tensors.get("downsample.bias", "1"))
        if self.step > 1:
            self.downsample = nn.ParameterDict({"bias": torch.empty(self.step)})
            self.out_combiner = Bypass(len(layers[0]["norm.bias"]))

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the output `(batch, frames, dim)` and that of each layer, at the full rate."""
        states, frames = [], x.shape[1]
        y = self.reduced(x, lengths) if self.step > 1 else x
        valid = before_end(y.shape[1], -(-lengths // self.step))
        distances = encoded_distances(y.shape[1], self.place_dim, x.device)
        for layer in self.layers:
            y = layer(y, distances, valid)
            states.append(y.repeat_interleave(self.step, dim=1)[:, :frames])
        return self.out_combiner(x, states[-1]) if self.step > 1 else y, states

    def reduced(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Average `step` frames to one; a clip's last frame stands for those behind its end."""
        frames = -(-x.shape[1] // self.step) * self.step
        time = torch.arange(frames, device=x.device)
        index = torch.minimum(time, lengths.unsqueeze(1) - 1)
        groups = x.take_along_dim(index.unsqueeze(2), 1).unflatten(1, (-1, self.step))
        weights = self.downsample["bias"].softmax(0)
        means: Tensor = (groups * weights.unsqueeze(1)).sum(2)
        return means


def before_end(frames: int, lengths: Tensor) -> Tensor:
    """Return True `(batch, frames)` where a clip has not ended."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def encoded_distances(frames: int, dim: int, device: torch.device) -> Tensor:
    """Return the encodings `(2 frames - 1, dim)` of the distances from `1 - frames` on.

    Distances are compressed by a logarithm and then to an angle by atan; cosines and sines of its
    multiples follow, and 1 in the place of the last sine.
    """
    distance = torch.arange(1 - frames, frames, dtype=torch.float32, device=device)
    near = math.sqrt(dim)
    compressed = near * distance.sign() * ((distance.abs() + near).log() - math.log(near))
    angles = torch.atan(compressed / (dim / (2 * math.pi))).unsqueeze(1)
    multiples = angles * torch.arange(1, dim // 2 + 1, device=device)
    encoded = torch.stack([multiples.cos(), multiples.sin()], dim=2).flatten(1)
    encoded[:, -1] = 1.0
    return encoded
