"""Pretrained models that give frames: extraction runs them, and fine-tuning trains them.

1. `prepare` converts one clip or text to the model's inputs (normalised waveform, log-mels or
   tokens), cut into pieces that the model takes at once.
2. `run` runs padded pieces. Where a model cannot be masked (group-norm speech models, Whisper),
   only inputs of equal length run together, so that no clip's frames depend on its neighbours.
3. `frames` returns the frames of pieces without gradients, `forward` those of a batch with them.
4. `save` writes the Hugging Face format, which `extract` loads by `model: FOLDER`; its frames equal
   those of this encoder.

Randomness in training (dropout, LayerDrop, SpecAugment) follows the model's own config.
"""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ser.extract.encoding import groups
from ser.extract.gpu import kept_in_turn, to_device


class Piece(NamedTuple):
    """A part of a clip or text that the model takes at once.

    `inputs` are `(length, …)`, of which attention does not see the last `hidden`. The model gives
    `frames` frames, and those of `kept` belong to the result.
    """

    inputs: np.ndarray
    frames: int
    kept: slice | np.ndarray = slice(None)
    hidden: int = 0


class Encoder(nn.Module):
    """A model and the preparation of its inputs; `item_shape` is that of a frame."""

    model: Any  # of transformers
    batch_mask = True  # inputs of different lengths may run together
    padding = 0  # the value of padded inputs
    at_once = sys.maxsize  # pieces in one run of clips that are cut
    batches_at_once = 1  # that threads may run
    item_shape: tuple[int, ...]
    layers: int  # blocks
    frozen: tuple[str, ...] = ()  # the parts that fine-tuning freezes by default

    def prepare(self, source: Any) -> list[Piece]:
        """Return the pieces of a waveform `(samples,)` at 16 kHz, or of a text.

        Raises `ValueError` for a source that is too short.
        """
        raise NotImplementedError

    def cost(self, size: int) -> float:
        """Estimate the frames of the first piece of a source of this many samples or characters."""
        raise NotImplementedError

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames `(batch, frames, *item_shape)` of inputs `(batch, length, …)`."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write model and preprocessor in Hugging Face form."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the inputs of `run` must be."""
        device: torch.device = self.model.device
        return device

    @torch.inference_mode()
    def frames(self, pieces: Sequence[Piece], most: int = sys.maxsize) -> list[np.ndarray]:
        """Return the kept frames of each piece, float32 `(frames, *item_shape)`.

        At most `most` pieces run at a time. A piece of length 0 is a frame of zeros.
        """
        frames = [np.zeros((piece.frames, *self.item_shape), np.float32) for piece in pieces]
        for rows, inputs, mask in self.batches(pieces, most):
            group, run = [pieces[i] for i in rows], partial(self.run, inputs, mask)
            results = kept_in_turn(run, group) if inputs.is_cuda else kept(run(), group)
            for i, own in zip(rows, results, strict=True):
                frames[i] = own
        return frames

    def batches(
        self, pieces: Sequence[Piece], most: int = sys.maxsize
    ) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Yield pieces that run together: their positions, and `inputs` and `mask` of `run`."""
        lengths = torch.tensor([len(piece.inputs) - piece.hidden for piece in pieces])
        for rows in groups(self._keys(lengths), most):
            inputs = collate([pieces[i].inputs for i in rows], self.padding)
            mask = torch.arange(inputs.shape[1]) < lengths[rows].unsqueeze(1)
            yield rows, to_device(inputs, self.device), to_device(mask, self.device)

    def forward(self, inputs: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames `(batch, frames, *item_shape)`, 0 where padded, and their mask.

        Inputs are `(batch, length, …)`; sizes, int64 `(batch, 2)` on the host, are the length of
        each input and its number of frames. An input of length 0 is a frame of zeros.
        """
        counts = sizes[:, 1].to(inputs.device)
        width = int(sizes[:, 1].max())
        frames = torch.zeros(len(sizes), width, *self.item_shape, device=inputs.device)
        for rows in groups(self._keys(sizes[:, 0])):
            lengths = sizes[rows, 0]
            longest = int(lengths.max())
            mask = torch.arange(longest) < lengths.unsqueeze(1)
            states = self.run(inputs[rows, :longest], mask.to(inputs.device)).float()
            count = min(width, states.shape[1])
            frames[rows, :count] = states[:, :count]
        mask = torch.arange(width, device=inputs.device) < counts.unsqueeze(1)
        shaped = mask.view(*mask.shape, *(1 for _ in self.item_shape))
        return frames.where(shaped, 0.0), mask

    def _keys(self, lengths: Tensor) -> list[int | None]:
        """Return a key of each row: equal ones may run as one batch, those of length 0 do not."""
        return [(0 if self.batch_mask else n) if n else None for n in lengths.tolist()]


def kept(states: Tensor, pieces: Sequence[Piece]) -> list[np.ndarray]:
    """Return the kept frames of each piece among the states of a batch, float32."""
    host = states.float().cpu().numpy()
    return [own[: piece.frames][piece.kept] for own, piece in zip(host, pieces, strict=True)]


def collate(inputs: Sequence[np.ndarray], padding: int = 0) -> Tensor:
    """Pad inputs `(length, …)` at their ends to one tensor `(batch, length, …)`."""
    tensors = [torch.from_numpy(array) for array in inputs]
    return pad_sequence(tensors, batch_first=True, padding_value=padding)
