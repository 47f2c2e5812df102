"""What the models that are modules of our own share."""

import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ser.corpus.errors import UserError

FILES = ("model.safetensors", "pytorch_model.bin")


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


@contextmanager
def published_errors(path: Path, model: str) -> Iterator[None]:
    """Raise as `UserError` what fails while the published weights of a model are read."""
    try:
        yield
    except (UserError, ImportError, MemoryError):
        raise
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path}: it cannot be read without running code of its own; save the tensors alone."
        ) from error
    except Exception as error:  # which one depends on where the file is damaged
        raise UserError(f"{path}: these are not {model}'s weights as published.") from error


def weights_file(folder: Path) -> Path:
    """Return the file with the tensors of a folder, or the one that is missing."""
    return next((folder / name for name in FILES if (folder / name).exists()), folder / FILES[0])


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, safetensors or PyTorch's, without running code of its own."""
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return load_file(path)
    stored: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return stored


def renamed(
    published: Mapping[str, Tensor], names: Sequence[tuple[str, str]], unused: re.Pattern[str]
) -> dict[str, Tensor]:
    """Return published tensors in float32 under our names, by patterns and their replacements.

    Those whose name then begins with a match of `unused` are left out.
    """
    tensors = {}
    for published_name, tensor in published.items():
        name = published_name
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        if not unused.match(name):
            tensors[name] = tensor.float()
    return tensors
