"""Whisper behind one interface, whichever form its weights have.

`encode` takes log-mels of one window length and returns hidden states; `transcribe` takes encoder
states, so that features and words can share one encoder pass. Windows shorter than 30 s are
allowed: the sinusoidal positions are cut, which the weights tolerate (cosine 0.97-0.99 to a full
window).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ser.cache.transcripts import Transcript, Word
from ser.corpus.errors import UserError
from ser.extract.extractor import device_type
from ser.extract.kinds.ctranslate2_weights import read_whisper_encoder
from ser.extract.models import Weights

if TYPE_CHECKING:
    import torch

MAX_TOKENS = 224  # half of Whisper's text context, as in its own decoding
MEL_HOP = 160  # samples
FRAME = 0.02  # seconds of an encoder state


class WhisperModel(Protocol):
    """Encode log-mels and read words off encoder states."""

    n_mels: int
    dim: int
    states: int  # that are features

    def encode(self, mels: np.ndarray) -> Sequence[Any]:
        """Turn `(batch, mels, 10 ms frames)` float32 into hidden states.

        The first `states` are features, the last of these normalised; the very last is the one for
        `transcribe`.
        """
        ...

    def frames(self, state: Any) -> np.ndarray:
        """Turn `(batch, frames at 50 Hz, …)` of the device into float32 of the host."""
        ...

    def transcribe(
        self, last: Any, language: str, samples: Sequence[int] | None
    ) -> list[Transcript]:
        """Read the words greedily off the last encoder state.

        With the `samples` of each clip its words get their times as well; raises `ValueError` for
        weights that cannot give them.
        """
        ...


def load_whisper(weights: Weights, device: str, words: bool, layer: int | str = -1) -> WhisperModel:
    """Load CTranslate2 or Hugging Face weights; with `words`, the decoder too.

    Raises `ValueError` for CTranslate2 weights that have no other `layer` than the last, as they
    are quantized.
    """
    if not has_ctranslate2(weights.folder):
        return HuggingFaceWhisper(weights.folder, device, words)
    if layer == -1:
        return CTranslate2Whisper(weights.folder, device, words)
    return CTranslate2Layers(weights.folder, device, words)


class CTranslate2Whisper:
    """Whisper from a CTranslate2 folder: the last encoder state only, fast on CPU."""

    def __init__(self, folder: Path, device: str, words: bool) -> None:
        import ctranslate2
        from tokenizers import Tokenizer

        kind, index = device_type(device), int(device.partition(":")[2] or 0)
        compute = "float16" if kind == "cuda" else "float32"
        self._model = ctranslate2.models.Whisper(
            str(folder), device=kind, device_index=index, compute_type=compute
        )
        if words:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.n_mels = int(self._model.n_mels)
        self.dim = self._dim()
        self.states = 1

    def _dim(self) -> int:
        return int(self.frames(self.encode(np.zeros((1, self.n_mels, 4), np.float32))[-1]).shape[2])

    def encode(self, mels: np.ndarray) -> Sequence[Any]:
        """Return the last state only: the format does not give the others."""
        import ctranslate2

        storage = ctranslate2.StorageView.from_array(np.ascontiguousarray(mels))
        return [self._model.encode(storage, to_cpu=self._model.device == "cpu")]

    def frames(self, state: Any) -> np.ndarray:
        """Copy to float32 of the host."""
        import ctranslate2

        host = state.to_device(ctranslate2.Device.cpu) if state.device == "cuda" else state
        return np.array(host.to(ctranslate2.DataType.float32))

    def transcribe(
        self, last: Any, language: str, samples: Sequence[int] | None
    ) -> list[Transcript]:
        """Decode greedily; the score of CTranslate2 is the mean log-probability of the tokens."""
        special = ["<|startoftranscript|>"]
        if self._model.is_multilingual:
            special += [f"<|{language}|>", "<|transcribe|>"]
        start = [self._token(name) for name in special]
        results = self._model.generate(
            last,
            [[*start, self._token("<|notimestamps|>")]] * last.shape[0],
            beam_size=1,
            max_length=MAX_TOKENS,
            return_scores=True,
            return_no_speech_prob=True,
        )
        tokens = [r.sequences_ids[0] for r in results]
        words: list[list[Word]] = [[] for _ in tokens]
        if samples is not None and any(tokens):
            mels = [max(2, n // MEL_HOP) for n in samples]
            aligned = self._model.align(last, start, tokens, mels)
            words = [
                words_of(ids, _first_times(len(ids), a.alignments), self._tokenizer.decode)
                for ids, a in zip(tokens, aligned, strict=True)
            ]
        return [
            Transcript(
                self._tokenizer.decode(r.sequences_ids[0]).strip(),
                float(r.scores[0]),
                float(r.no_speech_prob),
                language,
                timed,
            )
            for r, timed in zip(results, words, strict=True)
        ]

    def _token(self, name: str) -> int:
        token = self._tokenizer.token_to_id(name)
        if token is None:
            raise UserError(f"features: Whisper has no token {name}; correct `language:`.")
        return int(token)


class TorchWhisper:
    """The encoder of a Whisper in Transformers' class: every layer, any device."""

    def __init__(self, encoder: Any, device: str) -> None:
        import torch

        self._device = device
        self._dtype = torch.bfloat16 if device_type(device) == "cuda" else torch.float32
        self._encoder = encoder.to(device, self._dtype)
        self.n_mels = int(encoder.config.num_mel_bins)
        self.dim = int(encoder.config.d_model)
        self.states = int(encoder.config.encoder_layers) + 1

    def encode(self, mels: np.ndarray) -> Sequence[Any]:
        """Run the encoder on windows of any length up to 30 s."""
        import torch

        with torch.inference_mode():
            x = torch.from_numpy(mels).to(self._device, self._dtype)
            return encoder_states(self._encoder, x)

    def frames(self, state: Any) -> np.ndarray:
        """Copy to float32 of the host."""
        array: np.ndarray = state.float().cpu().numpy()
        return array


