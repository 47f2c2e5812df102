"""How frames are stored: float16, float32, or int8 with a scale for each channel.

- `float16` keeps 11 significant bits (relative error of real activations 2e-4) and is the default;
  an utterance beyond 65,504 is stored as float32 instead, which is reported.
- `int8` halves that again: every channel of every utterance is divided by its own
  `scale = max |x| / 127` and rounded. One scale for a shard would be smaller still, but an
  utterance's values would then depend on its neighbours, and a resumed extraction would differ from
  an uninterrupted one.
- bfloat16 is not offered: it is no Zarr v3 core type, so plain readers do not open it, and on
  activations it is eight times less exact than float16 at the same size.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Precision = Literal["float16", "float32", "int8"]
# bits of a float16 that is infinite or NaN are at least these, without and with the sign bit
NOT_FINITE, NEGATIVE_NOT_FINITE = 0x7C00, 0xFC00


@dataclass(frozen=True)
class Encoded:
    """One utterance as it is stored: contiguous, little-endian.

    `scale` is float32 `item_shape`, for int8 only.
    """

    data: np.ndarray
    scale: np.ndarray | None = None


def encode(frames: np.ndarray, precision: Precision) -> Encoded:
    """Return frames `(frames, *item_shape)` as they are stored.

    float16 becomes float32 where it overflows. Raises `ValueError` for values that are not finite:
    they would poison every head.
    """
    if precision == "float16":
        half = _half(frames)
        if _all_finite(half):
            return Encoded(half)
    with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite then, and refused
        single = np.ascontiguousarray(frames, dtype="<f4")
    if not np.isfinite(single).all():
        raise ValueError("the features hold NaN or infinite values")
    return _int8(single) if precision == "int8" else Encoded(single)


def values(encoded: Encoded) -> np.ndarray:
    """Return the numbers: a view of what is stored, or float32 computed from int8."""
    if encoded.scale is None:
        return encoded.data
    frames: np.ndarray = encoded.data.astype(np.float32) * encoded.scale
    return frames


def moments(item_shape: tuple[int, ...], clips: Iterable[Encoded]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each channel over all frames, float64 `item_shape`.

    One pass; a channel that never changes has deviation 1, so that it may be divided by.
    """
    frames_seen, total, squares = 0, np.zeros(item_shape), np.zeros(item_shape)
    for clip in clips:
        frames = values(clip).astype(np.float64)
        frames_seen += len(frames)
        total += frames.sum(axis=0)
        squares += (frames**2).sum(axis=0)
    mean = total / frames_seen
    deviation = np.sqrt(np.maximum(squares / frames_seen - mean**2, 0.0))
    return mean, np.where(deviation > 1e-6 * (1 + np.abs(mean)), deviation, 1.0)


def _half(frames: np.ndarray) -> np.ndarray:
    # numpy's cast to float16 is 15 times slower than torch's and gives the same bits; where
    # features come from a model torch is there, and where it is not, it is not worth importing
    torch = sys.modules.get("torch")
    frames = np.ascontiguousarray(frames)
    if torch is None or frames.dtype != np.float32 or not frames.flags.writeable:
        with np.errstate(over="ignore"):
            half: np.ndarray = frames.astype("<f2")
    else:
        half = torch.from_numpy(frames).half().numpy()
    return half


def _all_finite(half: np.ndarray) -> bool:
    # two maxima of integers take a tenth of the time of np.isfinite, and need no memory
    positive = half.view(np.int16).max(initial=0) < NOT_FINITE
    return bool(positive and half.view(np.uint16).max(initial=0) < NEGATIVE_NOT_FINITE)


def _int8(frames: np.ndarray) -> Encoded:
    scale = np.abs(frames).max(axis=0) / np.float32(127)
    divisor = np.where(scale > 0, scale, np.float32(1))
    # a scale that is denormal is rounded so coarsely that quotients exceed 127
    steps = np.clip(np.rint(frames / divisor), -127, 127)
    return Encoded(steps.astype(np.int8), scale.astype("<f4"))
