"""One utterance as a head reads it: layers side by side, means of every `stride` frames."""

from typing import TYPE_CHECKING

import numpy as np

from ser.cache.precision import Encoded

if TYPE_CHECKING:
    import torch


def read_into(row: "torch.Tensor", encoded: Encoded, stride: int, layers: list[int] | None) -> None:
    """Copy one utterance into a row `(frames, *item_shape)` float32 as it is read, zeros behind it.

    `stride` and `layers` are those of a `FeatureInput`. The row has room for at least the frames
    after the stride.
    """
    import torch

    length = -(-len(encoded.data) // stride)
    source = torch.from_numpy(encoded.data)
    if layers is not None:
        source = source[:, layers].flatten(1)
    target = row.narrow(0, 0, length)
    target.copy_(source if stride == 1 else _mean_of(source, stride))
    if encoded.scale is not None:
        # the scale of a mean is that of its parts
        target.mul_(torch.from_numpy(side_by_side(encoded.scale, layers)))
    if length < len(row):
        row.narrow(0, length, len(row) - length).zero_()


def as_layers(layer: int | tuple[int, ...] | None) -> list[int] | None:
    """Return the layers that `layer:` names, None for whatever is stored."""
    return [layer] if isinstance(layer, int) else None if layer is None else list(layer)


def read_shape(stored: tuple[int, ...], layers: list[int] | None) -> tuple[int, ...]:
    """Return the shape of one frame as it is read, of one as it is stored."""
    return stored if layers is None else (len(layers) * stored[-1],)


def after_stride(frames: np.ndarray, stride: int) -> np.ndarray:
    """Return the number of means of `stride` frames each; the last may be of fewer."""
    means: np.ndarray = -(-frames // stride)
    return means


def side_by_side(values: np.ndarray, layers: list[int] | None) -> np.ndarray:
    """Return these layers of `(..., layers, dim)` as `(..., read * dim)`; all as it is for None."""
    if layers is None:
        return values
    read = values[..., layers, :]
    return read.reshape(*read.shape[:-2], -1)


def _mean_of(frames: "torch.Tensor", stride: int) -> "torch.Tensor":
    """Return the mean of every `stride` frames; the last mean may be of fewer."""
    import torch

    whole = len(frames) // stride * stride
    means = [frames[:whole].float().view(-1, stride, *frames.shape[1:]).mean(1)] if whole else []
    if whole < len(frames):
        means.append(frames[whole:].float().mean(0, keepdim=True))
    return torch.cat(means)
