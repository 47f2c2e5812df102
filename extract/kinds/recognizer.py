"""Transcripts of recognizers with a decoder: Moonshine, Parakeet TDT, Canary, Qwen3-ASR and others.

Each is given a clip as its own processor prepares it, and decoded greedily. Whisper has `kind:
asr`, CTC models `kind: ctc`.

A clip of more than `chunk` seconds is cut where it is quietest, and the texts are joined. Clips of
different lengths share a batch only where the model masks padding in all its parts, so a transcript
never depends on its batch; in most that do not, such as Moonshine, clips get silence up to a
multiple of 0.5 s, where they meet. A decoder that repeats itself is stopped after more tokens than
anybody speaks in the time of the clip.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ser.cache.transcripts import Transcript
from ser.corpus.errors import UserError, listed
from ser.extract.encoding import PreparingExtractor, groups, model_type_of
from ser.extract.extractor import SAMPLE_RATE, FeatureOptions, extractor
from ser.extract.kinds.whisper import QUIET, join

STEP = SAMPLE_RATE // 10  # samples: pauses are looked for in steps of 0.1 s
HALF_SECOND = SAMPLE_RATE // 2  # samples: shorter clips get silence behind them
AT_ONCE = 4  # pieces of long clips in one run of the model


@dataclass(frozen=True)
class Family:
    """How a model type of transformers transcribes.

    Args:
        name: in sentences and tables.
        cls: the module and class of transformers.
        call: how its processor is called, a case of `recognizer_models._called`.
        multiple: samples to a multiple of which clips get silence, and only equal lengths share a
            batch; 0 where any lengths do.
        steps: the most steps of its decoder for a second: tokens and blanks.
        blank: the key of its config that is the token for no text, where there is one.
    """

    name: str
    cls: str
    call: str = "audio"
    multiple: int = 0
    steps: float = 13.0
    blank: str = ""


_TRANSDUCER = Family(
    "Parakeet RNN-T",
    "parakeet.ParakeetForRNNT",
    "transducer",
    steps=50.0,
    blank="blank_token_id",
)
RECOGNIZERS = {
    "moonshine": Family(
        "Moonshine", "moonshine.MoonshineForConditionalGeneration", multiple=HALF_SECOND
    ),
    "seamless_m4t_v2": Family(
        "SeamlessM4T v2", "seamless_m4t_v2.SeamlessM4Tv2ForSpeechToText", "seamless", multiple=1
    ),
    "parakeet_rnnt": _TRANSDUCER,
    "parakeet_tdt": replace(_TRANSDUCER, name="Parakeet TDT", cls="parakeet.ParakeetForTDT"),
    "canary": Family("Canary", "canary.CanaryForConditionalGeneration", "source_language"),
    "cohere_asr": Family(
        "Cohere Transcribe", "cohere_asr.CohereAsrForConditionalGeneration", "language"
    ),
    "qwen3_asr": Family(
        "Qwen3-ASR",
        "qwen3_asr.Qwen3ASRForConditionalGeneration",
        "request_language",
        multiple=HALF_SECOND,
    ),
    "glmasr": Family("GLM-ASR", "glmasr.GlmAsrForConditionalGeneration", "request"),
    "granite_speech": Family(
        "Granite Speech",
        "granite_speech.GraniteSpeechForConditionalGeneration",
        "request",
        multiple=HALF_SECOND,
    ),
    "voxtral": Family("Voxtral", "voxtral.VoxtralForConditionalGeneration", "request_language"),
    "speech_to_text": Family(
        "Speech2Text", "speech_to_text.Speech2TextForConditionalGeneration", multiple=1
    ),
    "kyutai_speech_to_text": Family(
        "Kyutai STT",
        "kyutai_speech_to_text.KyutaiSpeechToTextForConditionalGeneration",
        "codec",
        multiple=HALF_SECOND,
        blank="pad_token_id",
    ),
}


class RecognizerOptions(FeatureOptions):
    """Options of `kind: recognizer`; `chunk` is in seconds."""

    model: str
    language: str = Field("en", pattern="^[a-z]{2,3}$")
    chunk: float = Field(default=30.0, ge=5.0, le=600.0)


@extractor("recognizer")
class Recognizer(PreparingExtractor):
    """Transcribe each clip with the decoder of its model."""

    Options: ClassVar[type[FeatureOptions]] = RecognizerOptions
    gives: ClassVar[Literal["frames", "transcripts"]] = "transcripts"

    @cached_property
    def family(self) -> Family:
        """The row of its model; raises `UserError` where there is none."""
        model_type = model_type_of(self.options.model, self.folder)
        if model_type not in RECOGNIZERS:
            remedies = {"whisper": "use `kind: asr`", "parakeet_ctc": "use `kind: ctc`"}
            names = listed([family.name for family in RECOGNIZERS.values()])
            raise UserError(
                f"{self.options.model}: a {model_type[:40]} model cannot be run by "
                f"`kind: recognizer`; {remedies.get(model_type, f'those that can are {names}')}."
            )
        return RECOGNIZERS[model_type]

    def load(self, device: str) -> None:
        """Load the model and its processor; raises `UserError` for a language that it lacks."""
        from ser.extract.kinds.recognizer_models import Decoder

        self._decoder = Decoder(self.family, self.options, self.folder, device)

    def prepare(self, source: np.ndarray) -> list[np.ndarray]:
        """Return the pieces of a waveform, with the silence that the model needs behind them."""
        pieces = cut_at_pauses(source, round(self.options.chunk * SAMPLE_RATE))
        return [np.pad(piece, (0, self._samples(len(piece)) - len(piece))) for piece in pieces]

    def _samples(self, piece: int) -> int:
        multiple = self.family.multiple or 1
        return -(-max(piece, HALF_SECOND) // multiple) * multiple

    def compute(self, batch: Sequence[list[np.ndarray]]) -> list[Transcript]:
        """Return the words of each waveform in pieces."""
        pieces = [piece for own in batch for piece in own]
        most = AT_ONCE if len(pieces) > len(batch) else len(pieces)
        transcripts: list[Transcript] = [
            Transcript("", 0.0, 1.0, self.options.language) for _ in pieces
        ]
        for rows in groups([self._key(piece) for piece in pieces], most):
            words = self._decoder.transcribe([pieces[i] for i in rows])
            for i, transcript in zip(rows, words, strict=True):
                transcripts[i] = transcript
        parts = iter(transcripts)
        return [join([next(parts) for _ in own], self.options.language) for own in batch]

    def _key(self, piece: np.ndarray) -> int | None:
        """Return a key: pieces of equal ones may run as one batch; None for one that is silent."""
        if np.abs(piece).max() < QUIET:  # decoders invent words for silence
            return None
        return len(piece) if self.family.multiple else 0

    def batch_key(self, size: int) -> Hashable:
        """Return the length where only equal ones share a batch; a clip in pieces has its own."""
        if not self.family.multiple:
            return None
        return size if size > self.options.chunk * SAMPLE_RATE else self._samples(size)


def cut_at_pauses(wave: np.ndarray, most: int) -> list[np.ndarray]:
    """Cut a waveform into pieces of at most `most` samples.

    A piece ends amid the quietest 0.1 s of the second half of what it may have.

        >>> wave = np.ones(10 * STEP, np.float32)
        >>> wave[5 * STEP : 6 * STEP] = 0.0
        >>> [len(piece) / STEP for piece in cut_at_pauses(wave, 8 * STEP)]
        [5.5, 4.5]
    """
    pieces = []
    while len(wave) > most:
        first = most // 2
        steps = wave[first : first + (most - first) // STEP * STEP].reshape(-1, STEP)
        end = first + int(np.square(steps).mean(axis=1).argmin()) * STEP + STEP // 2
        pieces.append(wave[:end])
        wave = wave[end:]
    return [*pieces, wave]
