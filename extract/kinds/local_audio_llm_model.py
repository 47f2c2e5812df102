"""The log-probabilities that an audio language model of transformers gives to answers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ser.extract.extractor import SAMPLE_RATE
from ser.extract.kinds.audio_processors import inputs_on, load_generator
from ser.extract.kinds.llm import THOUGHT
from ser.extract.kinds.local_audio_llm import LocalAudioLLMOptions


class AnswerScorer:
    """A model, its processor, and the tokens of the answers."""

    def __init__(self, options: LocalAudioLLMOptions, cls: str, folder: Path, device: str) -> None:
        self._options = options
        self._model, self._processor = load_generator(
            options.model, cls, folder, "a language model", device
        )
        self._tokenizer = self._processor.tokenizer
        content = [{"type": "audio"}, {"type": "text", "text": options.question()}]
        message = {"role": "user", "content": content}
        self._prompt = self._processor.apply_chat_template(
            [message], tokenize=False, add_generation_prompt=True
        )

    @torch.inference_mode()
    def scores(self, waves: list[np.ndarray]) -> list[np.ndarray]:
        """Return the log-probabilities of the classes `(classes,)` for waveforms of one length.

        With `reasoning`, for a single one; raises `ValueError` where that does not end.
        """
        inputs = self._inputs(waves)
        if self._options.reasoning:
            inputs = self._reasoned(inputs)
        by_letter = self._options.answer == "letter"
        scores = self._letters(inputs) if by_letter else self._words(inputs)
        return list(scores.log_softmax(-1).cpu().numpy())

    def _inputs(self, waves: list[np.ndarray]) -> dict[str, Any]:
        given = self._processor(
            text=[self._prompt] * len(waves),
            audio=waves,
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
        )
        return inputs_on(self._model, given)

    def _reasoned(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return inputs with what the model writes up to the end of its reasoning, if any."""
        most = self._options.reasoning
        output = self._model.generate(
            **inputs,
            do_sample=False,
            num_beams=1,
            max_new_tokens=most,
            stop_strings=[THOUGHT],
            tokenizer=self._tokenizer,
        )
        written = output[:, inputs["input_ids"].shape[1] :]
        if THOUGHT in self._tokenizer.decode(written[0]):
            return _appended(inputs, written)
        if written.shape[1] >= most:
            raise ValueError(f"the reasoning does not end within {most} tokens; raise `reasoning`")
        return inputs

    def _letters(self, inputs: dict[str, Any]) -> Tensor:
        """Return the log-probability of each letter as the next token `(batch, classes)`."""
        after = self._model(**inputs).logits[:, -1].float().log_softmax(-1)
        return torch.stack(
            [after[:, self._tokens(letter)].logsumexp(-1) for letter in self._options.choices], -1
        )

    def _tokens(self, letter: str) -> list[int]:
        """Return the tokens that are a letter, with or without a space before it."""
        encoded = [self._encode(text) for text in (letter, f" {letter}")]
        single = {tokens[0] for tokens in encoded if len(tokens) == 1}
        if not single:
            raise ValueError(f"'{letter}' is not one token of this model; set `answer: word`")
        return sorted(single)

    def _words(self, inputs: dict[str, Any]) -> Tensor:
        """Return the log-probability of each name and the answer's end `(batch, classes)`."""
        end = self._tokenizer.eos_token_id
        scores = []
        for name in self._options.choices:
            answer = torch.tensor([[*self._encode(name), end]], device=self._model.device)
            answers = answer.expand(len(inputs["input_ids"]), -1)
            logits = self._model(**_appended(inputs, answers)).logits
            before = logits[:, -answers.shape[1] - 1 : -1].float().log_softmax(-1)
            scores.append(before.gather(-1, answers[..., None])[..., 0].sum(-1))
        return torch.stack(scores, -1)

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return tokens


def _appended(inputs: dict[str, Any], tokens: Tensor) -> dict[str, Any]:
    """Return inputs with tokens `(batch, tokens)` behind the prompt."""
    return inputs | {
        "input_ids": torch.cat([inputs["input_ids"], tokens], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(tokens)], 1),
    }
