"""Frames of wav2vec 2.0, XLS-R, HuBERT, WavLM and w2v-BERT 2.0: 50 Hz, any layer.

1. Normalise the whole clip the way the model was trained: the waveform to mean 0 and variance 1;
   for w2v-BERT each band of its log-mels.
2. Cut what is longer than `chunk` seconds into chunks of that length, `overlap` seconds shared.
3. Run a few chunks at a time, so that memory is bounded by the chunk, not by the clip.
4. Join: a seam lies in the middle of an overlap, and every frame occurs once, as many as in one
   run over the whole clip.

What joined frames owe to the cut: nothing at layer 0 of a layer-norm model (convolutions only, and
the widest hears 1.28 s on either side, less than half the default overlap). Above, attention hears
its own chunk instead of the whole clip: frames come near those of one run and never equal them. A
group norm averages over its own chunk too, so there all layers differ, by about a tenth.

Models with a layer-norm feature encoder (the large ones) take an attention mask, so clips of any
length share a batch. Group-norm ones (wav2vec2-base, hubert-base, wavlm-base) average over time
before any mask applies, and a wav2vec2-conformer convolves over its padding: there, only equal
lengths share a batch.
"""

from collections.abc import Hashable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from ser.corpus.errors import UserError
from ser.extract.encoding import EncoderExtractor, dtype_on
from ser.extract.extractor import SAMPLE_RATE, FeatureOptions, ModelOptions, extractor

if TYPE_CHECKING:
    from ser.extract.kinds.speech_encoder import SpeechEncoder

HOP = 320  # samples from one frame to the next: 20 ms
RATE = SAMPLE_RATE / HOP  # frames a second
FIELD = 400  # samples behind one frame, or behind one row of log-mels: 25 ms
MEL_HOP = 160  # samples from one row of log-mels to the next; w2v-BERT stacks two
AT_ONCE = 4  # chunks in one run of the model


class SpeechOptions(ModelOptions):
    """Options of `kind: speech`; `chunk` and `overlap` are seconds."""

    chunk: float = Field(default=30.0, ge=1.0, le=3600.0)
    overlap: float = Field(default=2.6, ge=0.0, le=1800.0)

    @model_validator(mode="after")
    def _shorter(self) -> "SpeechOptions":
        if self.overlap > self.chunk / 2:
            raise ValueError(f"`overlap` is at most half of `chunk` ({self.chunk / 2:g} s)")
        return self

    @property
    def chunk_frames(self) -> int:
        """The frames of a chunk."""
        return round(self.chunk * RATE)


@extractor("speech")
class Speech(EncoderExtractor):
    """Extract hidden states of a self-supervised speech encoder."""

    Options: ClassVar[type[FeatureOptions]] = SpeechOptions
    frame_rate: float = RATE

    def build_encoder(self, device: str, trained: bool = False) -> "SpeechEncoder":
        """Load the model and its own normalisation."""
        from ser.extract.kinds.speech_encoder import SpeechEncoder

        return SpeechEncoder(self.options, self.folder, dtype_on(device)).to(device)

    def batch_key(self, size: int) -> Hashable:
        """Return the exact length of what is run where the model cannot be masked."""
        longest = (self.options.chunk_frames - 1) * HOP + FIELD
        return None if takes_mask(self.config) else min(size, longest)

    def cost(self, size: int) -> float:
        """Return the frames of all chunks."""
        chunks = len(cuts_of(self.options, size, reads_mels(self.config)))
        return super().cost(size) if chunks == 1 else float(chunks * self.options.chunk_frames)


def require_samples(wave: np.ndarray, mels: bool) -> None:
    """Raise `ValueError` for a waveform that is shorter than one frame."""
    least = FIELD + MEL_HOP if mels else FIELD
    if len(wave) < least:
        raise ValueError(f"{len(wave)} samples are fewer than one frame needs ({least})")


def reads_mels(config: Mapping[str, Any]) -> bool:
    """Return whether a model reads log-mels instead of the waveform, from its config.json."""
    return bool(config["model_type"] == "wav2vec2-bert")


def takes_mask(config: Mapping[str, Any]) -> bool:
    """Return whether clips of different lengths may share a batch, from a model's config.json."""
    if config["model_type"] == "wav2vec2-conformer":
        return False
    return reads_mels(config) or bool(config.get("feat_extract_norm") == "layer")


def frames_of(samples: int, mels: bool) -> int:
    """Return how many frames a model has for a clip; `mels` is the result of `reads_mels`."""
    rows = (samples - FIELD) // MEL_HOP + 1
    return rows // 2 if mels else (rows + 1) // 2


def require_speech(model: str, config: Any) -> None:
    """Raise `UserError` unless a model's config (transformers) is of this kind, at 50 Hz."""
    supported = config.model_type == "wav2vec2-bert" or (
        getattr(config, "feat_extract_norm", None) in ("layer", "group")
    )
    if not supported or config.inputs_to_logits_ratio != HOP:
        raise UserError(
            f"{model}: a {config.model_type} model is not of kind speech, which takes wav2vec 2.0, "
            "HuBERT, WavLM and w2v-BERT 2.0 at 50 Hz."
        )


def normalised(normalise: Any, wave: np.ndarray, mels: bool) -> np.ndarray:
    """Return what a model reads of a clip, float32, by its own feature extractor.

    That is the waveform `(samples,)`, or with `mels` pairs of log-mel rows `(frames, 160)`.
    """
    inputs = normalise(wave, sampling_rate=SAMPLE_RATE, return_tensors="np")
    if not mels:
        return np.asarray(inputs["input_values"][0], np.float32)
    whole = int(inputs["attention_mask"][0].sum())  # a last odd row is no frame
    return np.asarray(inputs["input_features"][0, :whole], np.float32)


def cuts_of(options: SpeechOptions, samples: int, mels: bool) -> list[tuple[int, slice]]:
    """Return the `cuts` of a clip."""
    overlap = round(options.overlap * RATE)
    return cuts(frames_of(samples, mels), options.chunk_frames, overlap)


def cuts(frames: int, chunk: int, overlap: int) -> list[tuple[int, slice]]:
    """Return each chunk's first frame, and which of its frames to keep; all are counts of frames.

    Every chunk has the same length: the last one ends with the clip and overlaps by more. A kept
    frame is at least `overlap // 2` frames away from where its chunk was cut.
    """
    if frames <= chunk:
        return [(0, slice(0, frames))]
    starts = [*range(0, frames - chunk, chunk - overlap), frames - chunk]
    seams = [0, *((before + chunk + after) // 2 for before, after in pairwise(starts)), frames]
    return [(s, slice(a - s, b - s)) for s, (a, b) in zip(starts, pairwise(seams), strict=True)]
