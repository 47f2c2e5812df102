"""A local stand-in for the server of a large language model, with OpenAI's chat protocol.

Its answers are random and depend on the question alone. It returns the log-probabilities of the
lettered options of a question as `kind: llm` poses it, or one of the words of a list.
"""

import json
import re
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

Reply = tuple[int, dict[str, object]]  # status and body


class ChatServer(ThreadingHTTPServer):
    """A server of `POST /v1/chat/completions` on a free local port, while its block runs.

    `requests` are those received, `keys` their `Authorization` headers. A derived class may
    override `reply`.
    """

    daemon_threads = True
    url: str

    def __enter__(self) -> "ChatServer":
        self.requests: list[dict[str, object]] = []
        self.keys: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)

    def reply(self, request: dict[str, Any]) -> Reply:
        """Return status and body for a request."""
        content = request["messages"][-1]["content"]
        seed = zlib.crc32(str(content).encode()) + int(request.get("seed", 0))
        random = np.random.default_rng(seed)
        question = content
        if not isinstance(content, str):  # audio, and the question about it
            question = "".join(part.get("text", "") for part in content)
        if request.get("logprobs"):
            letters = re.findall(r"^([A-Z])\. ", question, re.MULTILINE)
            scores = random.standard_normal(len(letters))
            scores -= np.logaddexp.reduce(scores)
            pairs = zip(letters, scores.tolist(), strict=True)
            likeliest = sorted(pairs, key=lambda pair: -pair[1])
            return 200, completion(request, likeliest[0][0], likeliest)
        choices = max(question.splitlines(), key=lambda line: line.count(","))
        return 200, completion(request, str(random.choice(choices.split(", "))))


def completion(
    request: dict[str, Any], answer: str, likeliest: list[tuple[str, float]] | None = None
) -> dict[str, object]:
    """Return the body of an answer; `likeliest` are the first token's candidates and their logs."""
    tokens = [{"token": t, "logprob": value, "bytes": None} for t, value in likeliest or ()]
    top = tokens[: request.get("top_logprobs", 0)]
    first = {**tokens[0], "top_logprobs": top} if tokens else None
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer},
        "finish_reason": "stop",
        "logprobs": {"content": [first]} if first else None,
    }
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [choice],
        "usage": usage,
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        self.server.keys.add(self.headers.get("Authorization", ""))
        missing: Reply = (404, {"error": {"message": f"{self.path} is not served"}})
        served = self.path == "/v1/chat/completions"
        status, body = self.server.reply(request) if served else missing
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Connection", "close")  # so that no request is answered after shutdown
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing."""
