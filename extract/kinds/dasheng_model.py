"""Dasheng as a torch module that reads the published weights.

Dinkel et al. 2024, "Scaling up masked audio encoder learning for general audio classification": a
vision transformer on log-mels. A batch norm of each band; patches of all 64 bands and 4 rows, which
makes 25 frames a second; a learned position of each; blocks with a norm before each half; a norm.
There are positions for 1008 rows, 10 s. Longer clips are cut into chunks that overlap, as those of
the other encoders are; the published code cuts them without, and pads the last with zeros.

All sizes but the number of heads follow from the tensors. Weights of another layout are refused.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ser.extract.encoding import read_config
from ser.extract.kinds.emotion2vec_model import Block, count
from ser.extract.kinds.own_model import OwnModel, published_errors, read_weights, weights_file

EPS = 1e-6  # of the layer norms
HEADS = {768: 12, 1280: 16, 1536: 24}  # of the published models, by their dimension


class PreNormBlock(Block):
    """Self-attention and two linear layers, each behind a norm and added."""

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return states `(batch, frames, dim)`."""
        x = x + self.attention(self.norm1(x), bias)
        return x + self.linear(self.norm2(x))


class Dasheng(OwnModel):
    """The network, of the sizes of published tensors."""

    def __init__(self, tensors: dict[str, Tensor], heads: int) -> None:
        super().__init__()
        kernel = tensors["patch_embed.proj.weight"]
        dim, _, bands, self.rows = kernel.shape
        depth, hidden = count(tensors, "blocks"), len(tensors["blocks.0.mlp.fc1.bias"])
        self.init_bn = nn.ModuleDict({"1": nn.BatchNorm2d(bands)})
        projection = nn.Conv2d(1, dim, (bands, self.rows), (bands, self.rows))
        self.patch_embed = nn.ModuleDict({"proj": projection})
        self.time_pos_embed = nn.Parameter(torch.empty_like(tensors["time_pos_embed"]))
        self.freq_pos_embed = nn.Parameter(torch.empty_like(tensors["freq_pos_embed"]))
        self.blocks = nn.ModuleList(PreNormBlock(dim, hidden, heads, EPS) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, EPS)
        self.config = SimpleNamespace(hidden_size=dim, num_hidden_layers=depth)
        self.load_state_dict(tensors)

    def forward(self, input_features: Tensor, output_hidden_states: bool = False) -> Any:
        """Return the states `(batch, frames, dim)` of mels in decibels `(batch, rows, bands)`."""
        mels = self.init_bn["1"](input_features.transpose(1, 2).unsqueeze(2)).transpose(1, 2)
        patches = self.patch_embed["proj"](mels)
        x = patches + self.time_pos_embed[..., : patches.shape[-1]] + self.freq_pos_embed
        x = x.squeeze(2).transpose(1, 2)
        states = [x]
        for block in self.blocks:
            x = block(x)
            states = [*states, x] if output_hidden_states else [x]
        return SimpleNamespace(last_hidden_state=self.norm(x), hidden_states=states)


def load_dasheng(folder: Path) -> Dasheng:
    """Load the published weights of a folder; raises `UserError` for those of another layout."""
    path = weights_file(folder)
    config = read_config(folder)
    with published_errors(path, "Dasheng"):
        stored = read_weights(path)
        part = "encoder."  # the other tensors are those of a classifier
        own = {k.removeprefix(part): v.float() for k, v in stored.items() if k.startswith(part)}
        dim = len(own["norm.weight"])
        sizes: Any = config.get("encoder_kwargs") or {}
        return Dasheng(own, int(sizes.get("num_heads") or HEADS[dim]))
