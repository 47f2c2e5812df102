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
import string
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

import numpy as np
from pydantic import Field, field_validator, model_validator

from ser.corpus.config import Name
from ser.corpus.errors import UserError
from ser.extract.extractor import Extractor, FeatureOptions, extractor

if TYPE_CHECKING:
    from ser.extract.kinds.chat import Choice

TOP = 20  # likeliest tokens that a server returns
TRIES = 5  # after a first one that failed; the waits grow, or are the server's `retry-after`
TRIES_AT_FIRST = 1  # the same, for the request that tests the server
FLOOR = -20.0  # log-probabilities below are as good as none; some servers say -9999
OPENAI = "https://api.openai.com/"
LONGEST = 16  # tokens of an answer in words
SHOWN = 60  # characters of an answer in a message
COST = 100.0  # frames of a budget: 60 texts a batch on a CPU
PROMPT = """\
Somebody said: "{transcript}"
Which of these emotions did it most likely sound like?
{classes}
Answer with one {answer} and nothing else."""
PROBE = "Good morning."
RESERVED = ("model", "messages", "temperature", "seed", "logprobs", "top_logprobs", "stream", "n")


class LLMOptions(FeatureOptions):
    """Options of `kind: llm`.

    `model` is the name by which the server knows it. `of` names the transcripts, as for text.
    `key` names the environment variable that holds the server's key, never the key itself; for
    OpenAI's own server it is OPENAI_API_KEY, others get a key only when one is named. `extra` is
    added to each request. Where the server is, its key, and how many questions wait for how long do
    not change what a cache is called.
    """

    remote: ClassVar[bool] = True
    unnamed: ClassVar[frozenset[str]] = frozenset(
        {"augment", "server", "key", "parallel", "timeout"}
    )

    # a password has no place in a file
    server: str = Field(pattern=r"^https?://[^@?#\s]+$", max_length=2000)
    model: str
    of: Name
    classes: tuple[Name, ...] = Field(min_length=2, max_length=TOP)  # in a pipeline: the corpus's
    prompt: str = Field(PROMPT, max_length=20_000)
    answer: Literal["letter", "word"] = "letter"
    samples: int = Field(default=1, ge=1, le=1000)  # answers in words
    temperature: float = Field(default=0.0, ge=0, le=100)
    seed: int = Field(default=7, ge=-(2**31), lt=2**31)
    extra: dict[str, Any] = Field({})
    key: str | None = Field(default=None, pattern=r"^[A-Z_][A-Z0-9_]*$", max_length=255)
    parallel: int = Field(default=8, ge=1, le=1000)
    timeout: float = Field(default=60.0, gt=0, le=86_400)  # s, of one whole answer

    @field_validator("prompt")
    @classmethod
    def _places(cls, prompt: str) -> str:
        if "{transcript}" not in prompt or "{classes}" not in prompt:
            raise ValueError("it must contain {transcript} and {classes}")
        return prompt

    @field_validator("server")
    @classmethod
    def _host(cls, server: str) -> str:
        try:
            host, _ = urlsplit(server).hostname, urlsplit(server).port
        except ValueError:
            host = None
        if not host or not server.isascii():
            raise ValueError("it must be a URL with a host, such as http://localhost:8000/v1")
        return server

    @field_validator("extra")
    @classmethod
    def _extra(cls, extra: dict[str, Any]) -> dict[str, Any]:
        secret = re.compile("key|token$|secret|auth")
        wrong = [key for key in extra if key in RESERVED or secret.search(key)]
        if wrong:
            raise ValueError(f"'{wrong[0]}' is not allowed here: it is another option, or a secret")
        try:
            json.dumps(extra, allow_nan=False)
        except ValueError as error:
            raise ValueError("it holds a number that is not finite") from error
        return extra

    @property
    def key_name(self) -> str | None:
        """Return the environment variable of the server's key, None where none is sent."""
        return self.key or ("OPENAI_API_KEY" if self.server.startswith(OPENAI) else None)

    @model_validator(mode="after")
    def _consistent(self) -> "LLMOptions":
        if len({name.lower() for name in self.classes}) != len(self.classes):
            raise ValueError("classes: one is named twice")
        if self.samples > 1 and (self.answer == "letter" or not self.temperature):
            raise ValueError("samples: they differ only with `answer: word` and a temperature")
        return self


