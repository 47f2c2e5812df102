"""What every extractor is: a kind, its options, and a way from a batch to frames.

To add one, subclass `Extractor` in a module, decorate it with `@extractor("kind")`, and name the
module under `plugins:` in pipeline.yaml (or in `BUILTIN` below). The stage does the rest: decoding,
batching, resume, failures, shards.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import field_validator

from cache.features import Precision
from cache.transcripts import Transcript
from corpus.config import Section
from corpus.errors import UserError
from extract.layers import check_policy
from extract.models import Weights

SAMPLE_RATE = 16_000
BUILTIN = {
    "whisper": "extract.whisper",
    "asr": "extract.whisper",
    "speech": "extract.speech",
    "text": "extract.text",
    "prosody": "extract.prosody",
    "opensmile": "extract.prosody",
    "facodec": "extract.facodec",
}


class FeatureOptions(Section):
    """Hold one entry of `features:`; each kind adds its own keys."""

    kind: str
    precision: Precision = "float16"


class ModelOptions(FeatureOptions):
    """Options of every kind that runs a pretrained model."""

    model: str  # short name, hub id or folder
    layer: int | str = -1

    @field_validator("layer")
    @classmethod
    def _layer(cls, layer: int | str) -> int | str:
        return check_policy(layer)


class Extractor(ABC):
    """Turn batches of one kind of input into frames.

    `load` is called once, before anything else but `batch_key` and `cost`, which plan batches from
    sizes alone (samples at 16 kHz, or characters).
    """

    Options: ClassVar[type[FeatureOptions]] = FeatureOptions
    reads: ClassVar[Literal["audio", "text"]] = "audio"
    gives: ClassVar[Literal["frames", "transcripts"]] = "frames"
    version: ClassVar[int] = 1  # raise it when a change of code changes the numbers

    item_shape: tuple[int, ...]  # (dim,) or (layers, dim); known after load
    frame_rate: float | None = None  # Hz; None for text

    def __init__(self, options: Any, weights: Weights | None = None) -> None:
        self.options = options
        self.weights = weights

    @abstractmethod
    def load(self, device: str) -> None:
        """Load the model onto `cpu` or `cuda`."""

    @abstractmethod
    def extract(self, batch: Sequence[Any]) -> Sequence[np.ndarray] | Sequence[Transcript]:
        """Turn float32 waveforms `(samples,)` at 16 kHz, or texts, into one result each.

        Frames are `(frames, *item_shape)` float32, at least one. A result never depends on what
        else is in the batch (to 1e-4). Raises `ValueError` for an input it cannot take.
        """

    def batch_key(self, size: int) -> Hashable:
        """Return a key; only inputs with equal keys share a batch."""
        return None

    def cost(self, size: int) -> float:
        """Return how many frames an input of this size will occupy on the device."""
        return size / SAMPLE_RATE * 50


_KINDS: dict[str, type[Extractor]] = {}


def extractor(kind: str) -> Callable[[type[Extractor]], type[Extractor]]:
    """Register an extractor class under its kind."""

    def register(cls: type[Extractor]) -> type[Extractor]:
        _KINDS[kind] = cls
        return cls

    return register


def extractor_class(kind: str) -> type[Extractor]:
    """Return the class of a kind; raises `UserError` with the nearest kind otherwise."""
    if kind not in _KINDS and kind in BUILTIN:
        import_module(BUILTIN[kind])
    if kind not in _KINDS:
        known = sorted({*BUILTIN, *_KINDS})
        near = get_close_matches(kind, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}."
        raise UserError(f"features: the kind '{kind}' is unknown; {hint}")
    return _KINDS[kind]


def parse_options(entry: Mapping[str, Any]) -> FeatureOptions:
    """Validate one entry of `features:` by its kind; a known model brings its own kind.

    Raises pydantic's `ValidationError`, or `UserError` for an unknown kind.
    """
    from extract.models import kind_of

    entry = dict(entry)
    if "kind" not in entry and "model" in entry:
        entry["kind"] = kind_of(str(entry["model"]))
    if "kind" not in entry:
        raise UserError("features: an entry has neither `kind` nor `model`; give one of them.")
    return extractor_class(str(entry["kind"])).Options.model_validate(entry)


def choose_device(device: str) -> str:
    """Turn `auto` into `cuda` where there is a GPU, else `cpu`."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
