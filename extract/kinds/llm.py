"""What a large language model makes of a transcript: a score a class, asked of its server.

Any server that speaks the chat protocol of OpenAI will do: OpenAI's own, vLLM, llama.cpp, Ollama,
and many more. Each text is one frame of `classes` log-probabilities, a softmax of which gives them
back; `head: class_scores` takes them as they are. Nobody's emotion labels are seen: the answer is
zero-shot.

`answer: letter`: the classes are lettered, one token is asked for, and the probabilities that the
model gives to the letters as that token are taken (the options of a multiple-choice question, as in
Hendrycks et al. 2021, "Measuring Massive Multitask Language Understanding"). A letter that is not
among the 20 likeliest tokens gets the most that it can have: the probability of the last of these,
or what all of these leave, whichever is less. `answer: word`: `samples` answers are drawn and
counted, one vote more being spread over all classes, for models and servers that give no
probabilities.

A text is asked about once a batch, `parallel` texts at a time. A server that is not there, refuses
the key, or goes on refusing after several tries ends the extraction with what was answered until
then; an answer that names no class fails its own text only.
"""

import math
import os
import re
import string
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from corpus.errors import UserError
from extract.extractor import Extractor, FeatureOptions, extractor

TOP = 20  # likeliest tokens that a server tells
TRIES = 5  # after a first one that failed; the waits grow, or are those the server asks for
TRIES_AT_FIRST = 1  # the same, of the question that sees whether the server is there
CONNECT = 10.0  # s until a server that does not even listen is given up
FLOOR = -20.0  # log-probabilities below are as good as none; some servers say -9999
OPENAI = "https://api.openai.com/"
LONGEST = 16  # tokens of an answer in words
SHOWN = 60  # characters of an answer that is complained of
COST = 100.0  # frames of a budget: 60 texts a batch on a CPU
PROMPT = """\
Somebody said: "{transcript}"
Which of these emotions did it most likely sound like?
{classes}
Answer with one {answer} and nothing else."""
PROBE = "Good morning."
ASKED = ("model", "messages", "temperature", "seed", "logprobs", "top_logprobs", "stream", "n")


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

    server: str = Field(pattern=r"^https?://[^@]+$")  # a password has no place in a file
    model: str
    of: str
    classes: tuple[str, ...] = Field(min_length=2, max_length=TOP)  # in a pipeline: the corpus's
    prompt: str = PROMPT
    answer: Literal["letter", "word"] = "letter"
    samples: PositiveInt = 1  # answers in words
    temperature: float = Field(default=0.0, ge=0)
    seed: int = 7
    extra: dict[str, Any] = Field({})
    key: str | None = Field(default=None, pattern=r"^[A-Z_][A-Z0-9_]*$")
    parallel: PositiveInt = 8
    timeout: PositiveFloat = 60.0  # s

    @field_validator("prompt")
    @classmethod
    def _places(cls, prompt: str) -> str:
        if "{transcript}" not in prompt or "{classes}" not in prompt:
            raise ValueError("it must say {transcript} and {classes}, where these are to stand")
        return prompt

    @field_validator("extra")
    @classmethod
    def _more(cls, extra: dict[str, Any]) -> dict[str, Any]:
        own = [key for key in extra if key in ASKED or re.search("key|token$|secret|auth", key)]
        if own:
            raise ValueError(f"'{own[0]}' is not for here: it is a key of its own, or a secret")
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
            raise ValueError("samples: they are all alike but for `answer: word` at a temperature")
        return self


class UnfitError(ValueError):
    """Say that a server cannot be asked so, whatever the text is."""


