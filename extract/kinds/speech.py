"""Frames of audio encoders: wav2vec 2.0 and its kin, FastConformer, those of audio LLMs, …

The table of them is `speech_families`; each is run as it was trained, at its own rate, any layer.

1. Turn the whole clip to what the model reads, by its own feature extractor: the waveform, mostly
   with mean 0 and variance 1, or log-mels.
2. Cut what is longer than `chunk` seconds into chunks of that length, `overlap` seconds shared.
3. Run a few chunks at a time, so that memory is bounded by the chunk, not by the clip.
4. Join: a seam lies in the middle of an overlap, and every frame occurs once, as many as in one
   run over the whole clip.

What joined frames owe to the cut: nothing at layer 0 of a layer-norm model (convolutions only, and
the widest covers 1.28 s on either side, less than half the default overlap). Above, attention sees
its own chunk instead of the whole clip: frames come near those of one run and never equal them. A
group norm averages over its own chunk too, so there all layers differ, by about a tenth. Where
attention is limited to blocks anyway (Qwen3), chunks are whole blocks and frames are equal.

Models with a window of their own (Voxtral, Qwen2-Audio, AST, CLAP, …) take the clip in windows, the
last one padded as their feature extractor pads: step 1 is then that of each window.
"""

from collections.abc import Hashable
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from ser.corpus.errors import UserError
from ser.extract.encoding import EncoderExtractor, dtype_on, read_config
from ser.extract.extractor import FeatureOptions, ModelOptions, extractor
from ser.extract.kinds.speech_families import Family, Located, locate
from ser.extract.models import EMOTION2VEC, own_file

if TYPE_CHECKING:
    from ser.extract.kinds.speech_encoder import SpeechEncoder

AT_ONCE = 4  # chunks in one run of the model


class ChunkOptions(FeatureOptions):
    """Options of kinds that cut long clips; `chunk` and `overlap` are seconds."""

    chunk: float = Field(default=30.0, ge=1.0, le=3600.0)
    overlap: float = Field(default=2.6, ge=0.0, le=1800.0)

    @model_validator(mode="after")
    def _shorter(self) -> Self:
        if self.overlap > self.chunk / 2:
            raise ValueError(f"`overlap` is at most half of `chunk` ({self.chunk / 2:g} s)")
        return self


class SpeechOptions(ChunkOptions, ModelOptions):
    """Options of `kind: speech`.

    `posteriors` gives the log-probability of each token of a CTC model, such as phones.
    """

    posteriors: bool = False

    @model_validator(mode="after")
    def _one_layer(self) -> Self:
        if self.posteriors and self.layer != -1:
            raise ValueError("`posteriors` are those of the last layer; leave `layer` out")
        return self


@extractor("speech")
class Speech(EncoderExtractor):
    """Extract hidden states of an audio encoder; `frame_rate` is the model's own once loaded."""

    Options: ClassVar[type[FeatureOptions]] = SpeechOptions
    prepares_at_once: ClassVar[bool] = True
    frame_rate: float = 50.0

    @cached_property
    def config(self) -> dict[str, object]:
        """The model's config.json; emotion2vec has none."""
        if own_file(self.folder, *EMOTION2VEC):
            return {"model_type": "emotion2vec"}
        config = read_config(self.folder)
        if config.get("architectures") == ["SpearModel"]:  # there may be no model_type
            return {"model_type": "spear", **config}
        return config

    @cached_property
    def located(self) -> Located:
        """The encoder in the model."""
        return locate(self.options.model, self.config)

    def build_encoder(self, device: str, trained: bool = False) -> "SpeechEncoder":
        """Load the model and its own normalisation."""
        from ser.extract.kinds.speech_encoder import SpeechEncoder

        family = self.located.family
        if trained and not family.trainable:
            raise UserError(f"{self.options.model}: {family.name} cannot be fine-tuned.")
        self.frame_rate = family.rate
        return SpeechEncoder(self.options, self.folder, self.located, dtype_on(device)).to(device)

    def batch_key(self, size: int) -> Hashable:
        """Return the length of what is run, in samples or frames, where there is no mask."""
        family, config = self.located.family, self.located.config
        if family.takes_mask(config):
            return None
        chunk = chunk_frames(family, self.options)
        if family.reads == "waveform":
            return min(size, (chunk - 1) * family.hop + family.field)
        return min(family.frames(size), chunk)

    def cost(self, size: int) -> float:
        """Return the frames of all chunks."""
        family = self.located.family
        chunks = len(cuts_of(family, self.options, size))
        if chunks == 1 and not family.window:
            return super().cost(size)
        return float(chunks * chunk_frames(family, self.options) * 50 / family.rate)


def require_samples(wave: np.ndarray, family: Family) -> None:
    """Raise `ValueError` for a waveform that is shorter than one frame."""
    if len(wave) < family.least:
        raise ValueError(f"{len(wave)} samples are fewer than one frame needs ({family.least})")


def chunk_frames(family: Family, options: SpeechOptions) -> int:
    """Return the frames of a chunk: of a multiple of blocks, or at most of a window."""
    frames = round(options.chunk * family.rate)
    if family.window:
        return min(frames, family.window)
    return max(1, frames // family.block) * family.block if family.block else frames


def cuts_of(family: Family, options: SpeechOptions, samples: int) -> list[tuple[int, slice]]:
    """Return the `cuts` of a clip; blocks do not overlap."""
    frames, chunk = family.frames(samples), chunk_frames(family, options)
    if family.block:
        return [
            (start, slice(0, min(chunk, frames - start)))
            for start in range(0, max(1, frames), chunk)
        ]
    return cuts(frames, chunk, min(round(options.overlap * family.rate), chunk // 2))


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
