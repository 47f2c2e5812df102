"""Requests to a server with OpenAI's chat API, each bounded in time and in size.

The server is not trusted: it gets `timeout` seconds for a whole answer (headers and body, however
slowly they come), an answer may have a megabyte, compressed answers are not read and redirects are
not followed, so that neither the text nor the key goes to another host. What it answers is checked
before it is used.
"""

import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ser.corpus.config import describe

LARGEST = 1 << 20  # bytes of an answer
CONNECT = 10.0  # s to connect
LONGEST_WAIT = 60.0  # s of a server's `retry-after`
SHOWN = 200  # characters of a server's message
BUSY = (408, 409, 429)  # statuses after which another try may help, as after 500 and more


class AnswerError(ValueError):
    """An answer that cannot be used; other questions may have better ones."""


class UnfitError(AnswerError):
    """A server that lacks what every request needs."""


class ServerError(Exception):
    """A server that cannot be reached (status 0), or refuses, after all tries."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Answered(BaseModel):
    """Base of the parts of an answer; unknown fields are ignored."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Token(_Answered):
    """A likely token and its log-probability, at most 0 but for rounding."""

    token: str = Field(max_length=1000)
    logprob: float = Field(le=0.01)


class _Position(_Answered):
    top_logprobs: Annotated[list[Token], Field(max_length=1000)] = []


class _Logprobs(_Answered):
    content: Annotated[list[_Position], Field(max_length=1000)] | None = None


class _Message(_Answered):
    content: str | None = None


class Choice(_Answered):
    """One answer: its text, and the likeliest first tokens if they were requested."""

    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None

    @property
    def text(self) -> str:
        """Return the answer's text, "" where there is none."""
        return self.message.content or ""

    @property
    def likeliest(self) -> list[Token]:
        """Return the likeliest tokens in the first one's place, none where none are given."""
        positions = self.logprobs.content if self.logprobs else None
        return positions[0].top_logprobs if positions else []


class _Completion(_Answered):
    choices: list[Choice] = Field(min_length=1, max_length=1000)


class ChatClient:
    """A connection to one server; may be used from several threads.

    `server` is the URL that `/chat/completions` is below, `key` is sent with each question.
    """

    def __init__(self, server: str, key: str, timeout: float, connections: int) -> None:
        self._url = f"{server.rstrip('/')}/chat/completions"
        self._key = key
        self._timeout = timeout
        self._clock = _Clock()
        self._headers: dict[bytes | str, bytes | str] = {
            "Authorization": f"Bearer {key or 'none'}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "ser",
        }
        context = httpcore.default_ssl_context()
        if os.environ.get("SSL_CERT_FILE"):
            context.load_verify_locations(os.environ["SSL_CERT_FILE"])
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            proxy=_proxy(urlsplit(self._url)),
            max_connections=connections,
            network_backend=self._clock,
        )

    def complete(self, body: bytes, tries: int) -> Choice:
        """Return the first choice of the answer to a request; `tries` more where it is busy.

        Raises `AnswerError` for an answer that is none, `UnfitError` where the request itself is
        refused, and `ServerError`.
        """
        for left in range(tries, -1, -1):
            wait = None
            try:
                status, wait, content = self._post(body)
                if status == 200:
                    return _choice(content)
                problem: Exception = self._refusal(status, content)
                again = status in BUSY or status >= 500
            except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.ProxyError) as error:
                problem, again = ServerError(0, f"no connection ({_reason(error)})"), True
            except httpcore.TimeoutException:
                problem = AnswerError(f"no whole answer within {self._timeout:g} s")
                again = False
            except (httpcore.NetworkError, httpcore.ProtocolError) as error:
                problem, again = AnswerError(f"the connection broke ({_reason(error)})"), True
            if not (again and left):
                raise problem
            time.sleep(min(0.5 * 2 ** (tries - left), 8.0) if wait is None else wait)
        raise AssertionError  # the last round returns or raises

    def _post(self, body: bytes) -> tuple[int, float | None, bytes]:
        """Return status, the seconds to wait for another try, and the body of an answer."""
        self._clock.start(self._timeout)
        timeouts = {"connect": min(CONNECT, self._timeout), "pool": self._timeout}
        with self._pool.stream(
            "POST", self._url, headers=self._headers, content=body, extensions={"timeout": timeouts}
        ) as response:
            headers = {k.lower(): v for k, v in response.headers}
            if 300 <= response.status < 400:
                elsewhere = urlsplit(headers.get(b"location", b"").decode("latin-1")).hostname
                raise AnswerError(
                    f"the server redirects to {shown(elsewhere or 'another path')}, which is not "
                    "followed; correct `server`"
                )
            encoding = headers.get(b"content-encoding", b"").strip().lower()
            if encoding not in (b"", b"identity"):
                raise AnswerError("the answer is compressed, which was not requested")
            content = bytearray()
            for chunk in response.iter_stream():
                content += chunk
                if len(content) > LARGEST:
                    raise AnswerError(f"the answer is larger than {LARGEST >> 20} MiB")
            return response.status, _wait(headers.get(b"retry-after", b"")), bytes(content)

    def _refusal(self, status: int, content: bytes) -> Exception:
        message = f"HTTP status {status}"
        try:
            reason: Any = _Refused.model_validate_json(content).error
            reason = reason.get("message") if isinstance(reason, Mapping) else reason
            message = reason if isinstance(reason, str) and reason.strip() else message
        except ValidationError:
            pass
        if self._key:
            message = message.replace(self._key, "…")
        message = shown(message).rstrip(".")
        if status in (400, 422):
            return UnfitError(f"the server refuses the request ({message})")
        return ServerError(status, message)