@extractor("llm")
class LLM(Extractor):
    """Ask a server what emotion each text is."""

    Options: ClassVar[type[FeatureOptions]] = LLMOptions
    reads: ClassVar[Literal["audio", "text"]] = "text"
    whole: ClassVar[bool] = False  # what was answered is not asked again, it may cost money

    def load(self, device: str) -> None:
        """Ask one question, so that a server that cannot answer is known before any work."""
        from openai import OpenAI, Timeout

        options = self.options
        self._key = os.environ.get(options.key_name or "", "").strip()
        elsewhere = None if options.server.startswith(OPENAI) else ""  # whose name is not told
        self._client = OpenAI(
            base_url=options.server,
            api_key=self._key or "none",
            organization=elsewhere,
            project=elsewhere,
            timeout=Timeout(options.timeout, connect=min(CONNECT, options.timeout)),
            max_retries=TRIES_AT_FIRST,
        )
        self.item_shape = (len(options.classes),)
        try:
            self._ask(PROBE)
        except UnfitError as error:
            raise UserError(f"{self._where}: {error}.") from error
        except ValueError:  # no class, but an answer
            pass
        self._client = self._client.with_options(max_retries=TRIES)

    def cost(self, size: int) -> float:
        """Return the same for all texts: an answer is waited for, not computed."""
        return COST

    def extract(self, batch: Sequence[str]) -> list[np.ndarray | ValueError]:
        """Return the log-probabilities of each text `(1, classes)`; zeros where nothing was said.

        In the place of an answer that names no class is a `ValueError`. Raises `UserError` when the
        server can no longer be asked.
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
        answer = self._complete(
            question, self.options.seed, max_tokens=1, logprobs=True, top_logprobs=TOP
        )
        told = answer.logprobs.content if answer.logprobs else None
        likeliest = told[0].top_logprobs if told else None
        if not likeliest:
            raise UnfitError("the server tells no log-probabilities; take `answer: word`")
        return _of_letters(letters, [(top.token, top.logprob) for top in likeliest])

    def _words(self, text: str) -> np.ndarray:
        classes = self.options.classes
        question = self._question(text, ", ".join(classes))
        drawn = range(self.options.seed, self.options.seed + self.options.samples)
        choices = [self._complete(question, seed, max_tokens=LONGEST) for seed in drawn]
        said = [choice.message.content or "" for choice in choices]
        named = [place for words in said for place in _named(classes, words)]
        if not named:
            raise ValueError(f"the answer names no class, or several: {said[0][:SHOWN]!r}")
        votes = np.bincount(named, minlength=len(classes)) + 1 / len(classes)
        return np.asarray(np.log(votes / votes.sum()))

    def _question(self, text: str, classes: str) -> str:
        """Return the prompt; what stands in braces in a text stays what it is."""
        said = {"transcript": text.strip(), "classes": classes, "answer": self.options.answer}
        return re.sub(r"\{(transcript|classes|answer)\}", lambda m: said[m[1]], self.options.prompt)

    def _complete(self, question: str, seed: int, **how: Any) -> Any:
        """Return the first choice that a server answers with; its errors in our words."""
        import openai

        options = self.options
        try:
            found = self._client.chat.completions.create(
                model=options.model,
                messages=[{"role": "user", "content": question}],
                temperature=options.temperature,
                seed=seed,
                extra_body=options.extra,
                **how,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            raise UnfitError(f"the server refuses the request ({self._said(error)})") from error
        except openai.APIError as error:
            remedy = _REMEDIES.get(getattr(error, "status_code", 0), _REMEDIES[0])
            remedy = remedy.format(key=options.key_name or "that `key:` names")
            raise UserError(f"{self._where}: {self._said(error)}; {remedy}.") from error
        choices = getattr(found, "choices", None) or [None]
        if getattr(choices[0], "message", None) is None:
            raise UnfitError("the answer is not of the chat protocol; correct `server`")
        return choices[0]

    def _said(self, error: Any) -> str:
        """Return what a server said of an error, on one line, without the key."""
        body: Any = getattr(error, "body", None)
        message = body.get("message") if isinstance(body, Mapping) else None
        said = " ".join(str(message or error).split()).rstrip(".")
        return said.replace(self._key, "…") if self._key else said


_REMEDIES = {  # by HTTP status
    0: "see that it runs, and run it again: what was answered is kept",
    401: "put its key into the environment variable {key}",
    403: "the key in {key} may not do that; take another",
    404: "correct `server` (it ends in /v1, mostly) or `model`",
    429: "wait, or lower `parallel`, and run it again: what was answered is kept",
}


def _of_letters(letters: str, told: Sequence[tuple[str, float]]) -> np.ndarray:
    """Return the log-probabilities of the letters, of the likeliest tokens' (`A`, ` A`)."""
    found: dict[str, float] = {}
    for token, value in told:
        letter = token.strip()
        if len(letter) == 1 and letter in letters:
            found[letter] = float(np.logaddexp(found.get(letter, -math.inf), value))
    if not found:
        likeliest = max(told, key=lambda each: each[1])[0] if told else ""
        raise ValueError(
            f"no likely token is the letter of a class; the likeliest is {likeliest!r}"
        )
    values = [value for _, value in told]
    left = math.log(max(-math.expm1(min(np.logaddexp.reduce(values), 0.0)), 1e-300))
    least = min([*values, left])
    scores = np.array([max(found.get(letter, least), FLOOR) for letter in letters])
    return np.asarray(scores - np.logaddexp.reduce(scores))


def _named(classes: Sequence[str], answer: str) -> list[int]:
    """Return the place of the one class that an answer names; nothing for none or several.

    Of two that one name holds (`happy`, `very happy`) the longer counts.
    """
    words = [rf"(?<!\w){re.escape(name)}(?!\w)" for name in classes]
    found = [i for i, word in enumerate(words) if re.search(word, answer, re.IGNORECASE)]
    longest = max(found, key=lambda i: len(classes[i]), default=0)
    within = classes[longest].lower()
    return [longest] if found and all(classes[i].lower() in within for i in found) else []
