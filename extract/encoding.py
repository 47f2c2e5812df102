"""Extraction by an encoder, the same module that fine-tuning trains."""

import json
import sys
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ser.cache.transcripts import Transcript
from ser.corpus.errors import UserError
from ser.extract.devices import device_type
from ser.extract.extractor import Extractor

if TYPE_CHECKING:
    import torch

    from ser.extract.encoder import Encoder, Piece

LONGEST_CONFIG = 1 << 20  # bytes


class PreparingExtractor(Extractor):
    """An extractor with its own `prepare` and `compute`, and weights on this machine."""

    @property
    def folder(self) -> Path:
        """The folder of its weights."""
        assert self.weights is not None
        return self.weights.folder

    def extract(
        self, batch: Sequence[Any]
    ) -> Sequence[np.ndarray | ValueError] | Sequence[Transcript]:
        """Return what `compute` gives for the prepared inputs."""
        return self.compute([self.prepare(source) for source in batch])

    @abstractmethod
    def compute(
        self, batch: Sequence[Any]
    ) -> Sequence[np.ndarray | ValueError] | Sequence[Transcript]:
        """Return what `extract` does, of inputs that `prepare` returned."""


class EncoderExtractor(PreparingExtractor):
    """An extractor whose model is an `Encoder`."""

    encoder: "Encoder"  # after load

    @cached_property
    def config(self) -> dict[str, object]:
        """The model's config.json."""
        return read_config(self.folder)

    def build_encoder(self, device: str, trained: bool = False) -> "Encoder":
        """Load the encoder onto a device; `trained`: as a module that can be trained."""
        raise NotImplementedError

    def load(self, device: str) -> None:
        """Load the encoder; on a GPU several batches run at once."""
        from ser.extract.gpu import AT_ONCE

        self.use(self.build_encoder(device))
        if self.encoder.device.type == "cuda":
            self.batches_at_once = AT_ONCE

    def use(self, encoder: "Encoder") -> None:
        """Take a loaded encoder."""
        self.encoder = encoder.eval()
        self.item_shape, self.batches_at_once = encoder.item_shape, encoder.batches_at_once

    def prepare(self, source: Any) -> "list[Piece]":
        """Return the pieces of an input."""
        return self.encoder.prepare(source)

    def compute(self, batch: "Sequence[list[Piece]]") -> Sequence[Any]:
        """Return the frames of each input, those of its pieces joined."""
        return [np.concatenate(frames) for frames in self.frames_of_pieces(batch)]

    def frames_of_pieces(self, batch: "Sequence[list[Piece]]") -> list[list[np.ndarray]]:
        """Return the frames of each piece of each input; pieces of cut ones run a few at a time."""
        pieces = [piece for own in batch for piece in own]
        most = self.encoder.at_once if len(pieces) > len(batch) else len(pieces)
        frames = iter(self.encoder.frames(pieces, most))
        return [[next(frames) for _ in own] for own in batch]


def groups(keys: Sequence[Hashable | None], most: int = sys.maxsize) -> Iterator[list[int]]:
    """Yield the positions of equal keys, at most so many at a time; those of None are left out.

    >>> [*groups(["a", "b", None, "a", "a"], most=2)]
    [[0, 3], [4], [1]]
    """
    positions: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        if key is not None:
            positions.setdefault(key, []).append(position)
    for group in positions.values():
        yield from (group[i : i + most] for i in range(0, len(group), most))


def dtype_on(device: str) -> "torch.dtype":
    """Return the type of weights on a device: bfloat16 on a GPU, float32 on a CPU."""
    import torch

    return torch.bfloat16 if device_type(device) == "cuda" else torch.float32


def json_object(path: Path, longest: int) -> dict[str, object] | None:
    """Return the object of a model's JSON file; None for one that cannot be read or is longer."""
    try:
        if path.stat().st_size > longest:
            return None
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def read_config(folder: Path) -> dict[str, object]:
    """Return a model's config.json; raises `UserError` for one that cannot be read."""
    path = folder / "config.json"
    config = json_object(path, LONGEST_CONFIG)
    if config is None:
        raise UserError(f"{path}: it is missing or not valid JSON; get the model again.")
    return config


def model_type_of(model: str, folder: Path) -> str:
    """Return the type that a model's config.json names; raises `UserError` where it names none."""
    model_type = read_config(folder).get("model_type")
    if isinstance(model_type, str):
        return model_type
    ctranslate2 = (folder / "model.bin").exists()
    remedy = "for Whisper of CTranslate2 use `kind: asr`" if ctranslate2 else "get the model again"
    raise UserError(f"{model}: its config.json names no model type; {remedy}.")