class CTranslate2Layers(TorchWhisper):
    """Whisper from a CTranslate2 folder: frames of every layer, words as CTranslate2 reads them."""

    def __init__(self, folder: Path, device: str, words: bool) -> None:
        super().__init__(read_whisper_encoder(folder), device)
        self._words = CTranslate2Whisper(folder, device, words) if words else None

    def encode(self, mels: np.ndarray) -> Sequence[Any]:
        """Run the encoder, and CTranslate2's own for words, which are then as without frames."""
        states = list(super().encode(mels))
        return states if self._words is None else [*states, *self._words.encode(mels)]

    def transcribe(
        self, last: Any, language: str, samples: Sequence[int] | None
    ) -> list[Transcript]:
        """Decode greedily with CTranslate2."""
        assert self._words is not None
        return self._words.transcribe(last, language, samples)


class HuggingFaceWhisper(TorchWhisper):
    """Whisper from a Hugging Face folder."""

    def __init__(self, folder: Path, device: str, words: bool) -> None:
        import torch
        from transformers import AutoTokenizer, WhisperForConditionalGeneration

        dtype = torch.bfloat16 if device_type(device) == "cuda" else torch.float32
        model: Any = WhisperForConditionalGeneration.from_pretrained(folder, dtype=dtype)
        if words and not model.config.decoder_layers:
            raise UserError(
                f"{folder}: this Whisper has no decoder, as it was fine-tuned from CTranslate2 "
                "weights; use the original model for kind asr."
            )
        self._model = model.eval().to(device)
        super().__init__(self._model.model.encoder, device)
        if words:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
        else:
            del self._model.model.decoder, self._model.proj_out

    def transcribe(
        self, last: Any, language: str, samples: Sequence[int] | None
    ) -> list[Transcript]:
        """Decode greedily with Hugging Face's generation."""
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        multilingual = bool(getattr(self._model.generation_config, "is_multilingual", False))
        options: dict[str, Any] = (
            {"language": language, "task": "transcribe"} if multilingual else {}
        )
        if samples is not None:
            if not getattr(self._model.generation_config, "alignment_heads", None):
                raise ValueError("word_times: these weights name no alignment heads")
            options["return_token_timestamps"] = True
        with torch.inference_mode():
            out = self._model.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=last),
                max_new_tokens=MAX_TOKENS,
                return_dict_in_generate=True,
                output_logits=True,
                num_beams=1,
                do_sample=False,
                **options,
            )
        return self._transcripts(last, out, language)

    def _transcripts(self, last: Any, out: Any, language: str) -> list[Transcript]:
        import torch

        logprobs = torch.stack(list(out.logits), dim=1).float().log_softmax(-1)
        tokens = out.sequences[:, -logprobs.shape[1] :]
        chosen = logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).cpu()
        end = self._model.generation_config.eos_token_id
        silent = self._no_speech(last)
        transcripts = []
        for i, row in enumerate(tokens.cpu()):
            stops = (row == end).nonzero()
            count = int(stops[0]) + 1 if len(stops) else len(row)  # the end token counts
            text = str(self._tokenizer.decode(row, skip_special_tokens=True)).strip()
            words = []
            if "token_timestamps" in out:
                times = out.token_timestamps[i, -len(row) :].tolist()
                words = words_of(row[: count - 1].tolist(), times[:count], self._decode)
            transcripts.append(
                Transcript(text, float(chosen[i, :count].mean()), silent[i], language, words)
            )
        return transcripts

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens))

    def _no_speech(self, last: Any) -> list[float]:
        """Return the probability of the no-speech token right after the start of transcript."""
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        names = self._tokenizer.get_vocab()
        token = names.get("<|nospeech|>", names.get("<|nocaptions|>"))
        if token is None:
            token = names["<|notimestamps|>"] - 1  # English-only vocabularies leave it unnamed
        start = torch.full((last.shape[0], 1), self._model.config.decoder_start_token_id)
        with torch.inference_mode():
            logits = self._model(
                encoder_outputs=BaseModelOutput(last_hidden_state=last),
                decoder_input_ids=start.to(last.device),
            ).logits[:, 0]
        silent: list[float] = logits.float().softmax(-1)[:, token].cpu().tolist()
        return silent