class _Refused(BaseModel):
    error: Any = None


def shown(text: str, longest: int = SHOWN) -> str:
    """Return a server's message as one line to print: bounded, no control characters."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text[: 4 * longest].split()))
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _choice(content: bytes) -> Choice:
    try:
        return _Completion.model_validate_json(content).choices[0]
    except ValidationError as error:
        raise UnfitError(
            f"the answer is not of the chat protocol ({shown(describe(error))}); correct `server`"
        ) from error


def _reason(error: Exception) -> str:
    return shown(str(error)) or type(error).__name__


def _wait(text: bytes) -> float | None:
    """Return the seconds of a Retry-After header, None for none that is sensible."""
    seconds = float(text) if re.fullmatch(rb"[0-9]{1,5}(\.[0-9]{1,3})?", text) else 0.0
    return seconds if 0 < seconds <= LONGEST_WAIT else None


def _proxy(url: SplitResult) -> httpcore.Proxy | None:
    """Return the proxy that the environment names for a URL, if any."""
    named = getproxies().get(url.scheme)
    if named is None or proxy_bypass(url.netloc):
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    place = f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}"
    if proxy.username is None:
        return httpcore.Proxy(place)
    return httpcore.Proxy(place, auth=(unquote(proxy.username), unquote(proxy.password or "")))


class _Clock(httpcore.NetworkBackend):
    """Connections none of whose operations outlasts the time of the question they are for.

    A thread sends one request at a time, so each thread has a deadline of its own.
    """

    def __init__(self) -> None:
        self._plain = httpcore.SyncBackend()
        self._own = threading.local()

    def start(self, seconds: float) -> None:
        """Give this thread so many seconds from now."""
        self._own.deadline = time.monotonic() + seconds

    def left(self, timeout: float | None = None) -> float:
        """Return the seconds that are left, at most `timeout`; raises `httpcore.ReadTimeout`."""
        seconds: float = self._own.deadline - time.monotonic()
        if seconds <= 0:
            raise httpcore.ReadTimeout("time is up")
        return seconds if timeout is None else min(seconds, timeout)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect, within what is left."""
        stream = self._plain.connect_tcp(
            host, port, self.left(timeout), local_address, socket_options
        )
        return _Timed(stream, self)


class _Timed(httpcore.NetworkStream):
    """A connection whose every operation takes at most what its thread has left."""

    def __init__(self, stream: httpcore.NetworkStream, clock: _Clock) -> None:
        self._stream, self._clock = stream, clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._clock.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._clock.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._clock.left(timeout))
        return _Timed(stream, self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
