"""Batches on a GPU, several at once, so that it never waits for the host.

1. As many threads as `AT_ONCE` have a batch each: while one runs, the next is already queued and
   the last one is copied back, in a stream of its own, beside the kernels.
2. All kernels are queued in one stream, by one thread at a time: a model may keep values from one
   run to the next, and the results are those of one thread.
3. Both copies use pinned memory. From other memory a thread would wait for all kernels that are
   queued before it.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ser.extract.encoder import Piece

AT_ONCE = 3  # batches: one is queued, one runs, one is copied back
_turn = threading.Lock()


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the host to a device; to a GPU without waiting for its kernels."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def kept_in_turn(run: Callable[[], Tensor], pieces: "Sequence[Piece]") -> list[np.ndarray]:
    """Run a model on a GPU; return the kept frames of each piece, float32, on the host."""
    with _turn:
        states = run()
        parts = [own[: piece.frames][piece.kept] for own, piece in zip(states, pieces, strict=True)]
        joined = torch.cat(parts).float()
        done = torch.cuda.current_stream(joined.device).record_event()
    stream = torch.cuda.Stream(joined.device)
    stream.wait_event(done)
    with torch.cuda.stream(stream):
        host = torch.empty(joined.shape, pin_memory=True)
        host.copy_(joined)  # waits for this stream alone
    return [part.numpy() for part in host.split([len(part) for part in parts])]
