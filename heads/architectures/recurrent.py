"""Run a bidirectional GRU over a padded batch, padded frames left out, fast on a CPU.

nn.GRU over a packed sequence is right but slow to train on a CPU: its backward fills a zero tensor
of the size of the whole sequence for every step, so its time grows with the square of the frames
(here 40 s against 4 s at 512 units, batch 64, 285 frames). Dense, nn.GRU has no such step, but runs
over padding. So, with the parameters of an nn.GRU and its own dense kernel:

- clips are sorted by length, longest first, and the reverse direction reads each clip from its own
  last frame, so that in both directions the clips that have ended are the last rows;
- time is cut into segments; each drops the rows that have ended and takes on the hidden state.

A row that ends within a segment runs on to its end, over a repeated frame whose outputs are dropped
and whose gradients are 0: shorter segments waste fewer frames and cost more calls. On a GPU cuDNN
runs the packed sequence.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

SEGMENT = 32  # frames; 16 to 64 cost the same within the noise
PARAMETERS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def bidirectional_gru(gru: nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    """Return the outputs `(batch, frames, 2 hidden)` of `gru`, zero where padded.

    `gru` has one bidirectional layer and `batch_first`; x is `(batch, frames, dim)`, lengths
    `(batch,)` int64 from 1 to `frames`. The values of x in padded frames have no effect.
    """
    if torch.onnx.is_in_onnx_export():
        return _onnx_gru(gru, x, lengths)
    if x.is_cuda:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        dense = pad_packed_sequence(in_float32(gru, packed), True, total_length=x.shape[1])
        return dense[0]
    batch, frames, _ = x.shape
    longest_first, order = lengths.sort(descending=True, stable=True)
    rank = order.argsort()
    time = torch.arange(frames).unsqueeze(1)
    real = time < longest_first  # (frames, batch), as all that is run
    rows = real[::SEGMENT].sum(dim=1)
    width = rows.repeat_interleave(SEGMENT)[:frames]
    first_row = width.cumsum(dim=0) - width  # of each frame, in the outputs of all segments
    outputs = []
    for direction, at in (("", time), ("_reverse", longest_first - 1 - time)):
        frame = torch.where(real, at, 0)
        out = _run(gru, direction, x.flatten(0, 1), order * frames + frame, rows[rows > 0].tolist())
        back = first_row[frame[:, rank].t()] + rank.unsqueeze(1)
        outputs.append(out.index_select(0, back.flatten()).view(batch, frames, -1))
    return torch.cat(outputs, dim=-1).masked_fill(~real[:, rank].t().unsqueeze(-1), 0.0)


def in_float32(rnn: nn.RNNBase, x: Tensor | PackedSequence) -> Any:
    """Return the outputs of a recurrent layer in float32, within autocast too.

    Autocast runs cuDNN's recurrent layers in float16, also where its type is bfloat16; there small
    gradients vanish, as the loss is not scaled.
    """
    with torch.autocast(x.data.device.type, enabled=False):
        return rnn(x.float())[0]


def _onnx_gru(gru: nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    """Return the same as ONNX's own operator, which knows the lengths; in an export alone."""
    weights = []
    for name in PARAMETERS:  # ONNX has the update gate before the reset gate
        both = [getattr(gru, name + direction) for direction in ("", "_reverse")]
        reset, update, new = torch.stack(both).chunk(3, dim=1)
        weights.append(torch.cat([update, reset, new], dim=1))
    inputs = (x.transpose(0, 1), *weights[:2], torch.cat(weights[2:], dim=1), lengths.int())
    out = torch.onnx.ops.symbolic(
        "GRU",
        inputs,
        {"hidden_size": gru.hidden_size, "direction": "bidirectional", "linear_before_reset": 1},
        dtype=x.dtype,
        shape=(x.shape[1], 2, x.shape[0], gru.hidden_size),
    )
    real = torch.arange(x.shape[1]).unsqueeze(0) < lengths.unsqueeze(1)
    return out.permute(2, 0, 1, 3).flatten(2).masked_fill(~real.unsqueeze(2), 0.0)


def _run(gru: nn.GRU, direction: str, x: Tensor, places: Tensor, rows: list[int]) -> Tensor:
    """Return one direction's outputs, segment after segment, `(frames of all rows, hidden)`.

    x is `(batch * frames, dim)`, places `(frames, batch)` the row of x that each step reads, and
    rows how many clips run in each segment, as long as there are any.
    """
    weights = [getattr(gru, name + direction) for name in PARAMETERS]
    hidden = x.new_zeros(1, places.shape[1], gru.hidden_size)
    outputs = []
    for count, part in zip(rows, places.split(SEGMENT), strict=False):
        read = x.index_select(0, part[:, :count].flatten()).view(len(part), count, -1)
        state = hidden[:, :count].contiguous()
        # bias, layers, dropout, training, bidirectional, batch_first
        out, hidden = torch.gru(read, state, weights, True, 1, 0.0, gru.training, False, False)
        outputs.append(out.flatten(0, 1))
    return torch.cat(outputs)
