"""What every extractor is: a kind, its options, and a way from a batch to frames.

To add one, subclass `Extractor` in a module, decorate it with `@extractor("kind")`, and name the
module under `plugins:` in pipeline.yaml, or in a package's entry points (`ser.corpus.registry`).
The stage does the rest: decoding, batching, resume, failures, shards.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field

from ser.cache.precision import Precision
from ser.cache.transcripts import Transcript
from ser.corpus.augment import Views
from ser.corpus.config import Name, Section
from ser.corpus.errors import UserError
from ser.corpus.registry import BuiltIn, Registry, origin, reason, require_call, require_options
from ser.extract.layers import Layer
from ser.extract.models import Weights
from ser.extract.registry import kind_of

SAMPLE_RATE = 16_000
TRANSCRIPT = "transcript"  # the manifest's own column


class FeatureOptions(Section):
    """An entry of `features:`; each kind adds its own keys.

    `remote`: the model is on a server, and there are no weights on this machine. `unnamed` are the
    keys that do not change the numbers; a local model is identified by the digest of its weights.
    """

    remote: ClassVar[bool] = False
    unnamed: ClassVar[frozenset[str]] = frozenset({"model", "augment"})

    kind: Name
    precision: Precision = "float16"
    augment: Views = Field({})  # views of the training clips

    # what some kinds have a key for, and others not

    @property
    def pretrained(self) -> str | None:
        """The short name, hub id or folder of the model; None for a kind without one."""
        return getattr(self, "model", None)

    @property
    def weights(self) -> str | None:
        """The model whose weights are on this machine; None for a kind without one."""
        return None if self.remote else self.pretrained

    @property
    def words_of(self) -> str | None:
        """The feature whose words it reads, or `TRANSCRIPT`; None for a kind that reads audio."""
        return getattr(self, "of", None)

    @property
    def transcripts(self) -> str | None:
        """The feature whose words it reads; None where it reads no feature."""
        return None if self.words_of == TRANSCRIPT else self.words_of

    @property
    def source_file(self) -> str | None:
        """The file that it is imported from; None for a kind that computes something."""
        return getattr(self, "file", None)

    @property
    def layers(self) -> int | str | None:
        """The layer or layers that it keeps; None for a kind without a choice."""
        return getattr(self, "layer", None)

    @property
    def quantization(self) -> str:
        """The precision of quantized weights, such as int8; "none" where they are not."""
        return getattr(self, "quantize", "none")


class ModelOptions(FeatureOptions):
    """Options of every kind that runs a pretrained model."""

    model: str  # short name, hub id or folder
    layer: Layer = -1
    compile: bool = False  # by torch.compile: pays on long jobs on a GPU, and changes last digits


class Extractor(ABC):
    """Turn batches of one kind of input into frames.

    `load` is called once, before everything except `batch_key` and `cost`, which plan batches from
    sizes alone (samples at 16 kHz, or characters).
    """

    Options: ClassVar[type[FeatureOptions]] = FeatureOptions
    reads: ClassVar[Literal["audio", "text", "file"]] = "audio"
    gives: ClassVar[Literal["frames", "transcripts"]] = "frames"
    whole: ClassVar[bool] = True  # a batch runs whole, or the last bits of its numbers may change
    prepares_at_once: ClassVar[bool] = False  # whether several threads may call `prepare`
    version: ClassVar[int] = 1  # raise it when a change of code changes the numbers

    many_batches: bool = False  # whether a corpus follows; set before load
    batches_at_once: int = 1  # that `compute` may be given by threads; known after load
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

    def prepare(self, source: Any) -> Any:
        """Return what `compute` takes for one input of `extract`: by default the input itself.

        It runs in a thread while the model runs in another. Raises `ValueError` for an input it
        cannot take. A class that changes it defines `compute`, too.
        """
        return source

    def compute(
        self, batch: Sequence[Any]
    ) -> Sequence[np.ndarray | ValueError] | Sequence[Transcript]:
        """Return what `extract` does, of inputs that `prepare` returned."""
        return self.extract(batch)

    def batch_key(self, size: int) -> Hashable:
        """Return a key; only inputs with equal keys share a batch."""
        return None

    def cost(self, size: int) -> float:
        """Return how many frames an input of this size will occupy on the device."""
        return size / SAMPLE_RATE * 50


Decorated = TypeVar("Decorated", bound=type[Extractor])
EXTRACTORS = Registry[type[Extractor], None](
    "kind",
    "features",
    {
        name: BuiltIn(f"ser.extract.{module}", summary, None)
        for name, module, summary in (
            ("whisper", "kinds.whisper", "Frames of Whisper's encoder, 50 Hz."),
            ("asr", "kinds.whisper", "Transcripts of Whisper."),
            ("ctc", "kinds.ctc", "Transcripts of wav2vec 2.0, Parakeet and other CTC models."),
            ("recognizer", "kinds.recognizer", "Transcripts of Moonshine, Canary and others."),
            ("speech", "kinds.speech", "Frames of wav2vec 2.0, WavLM and many other encoders."),
            ("classifier", "kinds.classifier", "Classes or attributes of a published classifier."),
            ("speaker", "kinds.speaker", "One vector of the speaker's voice for each clip."),
            ("text", "kinds.text", "Token states of a text model, of transcripts."),
            ("llm", "kinds.llm", "Class scores of a large language model, of transcripts."),
            ("audio_llm", "kinds.audio_llm", "Class scores of an audio language model, of clips."),
            ("local_audio_llm", "kinds.local_audio_llm", "Class scores of a local audio LLM."),
            ("prosody", "kinds.prosody", "Pitch, loudness and voice quality: 16 values, 100 Hz."),
            ("pitch", "kinds.pitch", "F0 tracked over the clip, and its strength, 100 Hz."),
            ("opensmile", "kinds.prosody", "openSMILE's eGeMAPS descriptors: 25 values, 100 Hz."),
            ("facodec", "kinds.prosody", "FACodec's prosody and timbre: 512 values, 80 Hz."),
            ("imported", "kinds.imported", "Features made elsewhere: `ser cache import`."),
            (
                "imported_transcripts",
                "kinds.imported",
                "Transcripts of a file: a table, CTM, or WhisperX's JSON.",
            ),
        )
    },
)


def extractor(kind: str) -> Callable[[Decorated], Decorated]:
    """Register an extractor class.

    Args:
        kind: the value of `kind:` that chooses it in pipeline.yaml.

        >>> @extractor("energy")
        ... class Energy(Extractor):
        ...     item_shape, frame_rate = (1,), 10.0
        ...     def load(self, device): ...
        ...     def extract(self, batch):
        ...         return [np.array([[np.square(wave).mean()]], "float32") for wave in batch]
        >>> Energy(FeatureOptions(kind="energy")).extract([np.ones(1600, "float32")])[0].tolist()
        [[1.0]]
    """

    def register(cls: Decorated) -> Decorated:
        require_extractor(kind, cls)
        EXTRACTORS.add(kind, cls, None)
        return cls

    return register


def require_extractor(kind: str, cls: object) -> None:
    """Raise `UserError` for what is not an extractor class, or has options of another kind."""
    if not (isinstance(cls, type) and issubclass(cls, Extractor)):
        name = getattr(cls, "__qualname__", type(cls).__name__)
        raise UserError(
            f"kind '{kind}': {name} is not a subclass of Extractor; derive it from "
            "ser.extract.extractor.Extractor."
        )
    require_options("kind", kind, cls.Options, FeatureOptions)
    require_call("kind", kind, cls, "(options, weights)", 2)


def describe_class(kind: str, cls: type[Extractor]) -> str:
    """Return a kind and the class that it stands for, for messages."""
    return f"the extractor '{kind}' ({origin(cls)})"


@contextmanager
def naming_the_class(kind: str, cls: type[Extractor], step: str, method: str) -> Iterator[None]:
    """Raise what a class of a user's raises in a method as `UserError` that names the class.

    Args:
        kind: the kind that the class is registered as; the errors of built-in ones are left alone.
        cls: the class.
        step: what it could not do, as "built".
        method: where to correct it.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if kind in EXTRACTORS.built_in:
            raise
        absent = isinstance(error, ImportError)
        remedy = "install what it imports" if absent else f"correct its {method}"
        raise UserError(
            f"{describe_class(kind, cls)} cannot be {step} ({reason(error)}); {remedy}."
        ) from error


def build_extractor(options: FeatureOptions, weights: Weights | None) -> Extractor:
    """Build the extractor of a feature; raises `UserError` for a user's class that fails."""
    cls = EXTRACTORS.get(options.kind)
    with naming_the_class(options.kind, cls, "built", "__init__"):
        return cls(options, weights)


def parse_options(entry: Mapping[str, object]) -> FeatureOptions:
    """Validate one entry of `features:` by its kind; a known model brings its own kind.

    Raises pydantic's `ValidationError`, or `UserError` for an unknown kind.
    """
    entry = dict(entry)
    if "kind" not in entry and "model" in entry:
        entry["kind"] = kind_of(str(entry["model"]))
    if "kind" not in entry:
        raise UserError("features: an entry has neither `kind` nor `model`; give one of them.")
    return EXTRACTORS.get(str(entry["kind"])).Options.model_validate(entry)
