"""The recurrent layer in `bench.gpu`: packed, over padding too, and as our heads run it."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bench.gpu_heads import BATCH, HIDDEN
from bench.gpu_loop import Setting
from bench.gpu_rows import Figure, Group, relative_l2, seconds_of
from bench.heads import FRAME_RATE, msp_like
from ser.heads.architectures.recurrent import bidirectional_gru


class Recurrence:
    """A bidirectional GRU over one batch: packed, over padding too, and as our heads run it."""

    def __init__(self, setting: Setting) -> None:
        self.device = setting.device
        hidden, batch = (8, 4) if setting.tiny else (HIDDEN, BATCH)
        seconds = np.sort(msp_like())[-8 * batch :: 8] / (8 if setting.tiny else 1)
        self.lengths = torch.from_numpy(np.maximum(seconds * FRAME_RATE, 1).astype(np.int64))
        torch.manual_seed(0)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True).to(self.device)
        width = int(self.lengths.max())
        self.x = torch.randn(batch, width, hidden, device=self.device, requires_grad=True)

    def ours(self) -> torch.Tensor:
        """Return the outputs of the path that heads take on this device."""
        return bidirectional_gru(self.gru, self.x, self.lengths.to(self.device))

    def packed(self) -> torch.Tensor:
        rows = pack_padded_sequence(self.x, self.lengths, batch_first=True, enforce_sorted=False)
        width = self.x.shape[1]
        return pad_packed_sequence(self.gru(rows)[0], batch_first=True, total_length=width)[0]

    def dense(self) -> torch.Tensor:
        """Return the outputs over padding: other numbers, and the least calls."""
        out: torch.Tensor = self.gru(self.x)[0]
        return out

    def seconds(self, kind: str) -> float:
        """Return the seconds of forward and backward."""
        return seconds_of(self.device, lambda: getattr(self, kind)().sum().backward(), 3)

    def error(self) -> float:
        """Return the relative L2 of our outputs on the device to those on the CPU."""
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            own = self.ours().cpu()
            gru = copy.deepcopy(self.gru).cpu()
            return relative_l2([own], [bidirectional_gru(gru, self.x.cpu(), self.lengths)])

    def packed_error(self) -> float:
        """Return the relative L2 of our outputs to a packed sequence's, both on the device."""
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return relative_l2([self.ours()], [self.packed()])


def recurrence_rows(setting: Setting) -> Sequence[Figure]:
    own = Recurrence(setting)

    def ratio(kind: str, base: str) -> float:
        return own.seconds(kind) / own.seconds(base)

    return [
        Figure("ours / packed", lambda: ratio("ours", "packed"), "x", "≤", 1.1, True),
        Figure("packed / dense", lambda: ratio("packed", "dense"), "x", "≤", 1.5, True),
        Figure("ours = packed", own.packed_error, "relative L2", "≤", 1e-4),
        Figure("ours = CPU, no TF32", own.error, "relative L2", "≤", 1e-4),
    ]


def recurrence_groups(setting: Setting) -> list[Group]:
    return [Group("bidirectional GRU", lambda: recurrence_rows(setting))]
