"""Recognizers of transformers: their processors, and greedy decoding with log-probabilities."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor
from transformers import LogitsProcessor

from ser.cache.transcripts import Transcript
from ser.corpus.errors import UserError
from ser.corpus.registry import reason
from ser.extract.extractor import SAMPLE_RATE
from ser.extract.kinds.audio_processors import inputs_on, load_generator
from ser.extract.kinds.recognizer import Family, RecognizerOptions

SPARE = 10  # steps besides those for the time of a clip
CODES = (
    "ar:arb bg:bul bn:ben ca:cat cs:ces cy:cym da:dan de:deu el:ell en:eng es:spa et:est fa:pes "
    "fi:fin fr:fra he:heb hi:hin hr:hrv hu:hun id:ind is:isl it:ita ja:jpn ko:kor lt:lit mt:mlt "
    "nl:nld pl:pol pt:por ro:ron ru:rus sk:slk sl:slv sv:swe sw:swh ta:tam te:tel th:tha tl:tgl "
    "tr:tur uk:ukr ur:urd uz:uzn vi:vie zh:cmn"
)
SEAMLESS = {code[:2]: code[3:] for code in CODES.split()}  # by code of ISO 639-1
CODEC_RATE = 24_000  # Hz, of Kyutai's models
Waves = list[np.ndarray]


class Decoder:
    """A recognizer, loaded; raises `UserError` for a language that it does not have."""

    def __init__(
        self, family: Family, options: RecognizerOptions, folder: Path, device: str
    ) -> None:
        self._family, self._language = family, options.language
        self._model, self._processor = load_generator(
            options.model, family.cls, folder, "a decoder of transformers", device
        )
        noise = np.random.default_rng(0).normal(0.0, 0.01, SAMPLE_RATE)
        try:
            self._run(self._inputs([noise.astype(np.float32)]), 1)
        except ValueError as error:
            raise UserError(
                f"{options.model}: it does not transcribe '{options.language}' ({reason(error)}); "
                "correct `language`."
            ) from error

    def _inputs(self, waves: Waves) -> dict[str, Any]:
        """Return the arguments of `generate` for waveforms."""
        given = _called(self._processor, self._family.call, waves, self._language)
        return inputs_on(self._model, given)

    def transcribe(self, waves: Sequence[np.ndarray]) -> list[Transcript]:
        """Return the words of waveforms that may run as one batch.

        A clip that is beside a longer one gets no more steps than it gets alone.
        """
        inputs = self._inputs(list(waves))
        per_second = self._family.steps / SAMPLE_RATE
        limits = [SPARE + round(per_second * len(wave)) for wave in waves]
        if self._family.call == "codec":  # a token for each frame, also for the silence behind
            frame = self._model.config.codec_config.frame_size
            limits = [inputs["input_values"].shape[-1] // frame] * len(waves)
        tokens, scores, output = self._run(inputs, max(limits))
        ends = self._ends(tokens, inputs, output)
        return [
            self._transcript(tokens[i, : min(limit, end)], scores[i, : min(limit, end)])
            for i, (limit, end) in enumerate(zip(limits, ends, strict=True))
        ]

    @torch.inference_mode()
    def _run(self, inputs: dict[str, Any], most: int) -> tuple[Tensor, Tensor, Any]:
        """Return tokens and log-probabilities `(batch, steps)`, and what `generate` returned."""
        steps = _Steps(int(self._model.config.get_text_config(decoder=True).vocab_size))
        output = self._model.generate(
            **inputs,
            do_sample=False,
            num_beams=1,
            max_new_tokens=most,
            logits_processor=[steps],
        )
        return torch.stack(steps.tokens, 1).cpu(), torch.stack(steps.scores, 1).cpu(), output

    def _ends(self, tokens: Tensor, inputs: dict[str, Any], output: Any) -> list[int]:
        """Return how many steps belong to each clip: up to its end token, or its last frame."""
        if self._family.call == "transducer":
            rows = inputs["attention_mask"].sum(1)
            frames = self._model.encoder._get_subsampling_output_length(rows).cpu()
            before = output.durations.cpu().cumsum(1)[:, :-1]
            return [int(count) for count in (before < frames[:, None]).sum(1)]
        if self._family.call == "codec":
            return [tokens.shape[1]] * len(tokens)
        end = self._model.generation_config.eos_token_id
        ended = torch.isin(tokens, torch.as_tensor(end))
        return [int(row.nonzero()[0]) + 1 if row.any() else len(row) for row in ended]

    def _transcript(self, tokens: Tensor, scores: Tensor) -> Transcript:
        blank = getattr(self._model.config, self._family.blank, -1)
        spoken = tokens != blank
        ids = tokens[spoken].tolist()
        chosen = scores[spoken] if ids else scores
        # equal tokens in a row are two of a transducer's
        options = {"group_tokens": False} if self._family.call == "transducer" else {}
        text = self._processor.tokenizer.decode(ids, skip_special_tokens=True, **options)
        return Transcript(str(text).strip(), float(chosen.mean()), 0.0, self._language)


class _Steps(LogitsProcessor):
    """Keep the token of each step and its log-probability; durations of TDT are no tokens."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self.tokens: list[Tensor] = []
        self.scores: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores, with minus infinity for what is no token."""
        best = scores[:, : self._vocabulary].float().log_softmax(-1).max(-1)
        self.tokens.append(best.indices)
        self.scores.append(best.values)
        tokens = scores.clone()
        tokens[:, self._vocabulary :] = -torch.inf
        return tokens


def _called(processor: Any, call: str, waves: Waves, language: str) -> dict[str, Any]:
    """Return what a processor gives for waveforms, called as `Family.call` names."""
    rate = {"sampling_rate": SAMPLE_RATE}
    match call:
        case "request":
            inputs = processor.apply_transcription_request(waves)
        case "request_language":
            inputs = processor.apply_transcription_request(waves, language=language)
        case "source_language":
            inputs = processor.apply_transcription_request(waves, source_language=language)
        case "language":
            inputs = processor(audio=waves, **rate, language=language)
        case "transducer":
            inputs = processor(audio=waves, **rate)
        case "codec":
            resampled = [soxr.resample(wave, SAMPLE_RATE, CODEC_RATE) for wave in waves]
            inputs = processor(audio=resampled, sampling_rate=CODEC_RATE)
        case _:  # "audio", "seamless"
            inputs = processor(audio=waves, **rate, return_tensors="pt", padding=True)
    target = {"tgt_lang": SEAMLESS.get(language, language)} if call == "seamless" else {}
    return {**inputs, **target}
