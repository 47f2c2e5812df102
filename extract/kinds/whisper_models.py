"""Whisper from CTranslate2 and Hugging Face weights: frames, and words read off the last states."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ser.cache.transcripts import Transcript, Word
from ser.corpus.errors import UserError
from ser.corpus.machine import idle_cores
from ser.extract.devices import device_type
from ser.extract.encoding import dtype_on
from ser.extract.kinds.ctranslate2_weights import read_whisper_encoder
from ser.extract.kinds.whisper import WindowOptions
from ser.extract.kinds.whisper_encoder import WHOLE, WhisperEncoder, WindowEncoder, is_ctranslate2
from ser.extract.loading import load_whole

MOST_AT_ONCE = 4  # batches: each has its own memory
MAX_TOKENS = 224  # half of Whisper's text context, as in its own decoding
MEL_HOP = 160  # samples
FRAME = 0.02  # seconds of an encoder state


def load_whisper(
    options: WindowOptions,
    folder: Path,
    device: str,
    layer: int | str = -1,
    *,
    words: bool = False,
    trained: bool = False,
    many: bool = False,
) -> WindowEncoder:
    """Load CTranslate2 or Hugging Face weights.

    `words` loads the decoder too, and `trained` a module that can be trained; `many`: so many
    batches follow that several may run at once. Raises `ValueError` for CTranslate2 weights that
    are quantized, which have no other `layer` than the last and cannot be trained.
    """
    if not is_ctranslate2(folder):
        return HuggingFaceWhisper(options, folder, device, layer, words)
    if layer == -1 and not trained:
        return CTranslate2Whisper(options, folder, device, words, many)
    return CTranslate2Layers(options, folder, device, layer, words, trained=trained)


class CTranslate2Whisper(WindowEncoder):
    """Whisper from a CTranslate2 folder: the last encoder state only, fast on CPU."""

    def __init__(
        self, options: WindowOptions, folder: Path, device: str, words: bool, many: bool = False
    ) -> None:
        # decoding, token by token, gains little from threads, and two batches at once gain all
        threads = torch.get_num_threads() + idle_cores()
        at_once = min(threads, MOST_AT_ONCE) if many and device_type(device) == "cpu" else 1
        self._engine = read_ctranslate2(folder, device, at_once, threads)
        super().__init__(options, folder, int(self._engine.n_mels))
        self.batches_at_once = at_once
        if words:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        silence = torch.zeros(1, 4, int(self._engine.n_mels))
        self.item_shape = (self.chosen(self.encode(silence)).shape[2],)

    @property
    def device(self) -> torch.device:
        """The CPU: `encode` moves its inputs."""
        return torch.device("cpu")

    def encode(self, inputs: Tensor) -> Sequence[Any]:
        """Return the last state only: the format does not give the others."""
        import ctranslate2

        mels, on_cpu = inputs.transpose(1, 2).numpy(), self._engine.device == "cpu"
        parts = np.split(mels, len(mels)) if on_cpu and mels.shape[2] == WHOLE else [mels]
        views = [ctranslate2.StorageView.from_array(np.ascontiguousarray(p)) for p in parts]
        states = [self._engine.encode(view, to_cpu=on_cpu) for view in views]
        if len(states) > 1:  # one by one: see `frames`
            joined = np.concatenate([np.array(state) for state in states])
            states = [ctranslate2.StorageView.from_array(joined)]
        return states

    def chosen(self, states: Sequence[Any]) -> Tensor:
        """Copy to float32 of the host."""
        import ctranslate2

        state = states[-1]
        host = state.to_device(ctranslate2.Device.cpu) if state.device == "cuda" else state
        return torch.from_numpy(np.array(host.to(ctranslate2.DataType.float32)))

    def transcribe(
        self, last: Any, language: str, samples: Sequence[int] | None
    ) -> list[Transcript]:
        """Decode greedily; the score of CTranslate2 is the mean log-probability of the tokens."""
        special = ["<|startoftranscript|>"]
        if self._engine.is_multilingual:
            special += [f"<|{language}|>", "<|transcribe|>"]
        start = [self._token(name) for name in special]
        results = self._engine.generate(
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
            aligned = self._engine.align(last, start, tokens, mels)
            words = [
                words_of(ids, _first_times(len(ids), a.alignments), self._tokenizer.decode)
                for ids, a in zip(tokens, aligned, strict=True)
            ]
        texts = [self._tokenizer.decode(ids).strip() for ids in tokens]
        return [
            Transcript(text, float(r.scores[0]), float(r.no_speech_prob), language, timed)
            for text, r, timed in zip(texts, results, words, strict=True)
        ]

    def _token(self, name: str) -> int:
        token = self._tokenizer.token_to_id(name)
        if token is None:
            raise UserError(f"features: Whisper has no token {name}; correct `language:`.")
        return int(token)


class CTranslate2Layers(WhisperEncoder):
    """Whisper from a CTranslate2 folder: frames of every layer, words as CTranslate2 reads them."""

    def __init__(
        self,
        options: WindowOptions,
        folder: Path,
        device: str,
        layer: int | str,
        words: bool,
        *,
        trained: bool = False,
    ) -> None:
        model = read_whisper_encoder(folder, trained).to(device, dtype_on(device))
        super().__init__(options, folder, layer, model)
        self._words = CTranslate2Whisper(options, folder, device, words) if words else None

    def encode(self, inputs: Tensor) -> Sequence[Any]:
        """Run the encoder, and CTranslate2's own for words, which are then as without frames."""
        states = super().encode(inputs)
        return states if self._words is None else [*states, *self._words.encode(inputs.cpu())]

    def transcribe(
        self, last: Any, language: str, samples: Sequence[int] | None
    ) -> list[Transcript]:
        """Decode greedily with CTranslate2."""
        assert self._words is not None
        return self._words.transcribe(last, language, samples)


