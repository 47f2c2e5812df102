"""Transcripts of a CTC model: wav2vec 2.0, HuBERT, WavLM, Parakeet and others with such a head.

The likeliest token of each frame is taken, repetitions are merged and blanks removed (Graves et
al. 2006, "Connectionist Temporal Classification", section 3.2), without a language model. Frames
are those of `kind: speech` with `posteriors`: chunks, masks and batches are the same, so a
transcript never depends on its batch. Text is as the model writes it, often in capitals and without
punctuation.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ser.cache.transcripts import Transcript
from ser.extract.extractor import FeatureOptions, extractor
from ser.extract.kinds.speech import ChunkOptions, Speech, SpeechOptions
from ser.extract.loading import named_errors
from ser.extract.models import Weights

if TYPE_CHECKING:
    from ser.extract.encoder import Piece


class CtcOptions(ChunkOptions):
    """Options of `kind: ctc`."""

    model: str
    language: str = Field("en", pattern="^[a-z]{2,3}$")


@extractor("ctc")
class Ctc(Speech):
    """Transcribe each clip by the likeliest token of each frame."""

    Options: ClassVar[type[FeatureOptions]] = CtcOptions
    gives: ClassVar[Literal["frames", "transcripts"]] = "transcripts"

    def __init__(self, options: CtcOptions, weights: Weights | None = None) -> None:
        shared = options.model_dump(include={"kind", "model", "chunk", "overlap"})
        super().__init__(SpeechOptions(posteriors=True, **shared), weights)
        self._language = options.language

    def load(self, device: str) -> None:
        """Load the model and its tokenizer."""
        from transformers import AutoTokenizer

        super().load(device)
        with named_errors(self.options.model):
            self._tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        self._blank = int(self.encoder.model.config.pad_token_id)

    def compute(self, batch: "Sequence[list[Piece]]") -> list[Transcript]:
        """Return the words of each waveform in pieces."""
        return [self._decode(np.concatenate(parts)) for parts in self.frames_of_pieces(batch)]

    def _decode(self, log_probabilities: np.ndarray) -> Transcript:
        """Return the words of frames of log-probabilities `(frames, tokens)`."""
        best = log_probabilities.argmax(axis=1)
        scores = log_probabilities.max(axis=1)
        first = np.flatnonzero(np.diff(best, prepend=-1) != 0)
        emitted = first[best[first] != self._blank]
        options: dict[str, Any] = {"group_tokens": False}  # letters that a blank parted stay two
        text = self._tokenizer.decode(best[emitted].tolist(), skip_special_tokens=True, **options)
        return Transcript(
            text=str(text).strip(),
            avg_logprob=float(scores[emitted if len(emitted) else first].mean()),
            no_speech_prob=0.0,
            language=self._language,
        )
