"""The question that language models answer with a class, and the options of those on a server."""

import json
import re
import string
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ser.corpus.config import Name
from ser.extract.extractor import FeatureOptions

TOP = 20  # likeliest tokens that a server returns
OPENAI = "https://api.openai.com/"
RESERVED = ("model", "messages", "temperature", "seed", "logprobs", "top_logprobs", "stream", "n")


class QuestionOptions(FeatureOptions):
    """Options of every kind whose model chooses one of the classes."""

    classes: tuple[Name, ...] = Field(min_length=2, max_length=TOP)  # in a pipeline: the corpus's
    prompt: str = Field(max_length=20_000)
    places: ClassVar[tuple[str, ...]] = ("{classes}",)  # that the prompt must contain
    answer: Literal["letter", "word"] = "letter"
    reasoning: int = Field(default=0, ge=0, le=1_000_000)  # tokens before an answer

    @field_validator("prompt")
    @classmethod
    def _places(cls, prompt: str) -> str:
        if not all(place in prompt for place in cls.places):
            raise ValueError(f"it must contain {' and '.join(cls.places)}")
        return prompt

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({name.lower() for name in self.classes}) != len(self.classes):
            raise ValueError("classes: one is named twice")
        return self

    @property
    def choices(self) -> tuple[str, ...]:
        """The answers, one for each class: the letters A, B, … or the names themselves."""
        letters = tuple(string.ascii_uppercase[: len(self.classes)])
        return letters if self.answer == "letter" else self.classes

    def question(self, **values: str) -> str:
        """Return the prompt with its values; braces within a value are left as they are."""
        listed = ", ".join(self.classes)
        if self.answer == "letter":
            pairs = zip(self.choices, self.classes, strict=True)
            listed = "\n".join(f"{letter}. {name}" for letter, name in pairs)
        values = values | {"classes": listed, "answer": self.answer}
        return re.sub(rf"\{{({'|'.join(values)})\}}", lambda m: values[m[1]], self.prompt)


class ChatOptions(QuestionOptions):
    """Options of `kind: llm` and `kind: audio_llm`.

    `model` is the name by which the server knows it. `key` names the environment variable that
    holds the server's key, never the key itself; for OpenAI's own server it is OPENAI_API_KEY,
    others get a key only when one is named. `reasoning` is how many tokens a reasoning model may
    spend before its answer. `extra` is added to each request. Where the server is, its key, and how
    many questions wait for how long do not change what a cache is called.
    """

    remote: ClassVar[bool] = True
    unnamed: ClassVar[frozenset[str]] = frozenset(
        {"augment", "server", "key", "parallel", "timeout"}
    )

    # a password has no place in a file
    server: str = Field(pattern=r"^https?://[^@?#\s]+$", max_length=2000)
    model: str
    samples: int = Field(default=1, ge=1, le=1000)  # answers in words
    temperature: float = Field(default=0.0, ge=0, le=100)
    seed: int = Field(default=7, ge=-(2**31), lt=2**31)
    extra: dict[str, Any] = Field({})
    key: str | None = Field(default=None, pattern=r"^[A-Z_][A-Z0-9_]*$", max_length=255)
    parallel: int = Field(default=8, ge=1, le=1000)
    timeout: float = Field(default=60.0, gt=0, le=86_400)  # s, of one whole answer

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
    def _consistent(self) -> Self:
        if self.samples > 1 and (self.answer == "letter" or not self.temperature):
            raise ValueError("samples: they differ only with `answer: word` and a temperature")
        if self.reasoning and self.answer == "letter":
            raise ValueError("reasoning: the first token is no letter; set `answer: word`")
        return self
