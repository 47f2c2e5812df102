"""What the models that are modules of our own share with those of transformers."""

import torch
from torch import nn


class OwnModel(nn.Module):
    """A module of our own, whose weights have one type and are on one device."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
