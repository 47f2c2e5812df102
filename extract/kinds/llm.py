"""Class scores of a large language model on a server, for transcripts.

Any server with OpenAI's chat API can be used: OpenAI's own, vLLM, llama.cpp, Ollama,
and many more. Each text is one frame of `classes` log-probabilities, a softmax of which gives them
back; `head: class_scores` takes them as they are. No emotion labels are used: the scores are
zero-shot.

`answer: letter`: the classes are lettered, one token is requested, and the scores are the
probabilities of the letters as that token (the options of a multiple-choice question, as in
Hendrycks et al. 2021, "Measuring Massive Multitask Language Understanding"). A letter that is not
among the 20 likeliest tokens gets its upper bound: the probability of the last of these, or the
remaining probability mass, whichever is less. `answer: word`: `samples` answers are drawn and
counted, with one more vote spread over all classes, for models and servers that return no
probabilities.

A text is sent once per batch, `parallel` texts at a time. A server that cannot be reached, refuses
the key, or keeps failing after several tries ends the extraction, and the answers until then are
kept; an answer that names no class fails its own text only.
"""

import json
import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ser.corpus.config import Name
from ser.corpus.errors import UserError
from ser.extract.extractor import Extractor, FeatureOptions, extractor
from ser.extract.kinds.chat_options import TOP, ChatOptions

if TYPE_CHECKING:
    from ser.extract.kinds.chat import Choice

TRIES = 5  # after a first one that failed; the waits grow, or are the server's `retry-after`
TRIES_AT_FIRST = 1  # the same, for the request that tests the server
FLOOR = -20.0  # log-probabilities below are as good as none; some servers say -9999
LONGEST = 16  # tokens of an answer in words
THOUGHT = "</think>"  # ends the reasoning, of servers that do not take it out
SHOWN = 60  # characters of an answer in a message
COST = 100.0  # frames of a budget: 60 texts a batch on a CPU
PROMPT = """\
Somebody said: "{transcript}"
Which of these emotions did it most likely sound like?
{classes}
Answer with one {answer} and nothing else."""
PROBE = "Good morning."


class LLMOptions(ChatOptions):
    """Options of `kind: llm`, besides those of `ChatOptions`; `of` names the transcripts."""

    places: ClassVar[tuple[str, ...]] = ("{transcript}", "{classes}")

    of: Name
    prompt: str = Field(PROMPT, max_length=20_000)


