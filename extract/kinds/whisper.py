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
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ser.cache.transcripts import Transcript, Word
from ser.extract.encoding import EncoderExtractor, dtype_on
from ser.extract.extractor import SAMPLE_RATE, Extractor, FeatureOptions, ModelOptions, extractor
from ser.extract.kinds.whisper_models import WhisperModel, load_whisper
from ser.extract.layers import choose, item_shape
from ser.extract.models import Weights

if TYPE_CHECKING:
    from ser.extract.kinds.whisper_encoder import WhisperEncoder

HOP = 320  # samples a frame: 10 ms mels, halved by the second convolution
LONGEST = 30 * SAMPLE_RATE
TRIM_STEP = SAMPLE_RATE // 5
# text that zlib shrinks more than this repeats itself (Radford et al. 2022, section 4.5)
LOOP = 2.4
# section 4.5: a segment is silence if both are true
NO_SPEECH, UNLIKELY = 0.6, -1.0
QUIET = 1e-4  # a peak of -80 dBFS: digital silence, dither; the decoder invents words for it

Encoded = Sequence[tuple[list[int], Sequence[Any]]]  # (positions, states) of windows of one length
Window = Literal["full", "trim"]
Normalisation = Literal["none", "basic", "english"]


def window_samples(samples: int, window: Window, silence: int) -> int:
    """Return the window of one clip of at most 30 s, in samples; `silence` is the least added."""
    if window == "full":
        return LONGEST
    return min(LONGEST, math.ceil((samples + silence) / TRIM_STEP) * TRIM_STEP)


def cut(wave: np.ndarray) -> list[np.ndarray]:
    """Cut a waveform into pieces of at most 30 s."""
    return [wave[i : i + LONGEST] for i in range(0, max(len(wave), 1), LONGEST)]


def own_frames(piece: np.ndarray) -> int:
    """Return how many frames of its window are those of a piece."""
    return max(1, math.ceil(len(piece) / HOP))


class LogMels:
    """The log-mels of a model's own feature extractor, which has `bands` if the folder has none."""

    def __init__(self, folder: Path, bands: int) -> None:
        from transformers import WhisperFeatureExtractor

        self.extractor = (
            WhisperFeatureExtractor.from_pretrained(folder)
            if (folder / "preprocessor_config.json").exists()
            else WhisperFeatureExtractor(feature_size=bands)
        )

    def __call__(self, piece: np.ndarray, window: int) -> np.ndarray:
        """Return float32 `(bands, 10 ms frames)` of a piece in a window of so many samples."""
        padded = np.pad(piece, (0, window - len(piece)))
        batch = self.extractor(
            padded, sampling_rate=SAMPLE_RATE, padding="do_not_pad", return_tensors="np"
        )
        mels: np.ndarray = batch["input_features"][0]
        return mels


class WindowedWhisper:
    """Make log-mels of pieces in windows, and run the encoder on windows of one length."""

    def __init__(
        self, weights: Weights | None, device: str, words: bool, layer: int | str = -1
    ) -> None:
        assert weights is not None
        self.model: WhisperModel = load_whisper(weights, device, words, layer)
        self._mels = LogMels(weights.folder, self.model.n_mels)

    def encode(self, pieces: Sequence[np.ndarray], window: Callable[[int], int]) -> Encoded:
        """Encode pieces in windows of `window(samples)`; returns (positions, states) for each."""
        by_window: dict[int, list[int]] = {}
        for i, piece in enumerate(pieces):
            by_window.setdefault(window(len(piece)), []).append(i)
        return [
            (rows, self.model.encode(np.stack([self._mels(pieces[i], samples) for i in rows])))
            for samples, rows in by_window.items()
        ]


def window_of(options: "WhisperOptions | AsrOptions", samples: int) -> int:
    """Return the `window_samples` of a feature's options."""
    return window_samples(samples, options.window, round(options.silence * SAMPLE_RATE))


class WindowedExtractor(Extractor):
    """Plan batches for Whisper: windows of one length share a batch."""

    def window(self, samples: int) -> int:
        """Return the window of a clip of at most 30 s, in samples."""
        return window_of(self.options, samples)

    def batch_key(self, size: int) -> Hashable:
        """Return the window: clips over 30 s have several and go alone."""
        return size if size > LONGEST else self.window(size)

    def cost(self, size: int) -> float:
        """Return the frames of all windows."""
        whole, remainder = divmod(size, LONGEST)
        last = self.window(remainder) if remainder else 0
        return (whole * LONGEST + last) / HOP


class WhisperOptions(ModelOptions):
    """Options of `kind: whisper`; `silence` is what `trim` adds at the least, in seconds."""

    window: Window = "full"
    silence: float = Field(1.0, ge=0, le=30)


