"""Whisper twice: frames of its encoder (50 Hz, any layer), and transcripts.

The window decides what the encoder gets besides the clip (the weights were trained on 30 s):

    full   the clip, zeros up to 30 s: what the papers do
    trim   the clip, silence, and on to a multiple of 0.2 s: several times cheaper

`trim` adds 1 s of silence for frames and 8 s for words: with less, the decoder misses the end and
repeats itself. tiny.en, 32 clips of RAVDESS, loops and word errors: 1 s 21 and 67 %, 3 s 13 and
44 %, 5 s 7 and 26 %, 8 s none and 4 %; the full window none and 5 %, for three times the work.
A loop that remains is transcribed again in the full window.

Either way `ceil(samples / 320)` frames are kept, those of the clip. Audio over 30 s is cut into
windows of 30 s and joined. Whisper has no padding mask, so a batch holds windows of one length
only: the multiple of 0.2 s makes them meet, and a clip's window never depends on its neighbours.
"""

import math
import zlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ser.cache.transcripts import Transcript, Word
from ser.extract.encoding import EncoderExtractor, PreparingExtractor
from ser.extract.extractor import SAMPLE_RATE, FeatureOptions, ModelOptions, extractor

if TYPE_CHECKING:
    from ser.extract.encoder import Piece
    from ser.extract.kinds.whisper_encoder import WindowEncoder

HOP = 320  # samples a frame: 10 ms mels, halved by the second convolution
LONGEST = 30 * SAMPLE_RATE
TRIM_STEP = SAMPLE_RATE // 5
# text that zlib shrinks more than this repeats itself (Radford et al. 2022, section 4.5)
LOOP = 2.4
# section 4.5: a segment is silence if both are true
NO_SPEECH, UNLIKELY = 0.6, -1.0
QUIET = 1e-4  # a peak of -80 dBFS: digital silence, dither; the decoder invents words for it

Encoded = Sequence[tuple[list[int], Sequence[Any]]]  # positions and states of windows
Windows = tuple[np.ndarray, list["Piece"]]  # a waveform and the log-mels of its windows
Window = Literal["full", "trim"]
Normalisation = Literal["none", "basic", "english"]


def cut(wave: np.ndarray) -> list[np.ndarray]:
    """Cut a waveform into pieces of at most 30 s."""
    return [wave[i : i + LONGEST] for i in range(0, max(len(wave), 1), LONGEST)]


class WindowOptions(FeatureOptions):
    """Options of both kinds of Whisper; `silence` is what `trim` adds at the least, in seconds."""

    window: Window = "full"
    silence: float = Field(1.0, ge=0, le=30)

    def samples(self, clip: int) -> int:
        """Return the samples of the window of a clip of at most 30 s."""
        if self.window == "full":
            return LONGEST
        least = clip + round(self.silence * SAMPLE_RATE)
        return min(LONGEST, math.ceil(least / TRIM_STEP) * TRIM_STEP)


class WindowedExtractor(PreparingExtractor):
    """Plan batches for Whisper: windows of one length share a batch."""

    prepares_at_once: ClassVar[bool] = True

    def batch_key(self, size: int) -> Hashable:
        """Return the window: clips over 30 s have several and go alone."""
        return size if size > LONGEST else self.options.samples(size)

    def cost(self, size: int) -> float:
        """Return the frames of all windows."""
        whole, remainder = divmod(size, LONGEST)
        last = self.options.samples(remainder) if remainder else 0
        return (whole * LONGEST + last) / HOP


class WhisperOptions(WindowOptions, ModelOptions):
    """Options of `kind: whisper`."""


@extractor("whisper")
class WhisperFeatures(WindowedExtractor, EncoderExtractor):
    """Extract hidden states of a Whisper encoder, `ceil(samples / 320)` of each waveform."""

    Options: ClassVar[type[FeatureOptions]] = WhisperOptions
    frame_rate = SAMPLE_RATE / HOP

    def build_encoder(self, device: str, trained: bool = False) -> "WindowEncoder":
        """Load the encoder."""
        from ser.extract.kinds.whisper_models import load_whisper

        options, layer = self.options, self.options.layer
        many = self.many_batches
        return load_whisper(options, self.folder, device, layer, trained=trained, many=many)


class AsrOptions(WindowOptions):
    """Options of `kind: asr`; `language` is Whisper's code, `en` for English-only models.

    `normalise` rewrites the text as Whisper's own scoring does (Radford et al. 2022, appendix C);
    `word_times` keeps the start and end of each word.
    """

    model: str
    silence: float = Field(8.0, ge=0, le=30)
    language: str = Field("en", pattern="^[a-z]{2,3}$")
    normalise: Normalisation = "none"
    word_times: bool = False


