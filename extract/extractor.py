"""What every extractor is: a kind, its options, and a way from a batch to frames.

The layer policy of a model says which hidden states become the feature: `-1` (the last) or any
index, 0 being what enters the first layer; `mean:-4:` and `sum:-4:`, a Python slice of the layers;
`all`, every layer, so that a frame becomes (layers, dim).

To add one, subclass `Extractor` in a module, decorate it with `@extractor("kind")`, and name the
module under `plugins:` in pipeline.yaml (or in `BUILTIN` below). The stage does the rest: decoding,
batching, resume, failures, shards.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, SerializeAsAny, field_validator

from cache.precision import Precision
from cache.transcripts import Transcript
from corpus.augment import View, parse_views
from corpus.config import Section
from corpus.errors import UserError, nearest
from extract.models import Weights

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 16_000
PATTERN = re.compile(r"(mean|sum):(-?\d*):(-?\d*)")
BUILTIN = {
    "whisper": "extract.kinds.whisper",
    "asr": "extract.kinds.whisper",
    "speech": "extract.kinds.speech",
    "text": "extract.kinds.text",
    "llm": "extract.kinds.llm",
    "prosody": "extract.kinds.prosody",
    "opensmile": "extract.kinds.prosody",
    "facodec": "extract.kinds.prosody",
}


class FeatureOptions(Section):
    """Hold one entry of `features:`; each kind adds its own keys.

    `remote`: a server has the model, and there are no weights here. `unnamed` are the keys that do
    not change the numbers; a model here is told by the digest of its weights.
    """

    remote: ClassVar[bool] = False
    unnamed: ClassVar[frozenset[str]] = frozenset({"model", "augment"})

    kind: str
    precision: Precision = "float16"
    augment: dict[str, SerializeAsAny[View]] = Field({})  # views of the training clips

    @field_validator("augment", mode="before")
    @classmethod
    def _views(cls, said: Any) -> dict[str, View]:
        return parse_views(said)


class ModelOptions(FeatureOptions):
    """Options of every kind that runs a pretrained model."""

    model: str  # short name, hub id or folder
    layer: int | str = -1
    compile: bool = False  # by torch.compile: pays on long jobs on a GPU, and changes last digits

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
    whole: ClassVar[bool] = True  # a batch runs whole, or the last bits of its numbers may change
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
    def extract(
        self, batch: Sequence[Any]
    ) -> Sequence[np.ndarray | ValueError] | Sequence[Transcript]:
        """Turn float32 waveforms `(samples,)` at 16 kHz, or texts, into one result each.

        Frames are `(frames, *item_shape)` float32, at least one. A result never depends on what
        else is in the batch (to 1e-4). Raises `ValueError` for an input it cannot take, or returns
        it in the place of that one's result where the others need not be computed again.
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


@extractor("imported")
class Imported(Extractor):
    """Name features made elsewhere: `ser cache import` brings them in, nothing extracts them."""

    def load(self, device: str) -> None:
        """Raise `ValueError`: there is no model."""
        raise ValueError("features of kind 'imported' are brought in by `ser cache import`")

    def extract(self, batch: Sequence[Any]) -> list[np.ndarray]:
        """Raise `ValueError`: there is no model."""
        self.load("cpu")
        return []


def extractor_class(kind: str) -> type[Extractor]:
    """Return the class of a kind; raises `UserError` with the nearest kind otherwise."""
    if kind not in _KINDS and kind in BUILTIN:
        import_module(BUILTIN[kind])
    if kind not in _KINDS:
        known = sorted({*BUILTIN, *_KINDS})
        raise UserError(f"features: the kind '{kind}' is unknown; {nearest(kind, known)}")
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


def weights_of(options: FeatureOptions) -> str | None:
    """Return the model whose weights a feature needs here, None for no model or a server's."""
    return None if options.remote else getattr(options, "model", None)


def choose_device(device: str) -> str:
    """Turn `auto` into `cuda` where there is a GPU, else `cpu`."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_policy(policy: int | str) -> int | str:
    """Return the policy, digits as int; raises `ValueError` when it is not one."""
    text = str(policy)
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if text == "all" or PATTERN.fullmatch(text):
        return text
    raise ValueError("a layer is an index, 'mean:-4:', 'sum:-4:' (any slice) or 'all'")


def taken(states: int, policy: int | str) -> list[int]:
    """Return which of a model's states a policy takes; raises `ValueError` when it has none."""
    match = PATTERN.fullmatch(str(policy))
    if match is not None:
        _, start, stop = match.groups()
        span = slice(int(start) if start else None, int(stop) if stop else None)
        if not range(states)[span]:
            raise ValueError(f"layer {policy}: the slice is empty, the model has {states} states")
        return list(range(states)[span])
    if policy == "all":
        return list(range(states))
    if not -states <= int(policy) < states:
        raise ValueError(f"layer {policy}: the model has states 0 to {states - 1}")
    return [int(policy) % states]


def choose(states: "Sequence[torch.Tensor]", policy: int | str) -> "torch.Tensor":
    """Apply a policy to states of `(batch, frames, dim)`, the first of them the input of layer 1.

    Returns `(batch, frames, dim)`, or `(batch, frames, layers, dim)` for `all`. Raises `ValueError`
    for a layer the model does not have.
    """
    import torch

    chosen = [states[i] for i in taken(len(states), policy)]
    if policy == "all":
        return torch.stack(chosen, dim=2)
    if len(chosen) == 1:
        return chosen[0]
    stacked = torch.stack(chosen)
    return stacked.mean(0) if str(policy).startswith("mean") else stacked.sum(0)


def hidden(model: Any, states: int, policy: int | str, **inputs: Any) -> "torch.Tensor":
    """Run a transformers model that has this many states, and apply a policy to them.

    All states are asked for only where the policy needs them: they would be most of the memory. The
    last one is the model's own output, behind its final norm where there is one.
    """
    last_only = taken(states, policy) == [states - 1]
    out = model(output_hidden_states=not last_only, **inputs)
    below = (None,) * (states - 1) if last_only else out.hidden_states[:-1]
    return choose([*below, out.last_hidden_state], policy)


def item_shape(states: int, dim: int, policy: int | str) -> tuple[int, ...]:
    """Return the shape of one frame: (dim,) or, for `all`, (states, dim).

    Raises `ValueError` for a layer the model does not have: at loading, before any work is done.
    """
    taken(states, policy)
    return (states, dim) if policy == "all" else (dim,)