@extractor("whisper")
class WhisperFeatures(WindowedExtractor, EncoderExtractor):
    """Extract hidden states of a Whisper encoder."""

    Options: ClassVar[type[FeatureOptions]] = WhisperOptions
    frame_rate = SAMPLE_RATE / HOP

    def build_encoder(self, device: str) -> "WhisperEncoder":
        """Load the encoder to be trained, which CTranslate2 cannot be."""
        from ser.extract.kinds.whisper_encoder import WhisperEncoder

        assert self.weights is not None
        return WhisperEncoder(self.options, self.weights.folder, dtype_on(device)).to(device)

    def load(self, device: str) -> None:
        """Load the encoder."""
        layer = self.options.layer
        self.use(WindowedWhisper(self.weights, device, words=False, layer=layer))

    def use(self, whisper: WindowedWhisper) -> None:
        """Take a loaded model; raises `ValueError` for a layer it does not have."""
        self._whisper = whisper
        model = whisper.model
        self.item_shape = item_shape(model.states, model.dim, self.options.layer)

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return `ceil(samples / 320)` frames of each waveform."""
        cuts = [cut(wave) for wave in batch]
        pieces = [piece for own in cuts for piece in own]
        return self.frames(cuts, self._whisper.encode(pieces, self.window))

    def frames(self, cuts: Sequence[Sequence[np.ndarray]], encoded: Encoded) -> list[np.ndarray]:
        """Take the clips' own frames out of encoded windows."""
        pieces = [piece for own in cuts for piece in own]
        frames: list[np.ndarray] = [np.empty(0)] * len(pieces)
        for positions, states in encoded:
            features = states[: self._whisper.model.states]
            chosen = features[0] if len(features) == 1 else choose(features, self.options.layer)
            host = self._whisper.model.frames(chosen)
            for row, i in enumerate(positions):
                frames[i] = host[row, : own_frames(pieces[i])]
        ends = np.cumsum([len(own) for own in cuts])
        return [
            np.concatenate(frames[end - len(own) : end])
            for end, own in zip(ends, cuts, strict=True)
        ]


class AsrOptions(FeatureOptions):
    """Options of `kind: asr`; `language` is Whisper's code, ignored by English-only models.

    `normalise` rewrites the text as Whisper's own scoring does (Radford et al. 2022, appendix C);
    `word_times` keeps the start and end of each word.
    """

    model: str
    window: Window = "full"
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

    def load(self, device: str) -> None:
        """Load encoder and decoder."""
        self.use(WindowedWhisper(self.weights, device, words=True))

    def use(self, whisper: WindowedWhisper) -> None:
        """Take a loaded model that has its decoder."""
        self._whisper = whisper
        self._normalise = normaliser(self.options.normalise)

    def extract(self, batch: Sequence[np.ndarray]) -> list[Transcript]:
        """Return the words of each waveform."""
        cuts = [cut(wave) for wave in batch]
        pieces = [piece for own in cuts for piece in own]
        return self.words(cuts, self._whisper.encode(pieces, self.window))

    def words(self, cuts: Sequence[Sequence[np.ndarray]], encoded: Encoded) -> list[Transcript]:
        """Decode the words of encoded windows; a loop is decoded again from the full window."""
        pieces = [piece for own in cuts for piece in own]
        words = self._read(pieces, encoded)
        if self.options.window == "trim":
            again = [i for i, transcript in enumerate(words) if repeats(transcript.text)]
            whole = self._whisper.encode([pieces[i] for i in again], lambda _: LONGEST)
            decoded = self._read([pieces[i] for i in again], whole)
            for i, transcript in zip(again, decoded, strict=True):
                words[i] = transcript
        words = [
            replace(transcript, text="", words=())
            if silent(transcript, piece)
            else replace(transcript, text=self._normalise(transcript.text))
            for transcript, piece in zip(words, pieces, strict=True)
        ]
        ends = np.cumsum([len(own) for own in cuts])
        return [
            join(words[end - len(own) : end], self.options.language)
            for end, own in zip(ends, cuts, strict=True)
        ]

    def _read(self, pieces: Sequence[np.ndarray], encoded: Encoded) -> list[Transcript]:
        words: list[Any] = [None] * len(pieces)
        for positions, states in encoded:
            samples = [len(pieces[i]) for i in positions] if self.options.word_times else None
            decoded = self._whisper.model.transcribe(states[-1], self.options.language, samples)
            for i, transcript in zip(positions, decoded, strict=True):
                words[i] = transcript
        return words


class FramesAndWords(WindowedExtractor):
    """Encode once for frames and words that use the same windows; each is what it is alone."""

    def __init__(self, frames: WhisperFeatures, words: Asr) -> None:
        super().__init__(frames.options, words.weights)
        self._frames, self._words = frames, words

    def load(self, device: str) -> None:
        """Load the model once."""
        layer = self._frames.options.layer
        self._whisper = WindowedWhisper(self.weights, device, words=True, layer=layer)
        self._frames.use(self._whisper)
        self._words.use(self._whisper)
        self.item_shape, self.frame_rate = self._frames.item_shape, self._frames.frame_rate

    def extract(self, batch: Sequence[np.ndarray]) -> list[Any]:
        """Return (frames, transcript) of each waveform."""
        cuts = [cut(wave) for wave in batch]
        encoded = self._whisper.encode([piece for own in cuts for piece in own], self.window)
        frames = self._frames.frames(cuts, encoded)
        return list(zip(frames, self._words.words(cuts, encoded), strict=True))


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