@extractor("llm")
class LLM(Extractor):
    """Request the class probabilities of each text from a server."""

    Options: ClassVar[type[FeatureOptions]] = LLMOptions
    reads: ClassVar[Literal["audio", "text", "file"]] = "text"
    probe: Any = PROBE  # the input of the request that tests the server
    whole: ClassVar[bool] = False  # an answer is not requested twice: it may cost money

    def load(self, device: str) -> None:
        """Send one request, so that a server that cannot answer is noticed before any work."""
        from ser.extract.kinds.chat import AnswerError, ChatClient

        options = self.options
        key = os.environ.get(options.key_name or "", "").strip()
        if not (key.isascii() and key.isprintable()):
            raise UserError(
                f"the environment variable {options.key_name} holds characters that no key has; "
                "set it again."
            )
        self._client = ChatClient(options.server, key, options.timeout, options.parallel)
        self._tries = TRIES_AT_FIRST
        self.item_shape = (len(options.classes),)
        try:
            self._ask(self.probe)
        except AnswerError as error:
            raise UserError(f"{self._where}: {error}.") from error
        except ValueError:  # no class, but an answer
            pass
        self._tries = TRIES

    def cost(self, size: int) -> float:
        """Return the same for all texts: the time is spent waiting."""
        return COST

    def extract(self, batch: Sequence[Any]) -> list[np.ndarray | ValueError]:
        """Return the log-probabilities of each text `(1, classes)`; zeros for an empty text.

        An answer that names no class is a `ValueError` in its place. Raises `UserError` when the
        server fails.
        """
        texts = [text for text in dict.fromkeys(batch) if text.strip()]
        answers = dict(zip(texts, self._answers(texts), strict=True))
        nothing = np.zeros((1, *self.item_shape), np.float32)
        return [answers.get(text, nothing) for text in batch]

    def _answers(self, sources: Sequence[Any]) -> list[np.ndarray | ValueError]:
        """Return the frame of each source `(1, classes)` float32, or why there is none."""
        with ThreadPoolExecutor(self.options.parallel) as pool:
            return list(pool.map(self._answer, sources))

    @property
    def _where(self) -> str:
        return f"{self.options.server}: model '{self.options.model}'"

    def _answer(self, source: Any) -> np.ndarray | ValueError:
        try:
            return np.array(self._ask(source), np.float32)[None]
        except ValueError as error:
            return error

    def _ask(self, source: Any) -> np.ndarray:
        return self._letter(source) if self.options.answer == "letter" else self._words(source)

    def _letter(self, source: Any) -> np.ndarray:
        likeliest = self._complete(
            self.content(source), self.options.seed, max_tokens=1, logprobs=True, top_logprobs=TOP
        ).likeliest
        if not likeliest:
            from ser.extract.kinds.chat import UnfitError

            raise UnfitError("the server returns no log-probabilities; set `answer: word`")
        return _of_letters(self.options.choices, [(top.token, top.logprob) for top in likeliest])

    def _words(self, source: Any) -> np.ndarray:
        classes, most = self.options.classes, LONGEST + self.options.reasoning
        question = self.content(source)
        drawn = range(self.options.seed, self.options.seed + self.options.samples)
        choices = [self._complete(question, seed, max_tokens=most) for seed in drawn]
        answers = [self._answer_of(choice) for choice in choices]
        finished = [answer for answer in answers if answer is not None]
        if not finished:
            raise ValueError(f"the reasoning does not end within {most} tokens; raise `reasoning`")
        named = [place for answer in finished for place in _named(classes, answer)]
        if not named:
            raise ValueError(f"the answer names no class, or several: {finished[0][:SHOWN]!r}")
        votes = np.bincount(named, minlength=len(classes)) + 1 / len(classes)
        return np.asarray(np.log(votes / votes.sum()))

    def _answer_of(self, choice: "Choice") -> str | None:
        """Return the text behind the reasoning, None where the tokens did not suffice for it."""
        answer = choice.text.rpartition(THOUGHT)[2].strip()
        cut = bool(self.options.reasoning) and choice.finish_reason == "length"
        return None if cut or answer.startswith("<think>") else answer

    def content(self, source: Any) -> str | list[dict[str, object]]:
        """Return the content of the message: the question about a text."""
        question: str = self.options.question(transcript=source.strip())
        return question

    def _complete(
        self, question: str | list[dict[str, object]], seed: int, **fields: Any
    ) -> "Choice":
        """Return the first choice of a server's answer.

        Raises `UserError` when the server cannot be reached or refuses, `ValueError` for an answer
        that cannot be used.
        """
        from ser.extract.kinds.chat import ServerError

        options = self.options
        request = {
            "model": options.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": options.temperature,
            "seed": seed,
            **fields,
            **options.extra,
        }
        try:
            return self._client.complete(json.dumps(request).encode(), self._tries)
        except ServerError as error:
            remedy = _REMEDIES.get(error.status, _REMEDIES[0])
            remedy = remedy.format(key=options.key_name or "that `key:` names")
            raise UserError(f"{self._where}: {error}; {remedy}.") from error


_REMEDIES = {  # by HTTP status
    0: "start it and run the command again: the answers until now are kept",
    401: "put its key into the environment variable {key}",
    403: "the key in {key} has no permission for it; use another one",
    404: "correct `server` (it usually ends in /v1) or `model`",
    429: "wait, or lower `parallel`, and run the command again: the answers until now are kept",
}


def _of_letters(letters: Sequence[str], tokens: Sequence[tuple[str, float]]) -> np.ndarray:
    """Return the log-probabilities of the letters, from the likeliest tokens (`A`, ` A`)."""
    by_letter: dict[str, float] = {}
    for token, value in tokens:
        letter = token.strip()
        if len(letter) == 1 and letter in letters:
            by_letter[letter] = float(np.logaddexp(by_letter.get(letter, -math.inf), value))
    if not by_letter:
        likeliest = max(tokens, key=lambda pair: pair[1])[0] if tokens else ""
        raise ValueError(
            f"no likely token is the letter of a class; the likeliest is {likeliest!r}"
        )
    values = [value for _, value in tokens]
    left = math.log(max(-math.expm1(min(np.logaddexp.reduce(values), 0.0)), 1e-300))
    least = min([*values, left])
    scores = np.array([max(by_letter.get(letter, least), FLOOR) for letter in letters])
    return np.asarray(scores - np.logaddexp.reduce(scores))


def _named(classes: Sequence[str], answer: str) -> list[int]:
    """Return the place of the one class that an answer names; nothing for none or several.

    Of two that one name holds (`happy`, `very happy`) the longer counts.
    """
    words = [rf"(?<!\w){re.escape(name)}(?!\w)" for name in classes]
    named = [i for i, word in enumerate(words) if re.search(word, answer, re.IGNORECASE)]
    longest = max(named, key=lambda i: len(classes[i]), default=0)
    within = classes[longest].lower()
    return [longest] if named and all(classes[i].lower() in within for i in named) else []