class HuggingFaceWhisper(WhisperEncoder):
    """Whisper from a Hugging Face folder."""

    def __init__(
        self, options: WindowOptions, folder: Path, device: str, layer: int | str, words: bool
    ) -> None:
        from transformers import AutoTokenizer, WhisperForConditionalGeneration

        cls, dtype = WhisperForConditionalGeneration, dtype_on(device)
        ignored = "" if words else r"(?!model\.encoder\.).*"  # frames need no decoder
        whole = load_whole(str(folder), cls, folder, ignored=ignored, dtype=dtype)
        if words and not whole.config.decoder_layers:
            raise UserError(
                f"{folder}: this Whisper has no decoder, as it was fine-tuned from CTranslate2 "
                "weights; use the original model for kind asr."
            )
        super().__init__(options, folder, layer, whole.model.encoder.to(device))
        if words:
            self._whole = whole.eval().to(device)
            self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def transcribe(
        self, last: Any, language: str, samples: Sequence[int] | None
    ) -> list[Transcript]:
        """Decode greedily with Hugging Face's generation."""
        from transformers.modeling_outputs import BaseModelOutput

        multilingual = bool(getattr(self._whole.generation_config, "is_multilingual", False))
        options: dict[str, Any] = (
            {"language": language, "task": "transcribe"} if multilingual else {}
        )
        if samples is not None:
            if not getattr(self._whole.generation_config, "alignment_heads", None):
                raise ValueError("word_times: these weights name no alignment heads")
            options["return_token_timestamps"] = True
        with torch.inference_mode():
            out = self._whole.generate(
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
        logprobs = torch.stack(list(out.logits), dim=1).float().log_softmax(-1)
        tokens = out.sequences[:, -logprobs.shape[1] :]
        chosen = logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).cpu()
        end = self._whole.generation_config.eos_token_id
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
        from transformers.modeling_outputs import BaseModelOutput

        names = self._tokenizer.get_vocab()
        token = names.get("<|nospeech|>", names.get("<|nocaptions|>"))
        if token is None:
            token = names["<|notimestamps|>"] - 1  # English-only vocabularies leave it unnamed
        start = torch.full((last.shape[0], 1), self._whole.config.decoder_start_token_id)
        with torch.inference_mode():
            logits = self._whole(
                encoder_outputs=BaseModelOutput(last_hidden_state=last),
                decoder_input_ids=start.to(last.device),
            ).logits[:, 0]
        silent: list[float] = logits.float().softmax(-1)[:, token].cpu().tolist()
        return silent


def read_ctranslate2(folder: Path, device: str, at_once: int = 1, threads: int = 1) -> Any:
    """Load a CTranslate2 folder with CTranslate2, in float16 on a GPU and float32 on a CPU.

    `at_once` calls may run at a time and share the `threads` of a CPU.
    """
    import ctranslate2

    kind, index = device_type(device), int(device.partition(":")[2] or 0)
    compute = "float16" if kind == "cuda" else "float32"
    return ctranslate2.models.Whisper(
        str(folder),
        device=kind,
        device_index=index,
        compute_type=compute,
        inter_threads=at_once,
        intra_threads=max(1, threads // at_once) if at_once > 1 else 0,
    )


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
