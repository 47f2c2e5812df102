"""FACodec as an encoder, its official weights read key by key, without a table of renamings.

What a file holds besides (the synthesizer, the other quantizers) is ignored. Weight norm is folded
into plain weights.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ser.corpus.errors import UserError
from ser.extract.encoder import Encoder as PieceEncoder
from ser.extract.encoder import Piece
from ser.extract.kinds.facodec_model import HOP, Decoder, Encoder, FACodec
from ser.extract.kinds.prosody import FACODEC_SHORTEST, facodec_length
from ser.extract.models import FACODEC_FILES


class FacodecEncoder(PieceEncoder):
    """FACodec with its official weights; a frame has its first `width` values."""

    batch_mask = False

    def __init__(self, folder: Path, width: int) -> None:
        super().__init__()
        self.model, self.item_shape = load_facodec(folder), (width,)

    def prepare(self, source: Any) -> list[Piece]:
        """Return a waveform with zeros behind it; under 25 ms is a `ValueError`."""
        samples, length = len(source), facodec_length(len(source))
        if samples < FACODEC_SHORTEST:
            raise ValueError(f"{samples} samples are fewer than FACodec takes ({FACODEC_SHORTEST})")
        wave = np.pad(source, (0, length - samples)).astype(np.float32)
        return [Piece(wave, length // HOP)]

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames `(batch, frames, width)`."""
        # cuDNN convolves in TF32 by default; facodec_model.py explains why not here.
        # `enabled` is False unless it is given
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            frames: Tensor = self.model(inputs)[..., : self.item_shape[0]]
        return frames


def load_facodec(folder: Path) -> FACodec:
    """Read the two official files of a folder.

    Raises `UserError` for a file that is missing, is not a dict of tensors, or lacks a weight.
    """
    encoder, decoder = Encoder(), Decoder()
    for network, name in zip((encoder, decoder), FACODEC_FILES, strict=True):
        _fill(network, folder / name)
    return FACodec(encoder, decoder).eval()


def _fill(network: nn.Module, path: Path) -> None:
    stored = _read(path)
    again = f"give the official {path.name} of amphion/naturalspeech3_facodec."
    weights = {}
    for name, parameter in network.state_dict().items():
        try:
            weights[name] = _plain(stored, name)
        except KeyError as error:
            raise UserError(f"{path}: the weight {error} is missing; {again}") from error
        except RuntimeError as error:
            raise UserError(f"{path}: '{name}_g' does not fit '{name}_v'; {again}") from error
        if weights[name].shape != parameter.shape:
            shape, expected = tuple(weights[name].shape), tuple(parameter.shape)
            raise UserError(f"{path}: the weight '{name}' is {shape}, not {expected}; {again}")
    network.load_state_dict(weights)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist; `model:` must name a folder with "
            f"{' and '.join(FACODEC_FILES)}."
        ) from error
    except Exception as error:  # which one depends on where the file is damaged
        raise UserError(
            f"{path}: it is damaged or holds other objects than tensors, and was not loaded; "
            "download the official file again."
        ) from error
    if not isinstance(stored, dict) or not all(isinstance(v, Tensor) for v in stored.values()):
        raise UserError(f"{path}: it is not a dict of tensors; download the official file again.")
    return stored


def _plain(stored: dict[str, Tensor], name: str) -> Tensor:
    """Return a weight, weight norm folded in (Salimans and Kingma 2016): `g v / |v|`."""
    if not name.endswith(".weight") or not {f"{name}_g", f"{name}_v"} & stored.keys():
        return stored[name]
    g, v = stored[f"{name}_g"], stored[f"{name}_v"]
    norm = torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)
    plain: Tensor = v * (g / norm)
    return plain