@extractor("asr")
class Asr(WindowedExtractor):
    """Transcribe each utterance; audio over 30 s is transcribed by windows and joined."""

    Options: ClassVar[type[FeatureOptions]] = AsrOptions
    gives: ClassVar[Literal["frames", "transcripts"]] = "transcripts"
    version = 3
    encoder: "WindowEncoder"

    def load(self, device: str, layer: int | str = -1) -> None:
        """Load encoder and decoder; `layer` is that of frames which share the pass."""
        from ser.extract.kinds.whisper_models import load_whisper

        options, many = self.options, self.many_batches
        self.encoder = load_whisper(options, self.folder, device, layer, words=True, many=many)
        self.batches_at_once = self.encoder.batches_at_once
        self._normalise = normaliser(self.options.normalise)

    def prepare(self, source: np.ndarray) -> Windows:
        """Return a waveform and its windows."""
        return source, self.encoder.prepare(source)

    def compute(self, batch: Sequence[Windows]) -> list[Transcript]:
        """Return the words of each waveform in windows."""
        pieces = [piece for _, own in batch for piece in own]
        return self.words([wave for wave, _ in batch], self.encoder.encoded(pieces))

    def words(self, batch: Sequence[np.ndarray], encoded: Encoded) -> list[Transcript]:
        """Decode the words of encoded windows; a loop is decoded again from the full window."""
        cuts = [cut(wave) for wave in batch]
        waves = [piece for pieces in cuts for piece in pieces]
        words = self._read(waves, encoded)
        if self.options.window == "trim":
            again = [i for i, transcript in enumerate(words) if repeats(transcript.text)]
            looped = [waves[i] for i in again]
            whole = self.encoder.encoded([self.encoder.in_window(w, LONGEST) for w in looped])
            for i, transcript in zip(again, self._read(looped, whole), strict=True):
                words[i] = transcript
        words = [
            replace(transcript, text="", words=())
            if silent(transcript, wave)
            else replace(transcript, text=self._normalise(transcript.text))
            for transcript, wave in zip(words, waves, strict=True)
        ]
        parts = iter(words)
        return [join([next(parts) for _ in pieces], self.options.language) for pieces in cuts]

    def _read(self, waves: Sequence[np.ndarray], encoded: Encoded) -> list[Transcript]:
        words: dict[int, Transcript] = {}
        for rows, states in encoded:
            samples = [len(waves[i]) for i in rows] if self.options.word_times else None
            decoded = self.encoder.transcribe(states[-1], self.options.language, samples)
            words |= dict(zip(rows, decoded, strict=True))
        return [words[i] for i in range(len(waves))]


class FramesAndWords(Asr):
    """Encode once for frames and words that use the same windows; each is what it is alone."""

    gives: ClassVar[Literal["frames", "transcripts"]] = "frames"
    frame_rate = WhisperFeatures.frame_rate

    def __init__(self, frames: WhisperFeatures, words: Asr) -> None:
        super().__init__(words.options, words.weights)
        self._frames = frames

    def load(self, device: str, layer: int | str = -1) -> None:
        """Load the model once, for frames of their own layer."""
        super().load(device, self._frames.options.layer)
        self._frames.use(self.encoder)
        self.item_shape = self._frames.item_shape

    def compute(self, batch: Sequence[Windows]) -> list[Any]:
        """Return (frames, transcript) of each waveform in windows."""
        from ser.extract.encoder import kept

        pieces = [piece for _, own in batch for piece in own]
        encoded = self.encoder.encoded(pieces)
        frames: dict[int, np.ndarray] = {}
        for rows, states in encoded:
            own = kept(self.encoder.chosen(states), [pieces[i] for i in rows])
            frames |= dict(zip(rows, own, strict=True))
        parts = (frames[i] for i in range(len(pieces)))
        joined = [np.concatenate([next(parts) for _ in own]) for _, own in batch]
        words = self.words([wave for wave, _ in batch], encoded)
        return list(zip(joined, words, strict=True))


def normaliser(name: Normalisation) -> Callable[[str], str]:
    """Return what rewrites a text: not at all, or by transformers' copy of Whisper's own rules."""
    if name == "none":
        return str
    from transformers.models.whisper import english_normalizer as rules

    rewrite = rules.BasicTextNormalizer() if name == "basic" else rules.EnglishTextNormalizer({})
    return lambda text: str(rewrite(text)).strip()


def silent(transcript: Transcript, piece: np.ndarray) -> bool:
    """Return whether words are invented: the model finds no speech, or the clip is silent."""
    no_speech = transcript.no_speech_prob > NO_SPEECH and transcript.avg_logprob < UNLIKELY
    return no_speech or float(np.abs(piece).max(initial=0)) < QUIET


def repeats(text: str) -> bool:
    """Return whether a text is a loop: it compresses better than any speech."""
    data = text.encode()
    return len(data) > LOOP * len(zlib.compress(data))


def join(pieces: Sequence[Transcript], language: str) -> Transcript:
    """Join the windows of one utterance; the probabilities are their means."""
    return Transcript(
        text=" ".join(p.text for p in pieces if p.text),
        avg_logprob=float(np.mean([p.avg_logprob for p in pieces])),
        no_speech_prob=float(np.mean([p.no_speech_prob for p in pieces])),
        language=language,
        words=[
            Word(word.word, word.start + 30.0 * i, word.end + 30.0 * i)
            for i, piece in enumerate(pieces)
            for word in piece.words
        ],
    )
