"""Whisper's encoder as a torch module of our own.

Parameters have the names, and the operations the order, of transformers' `WhisperEncoder`: states
are the same to the last bit, without the seconds that importing transformers takes. It is for
frames only; what is trained and saved is transformers' class.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from ser.extract.kinds.own_model import OwnModel


class SelfAttention(nn.Module):
    """Multi-head self-attention without a mask; keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} dimensions do not divide into {heads} heads")
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return states `(batch, frames, dim)` of as many."""
        queries = self._split(self.q_proj(x) * self.scale)  # scaled here: the order of Whisper
        keys, values = self._split(self.k_proj(x)), self._split(self.v_proj(x))
        attended = scaled_dot_product_attention(queries, keys, values, scale=1.0)
        projected: Tensor = self.out_proj(attended.transpose(1, 2).reshape(x.shape))
        return projected

    def _split(self, x: Tensor) -> Tensor:
        """Turn `(batch, frames, dim)` into `(batch, heads, frames, dim of a head)`."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2).contiguous()


class Layer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, attention_mask: None = None) -> Tensor:
        """Return the next states `(batch, frames, dim)`; a mask is not supported."""
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        expanded: Tensor = self.fc2(gelu(self.fc1(self.final_layer_norm(x))))
        return x + expanded


class WhisperLayers(OwnModel):
    """The parts of the encoder: convolutions, positions, layers and the last norm.

    Args:
        sizes: those of the encoder, by their names in transformers' `WhisperConfig`.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        width, positions = sizes["d_model"], sizes["max_source_positions"]
        heads, hidden = sizes["encoder_attention_heads"], sizes["encoder_ffn_dim"]
        self.conv1 = nn.Conv1d(sizes["num_mel_bins"], width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        # without initial values: drawing them for the meta device would import torch's compiler
        weight = torch.empty(positions, width)
        self.embed_positions = nn.Embedding(positions, width, _weight=weight)
        layers = range(sizes["encoder_layers"])
        self.layers = nn.ModuleList(Layer(width, heads, hidden) for _ in layers)
        self.layer_norm = nn.LayerNorm(width)