def torch_encoder(folder: Path, dtype: "torch.dtype") -> Any:
    """Load transformers' encoder alone, of Hugging Face or CTranslate2 weights (float32)."""
    from transformers import WhisperForConditionalGeneration

    if has_ctranslate2(folder):
        return read_whisper_encoder(folder)
    whole: Any = WhisperForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    return whole.model.encoder


def has_ctranslate2(folder: Path) -> bool:
    """Return whether the weights in a folder are CTranslate2's."""
    return (folder / "model.bin").exists()


def encoder_states(encoder: Any, mels: "torch.Tensor") -> list["torch.Tensor"]:
    """Return all states `(batch, frames, dim)` of Hugging Face's encoder, the last one normalised.

    Mels are `(batch, mels, 10 ms frames)`, up to 30 s. Hugging Face's own forward insists on 30 s;
    this is the same sum of parts with the positions cut to the window.
    """
    from torch.nn.functional import gelu

    x = gelu(encoder.conv2(gelu(encoder.conv1(mels)))).transpose(1, 2)
    states = [x + encoder.embed_positions.weight[: x.shape[1]]]
    for layer in encoder.layers:
        states.append(layer(states[-1], None))
    states[-1] = encoder.layer_norm(states[-1])
    return states


def words_of(
    tokens: Sequence[int], times: Sequence[float], decode: Callable[[list[int]], str]
) -> list[Word]:
    """Join tokens into words at spaces.

    `times` are the seconds at which each token starts and, one more, at which the last one ends.
    """
    words: list[Word] = []
    for i, token in enumerate(tokens):
        text = decode([token])
        start, end = float(times[i]), float(times[min(i + 1, len(times) - 1)])
        if words and not text.startswith(" "):
            words[-1] = Word(words[-1].word + text, words[-1].start, end)
        else:
            words.append(Word(text.strip(), start, end))
    return words


def _first_times(tokens: int, path: Sequence[tuple[int, int]]) -> list[float]:
    """Return when each token is first met on an alignment path, and the path's end, in seconds."""
    end = (path[-1][1] + 1) * FRAME if path else 0.0
    first: dict[int, float] = {}
    for token, frame in path:
        first.setdefault(token, frame * FRAME)
    return [first.get(i, end) for i in range(tokens + 1)]