@extractor("llm")
class LLM(Extractor):
    """Request the class probabilities of each text from a server."""

    Options: ClassVar[type[FeatureOptions]] = LLMOptions
    reads: ClassVar[Literal["audio", "text"]] = "text"
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
            self._ask(PROBE)
        except AnswerError as error:
            raise UserError(f"{self._where}: {error}.") from error
        except ValueError:  # no class, but an answer
            pass
        self._tries = TRIES

    def cost(self, size: int) -> float:
        """Return the same for all texts: the time is spent waiting."""
        return COST

    def extract(self, batch: Sequence[str]) -> list[np.ndarray | ValueError]:
        """Return the log-probabilities of each text `(1, classes)`; zeros for an empty text.

        An answer that names no class is a `ValueError` in its place. Raises `UserError` when the
        server fails.
        """
        texts = [text for text in dict.fromkeys(batch) if text.strip()]
        with ThreadPoolExecutor(self.options.parallel) as pool:
            answers = dict(zip(texts, pool.map(self._answer, texts), strict=True))
        nothing = np.zeros((1, *self.item_shape), np.float32)
        return [answers.get(text, nothing) for text in batch]

    @property
    def _where(self) -> str:
        return f"{self.options.server}: model '{self.options.model}'"

    def _answer(self, text: str) -> np.ndarray | ValueError:
        """Return the frame of a text `(1, classes)` float32, or why there is none."""
        try:
            return np.array(self._ask(text), np.float32)[None]
        except ValueError as error:
            return error

    def _ask(self, text: str) -> np.ndarray:
        return self._letter(text) if self.options.answer == "letter" else self._words(text)

    def _letter(self, text: str) -> np.ndarray:
        letters = string.ascii_uppercase[: len(self.options.classes)]
        listed = [f"{a}. {name}" for a, name in zip(letters, self.options.classes, strict=True)]
        question = self._question(text, "\n".join(listed))
        likeliest = self._complete(
            question, self.options.seed, max_tokens=1, logprobs=True, top_logprobs=TOP
        ).likeliest
        if not likeliest:
            from ser.extract.kinds.chat import UnfitError

            raise UnfitError("the server returns no log-probabilities; set `answer: word`")
        return _of_letters(letters, [(top.token, top.logprob) for top in likeliest])

    def _words(self, text: str) -> np.ndarray:
        classes = self.options.classes
        question = self._question(text, ", ".join(classes))
        drawn = range(self.options.seed, self.options.seed + self.options.samples)
        choices = [self._complete(question, seed, max_tokens=LONGEST) for seed in drawn]
        answers = [choice.text for choice in choices]
        named = [place for answer in answers for place in _named(classes, answer)]
        if not named:
            raise ValueError(f"the answer names no class, or several: {answers[0][:SHOWN]!r}")
        votes = np.bincount(named, minlength=len(classes)) + 1 / len(classes)
        return np.asarray(np.log(votes / votes.sum()))

    def _question(self, text: str, classes: str) -> str:
        """Return the prompt; braces within a text are left as they are."""
        values = {"transcript": text.strip(), "classes": classes, "answer": self.options.answer}
        return re.sub(
            r"\{(transcript|classes|answer)\}", lambda m: values[m[1]], self.options.prompt
        )

    def _complete(self, question: str, seed: int, **fields: Any) -> "Choice":
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


def _of_letters(letters: str, tokens: Sequence[tuple[str, float]]) -> np.ndarray:
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
