"""SPEAR as a torch module that reads the published weights.

Yang et al. 2025, "SPEAR: A Unified SSL Framework for Learning Speech and Audio Representations".
Convolutions halve the rate of 100 rows of log-mels a second; stacks of Zipformer follow, all of one
dimension. The state of a layer in a stack of a lower rate is repeated to the full rate.

The layout of the tensors is that of the folder `spear_large_speech_hf` in marcoyang1998/icefall,
branch at_asr_multi_kd, commit ac6a2bec. On random weights its code gave the same states to 1e-5
for clips alone, at the size of its large model, too. There, frames at the end depend on what pads
a clip in a batch; here each clip has the frames that it has alone.

All sizes follow from the tensors. Weights of another layout are refused.
"""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ser.extract.kinds.own_model import (
    OwnModel,
    published_errors,
    read_weights,
    renamed,
    weights_file,
)
from ser.extract.kinds.zipformer import (
    BiasNorm,
    Stack,
    Tensors,
    before_end,
    linear,
    numbered,
    part,
    swoosh_l,
    swoosh_r,
)

EDGE = 7  # rows of log-mels that the convolutions take off
NAMES = (  # of the published tensors, and here
    (r"^(model\.)+", ""),
    (r"^encoder\.encoders\.(\d+)\.(encoder\.)?", r"stacks.\1."),
)
NOT_NEEDED = re.compile(r"mask_emb$|codebook_loss_net\.|stacks\.\d+\.layers\.\d+\.bypass_scale$")


class FrontEnd(nn.Module):
    """Four convolutions over time and bands, and a linear layer."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        self.conv = nn.ModuleDict(
            {
                "0": convolution(tensors, "conv.0", padding=(0, 1)),
                "4": convolution(tensors, "conv.4", stride=2),
                "7": convolution(tensors, "conv.7", stride=(1, 2)),
            }
        )
        channels, _, height, width = tensors["convnext.depthwise_conv.weight"].shape
        padding = (height // 2, width // 2)
        self.convnext = nn.ModuleDict(
            {
                "depthwise_conv": nn.Conv2d(
                    channels, channels, (height, width), padding=padding, groups=channels
                ),
                "pointwise_conv1": convolution(tensors, "convnext.pointwise_conv1"),
                "pointwise_conv2": convolution(tensors, "convnext.pointwise_conv2"),
            }
        )
        self.out = linear(tensors, "out")
        self.out_norm = BiasNorm(self.out.out_features)

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """Return states `(batch, frames, dim)` of log-mels `(batch, rows, bands)`."""
        x = rows.unsqueeze(1)
        for layer in self.conv.values():
            x = swoosh_r(layer(x))
        x = x * before_end(x.shape[2], lengths)[:, None, :, None]
        y = self.convnext["pointwise_conv1"](self.convnext["depthwise_conv"](x))
        x = x + self.convnext["pointwise_conv2"](swoosh_l(y))
        states: Tensor = self.out_norm(self.out(x.transpose(1, 2).flatten(2)))
        return states


class Spear(OwnModel):
    """The network, of the sizes of published tensors under the names of this module."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        stacks = numbered(tensors, "stacks")
        self.encoder_embed = FrontEnd(part(tensors, "encoder_embed"))
        self.stacks = nn.ModuleList(map(Stack, stacks))
        dim = self.encoder_embed.out.out_features
        if {len(stack["layers.0.norm.bias"]) for stack in stacks} != {dim}:
            raise ValueError("stacks of different dimensions")
        depth = sum(len(numbered(stack, "layers")) for stack in stacks)
        self.config = SimpleNamespace(hidden_size=dim, num_hidden_layers=depth)

    def forward(
        self, input_features: Tensor, attention_mask: Tensor, output_hidden_states: bool = False
    ) -> Any:
        """Return the states `(batch, frames, dim)` of log-mels `(batch, rows, bands)`."""
        lengths = (attention_mask.sum(1) - EDGE) // 2
        x = self.encoder_embed(input_features, lengths)
        states = [x]
        for stack in self.stacks:
            x, new = stack(x, lengths)
            states += new if output_hidden_states else []
        return SimpleNamespace(last_hidden_state=x, hidden_states=states)


def convolution(tensors: Tensors, name: str, **options: Any) -> nn.Conv2d:
    """Return a convolution of the shape of its tensors."""
    outputs, inputs, *size = tensors[f"{name}.weight"].shape
    return nn.Conv2d(inputs, outputs, (size[0], size[1]), **options)


def load_spear(folder: Path) -> Spear:
    """Load the published weights of a folder; raises `UserError` for those of another layout."""
    path = weights_file(folder)
    with published_errors(path, "SPEAR"):
        return with_tensors(renamed(read_weights(path), NAMES, NOT_NEEDED))


def with_tensors(tensors: Tensors) -> Spear:
    """Return the network with its tensors, which have the names of `Spear`."""
    with torch.device("meta"):  # nothing is initialised, and nothing is held twice
        model = Spear(tensors)
    model.load_state_dict(tensors, assign=True)
    return model
