"""What a server says becomes log-probabilities; what it refuses is said, and costs no work."""

import contextlib
import gzip
import io
import json
import socket
import struct
import time
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from ser.corpus.config import MSP_CLASSES
from ser.corpus.errors import UserError
from ser.corpus.manifest import Manifest
from ser.extract.extractor import Extractor, parse_options
from ser.extract.job import Job, full_spec, open_feature
from ser.extract.kinds import llm
from ser.extract.kinds.llm import LLM
from ser.extract.run import extract
from ser.extract.testing import TEXTS, ExtractorConformance
from ser.synthetic.server import ChatServer, completion

CLASSES = ("angry", "sad", "neutral")
pytest.importorskip("httpcore")
pytestmark = pytest.mark.usefixtures("no_waiting")


def options_of(server: str, **said: Any) -> Any:
    entry = {"kind": "llm", "server": server, "model": "tiny", "of": "transcript"}
    return parse_options(entry | {"classes": CLASSES} | said)


def loaded(server: str, **said: Any) -> LLM:
    extractor = LLM(options_of(server, **said))
    extractor.load("cpu")
    return extractor


def job_of(folder: Any, server: str, texts: Any = TEXTS, **said: Any) -> Job:
    rows = [{"utterance": f"u{i}", "path": "-", "transcript": t} for i, t in enumerate(texts)]
    manifest = Manifest(pl.DataFrame(rows))
    return Job("llm", options_of(server, **said), manifest, folder, folder / "cache")


class Says(ChatServer):
    """Answer with what `answers` has for the question's transcript, else as ever, or `sad`."""

    answers: dict[str, Any]

    def __init__(self, **answers: Any) -> None:
        super().__init__()
        self.answers = answers

    def reply(self, request: dict[str, Any]) -> Any:
        question = request["messages"][0]["content"]
        values = [answer for text, answer in self.answers.items() if f'"{text}"' in question]
        if not values and request.get("logprobs"):
            return super().reply(request)
        answer = values[0] if values else "sad"
        if isinstance(answer, tuple):
            return answer
        if isinstance(answer, list):
            return 200, completion(request, answer[0][0], answer)
        return 200, completion(request, answer)


@pytest.mark.usefixtures("server")
class TestLetter(ExtractorConformance):
    layered = False
    said: dict[str, Any] = {}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _serve(self, server):
        self.url = server.url

    def make(self, **options: Any) -> Extractor:
        return loaded(self.url, **self.said, **options)


class TestWord(TestLetter):
    said = {"answer": "word", "samples": 3, "temperature": 0.7}  # noqa: RUF012


def test_the_scores_are_the_log_probabilities_of_the_letters():
    tokens = [("A", -0.5), (" A", -2.0), ("The", -3.0), ("C", -4.0), ("ABC", -5.0), ("b", -6.0)]
    with Says(hello=tokens) as server:
        (frames,) = loaded(server.url).extract(["hello"])
    # " A" is A too; B is not listed and gets what the last of the list has; b is no letter here
    scores = np.array([np.logaddexp(-0.5, -2.0), -6.0, -4.0])
    np.testing.assert_allclose(frames, [scores - np.logaddexp.reduce(scores)], rtol=1e-6)
    assert frames.dtype == np.float32


def test_what_is_not_listed_gets_no_more_than_is_left():
    with Says(sure=[("A", -0.01)], never=[("A", -0.5), ("B", -9999.0)]) as server:
        sure, never = loaded(server.url).extract(["sure", "never"])
    left = np.log(1 - np.exp(-0.01))
    np.testing.assert_allclose(sure, [normal([-0.01, left, left])], rtol=1e-5)
    np.testing.assert_allclose(never, [normal([-0.5, -20.0, -20.0])], rtol=1e-5)


def normal(scores):
    return np.array(scores) - np.logaddexp.reduce(scores)


def test_words_are_counted_and_one_vote_is_spread():
    with Says(hello="I am Angry.") as server:
        (frames,) = loaded(server.url, answer="word").extract(["hello"])
    np.testing.assert_allclose(np.exp(frames), [[2 / 3, 1 / 6, 1 / 6]], rtol=1e-6)


def test_names_of_several_words_are_found_in_answers():
    classes = ["very happy", "happy", "non-neutral"]
    options = {"one": "Very happy!", "two": "happy", "three": "It is non-neutral."}
    with Says(**options) as server:
        extractor = loaded(server.url, answer="word", classes=classes)
        results = [frames.argmax() for frames in extractor.extract(["one", "two", "three"])]
    assert results == [0, 1, 2]


def test_the_request_is_the_protocols():
    with ChatServer() as server:
        loaded(server.url, extra={"top_k": 5}).extract(['say "{classes}"'])
        _, asked = server.requests
    assert asked == {
        "model": "tiny",
        "messages": [
            {
                "role": "user",
                "content": 'Somebody said: "say "{classes}""\n'
                "Which of these emotions did it most likely sound like?\n"
                "A. angry\nB. sad\nC. neutral\nAnswer with one letter and nothing else.",
            }
        ],
        "temperature": 0.0,
        "seed": 7,
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": 20,
        "top_k": 5,
    }


def test_samples_are_requested_with_their_own_seeds():
    with ChatServer() as server:
        extractor = loaded(server.url, answer="word", samples=3, temperature=0.7)
        extractor.extract(["hello", "hello"])  # alike: asked once
    assert [asked["seed"] for asked in server.requests] == [7, 8, 9] * 2  # those of the probe first


def test_the_key_is_sent_and_never_written(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", "secret")
    with ChatServer() as server:
        job = job_of(tmp_path, server.url, key="MY_KEY")
        extract(job, "cpu")
        assert server.keys == {"Bearer secret"}
        monkeypatch.setenv("OPENAI_API_KEY", "not for you")
        loaded(server.url)
        assert server.keys == {"Bearer secret", "Bearer none"}
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"secret" not in written


def test_an_answer_without_a_class_fails_only_its_text_and_is_requested_once(tmp_path):
    texts = ["one", "two", "three", None]
    with Says(two="either angry or sad", three=9 * "no idea. ") as server:
        report = extract(job_of(tmp_path, server.url, texts, answer="word"), "cpu")
    assert report.failed == {
        "u1": "ValueError: the answer names no class, or several: 'either angry or sad'",
        "u2": "ValueError: the answer names no class, or several: " + repr((9 * "no idea. ")[:60]),
        "u3": "no words in 'transcript'",
    }
    assert len(server.requests) == 4  # the probe, and each text once
    with Says() as server:  # what failed is asked again, what is there is not
        again = extract(job_of(tmp_path, server.url, texts, answer="word"), "cpu")
    assert (again.cached, again.extracted, len(server.requests)) == (1, 2, 3)


def test_a_first_token_that_is_not_a_letter_fails_its_text(tmp_path):
    good = [("A", -0.1)]
    with Says(one=good, two=[("Hm", -0.1), ("Well", -2.0)]) as server:
        server.answers |= {llm.PROBE: good}
        report = extract(job_of(tmp_path, server.url, ["one", "two"]), "cpu")
    assert report.failed == {
        "u1": "ValueError: no likely token is the letter of a class; the likeliest is 'Hm'"
    }


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, {"error": {"message": "bad key"}}, "bad key; put its key into the environment"),
        (404, {"error": {"message": "no such model"}}, "no such model; correct `server`"),
        (429, {"error": {"message": "slow down"}}, "slow down; wait, or lower `parallel`"),
        (500, {"error": {"message": "oops"}}, "oops; start it and run the command again"),
        (400, {"error": {"message": "no logprobs"}}, "the server refuses the request (no logprobs"),
        (200, {"hello": "world"}, "protocol ('choices' is not valid: the value is missing); "),
        (200, {"choices": [None]}, "('choices.0' is not valid: it must be a mapping); correct "),
        (200, None, "the server returns no log-probabilities; set `answer: word`."),
    ],
)
def test_an_unreachable_server_is_reported_before_any_work(tmp_path, status, body, message):
    probe = "sad" if body is None else (status, body)
    with Says(**{llm.PROBE: probe}) as server:
        with pytest.raises(UserError) as caught:
            extract(job_of(tmp_path, server.url), "cpu")
        assert str(caught.value).startswith(f"{server.url}: model 'tiny': ")
    assert message in str(caught.value)
    assert len(server.requests) == 1
    assert not (tmp_path / "cache").exists()


def test_the_key_is_not_repeated_when_the_server_does(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", " secret\n")
    body = {"error": {"message": "bad key: secret"}}
    with (
        Says(**{llm.PROBE: (401, body)}) as server,
        pytest.raises(UserError, match="bad key: …; put its key into the environment variable MY"),
    ):
        extract(job_of(tmp_path, server.url, key="MY_KEY"), "cpu")


def test_openais_own_key_is_for_openai():
    assert options_of("https://api.openai.com/v1").key_name == "OPENAI_API_KEY"
    assert options_of("https://api.openai.com.evil.org/v1").key_name is None


def test_no_server_at_all(tmp_path):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # nobody else gets the port, and nobody listens
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        with pytest.raises(
            UserError, match=r"no connection .*refused.*; start it and run the command again"
        ):
            extract(job_of(tmp_path, url), "cpu")


def test_a_server_that_dies_keeps_what_was_answered(tmp_path, monkeypatch):
    monkeypatch.setattr(llm, "COST", 6_000.0)  # a text a batch
    with Says(four=(503, {"error": {"message": "gone"}})) as server:
        job = job_of(tmp_path, server.url, ["one", "two", "three", "four"], answer="word")
        with pytest.raises(UserError, match="gone; start it and run the command again"):
            extract(job, "cpu")
    with Says() as server:
        report = extract(job_of(tmp_path, server.url, job_texts(job), answer="word"), "cpu")
    assert report.cached + report.extracted == 4
    assert report.cached >= 1


def job_texts(job: Job) -> list[str]:
    return job.manifest.frame["transcript"].to_list()


def test_a_second_try_is_made_where_a_server_is_busy(monkeypatch):
    class Busy(ChatServer):
        def reply(self, request):
            if len(self.requests) == 1:
                return 429, {"error": {"message": "slow down"}}
            return super().reply(request)

    monkeypatch.setattr(llm, "TRIES_AT_FIRST", 1)
    with Busy() as server:
        loaded(server.url)
        assert len(server.requests) == 2


def test_the_fingerprint_covers_the_question_and_not_the_server(tmp_path):
    job = job_of(tmp_path, "http://here/v1")
    spec = job.spec
    assert spec == {
        "kind": "llm",
        "model": "tiny",
        "of": "transcript",
        "classes": CLASSES,
        "version": 1,
    }
    elsewhere = job_of(tmp_path, "https://there/v1", key="OTHER", parallel=1, timeout=5)
    assert elsewhere.spec == spec
    assert job.options.weights is None
    for change in ({"model": "other"}, {"answer": "word"}, {"classes": CLASSES[::-1]}):
        assert job_of(tmp_path, "http://here/v1", **change).spec != spec


def test_the_frames_are_in_the_cache(tmp_path):
    with ChatServer() as server:
        job = job_of(tmp_path, server.url, classes=MSP_CLASSES, precision="float32")
        report = extract(job, "cpu")
        (expected,) = loaded(server.url, classes=MSP_CLASSES).extract([TEXTS[0]])
    assert (report.extracted, report.failed) == (len(TEXTS), {})
    np.testing.assert_array_equal(open_feature(job).frames("u0"), expected)
    np.testing.assert_allclose(np.exp(expected).sum(), 1, rtol=1e-6)
    assert full_spec(job)[1] is None


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"prompt": "What is {transcript}?"}, "it must contain {transcript} and {classes}"),
        ({"samples": 3}, "samples: they differ only with `answer: word` and a temperature"),
        ({"samples": 3, "answer": "word"}, "samples: they differ only"),
        ({"key": "sk-1234"}, "should match pattern"),
        ({"server": "http://me:secret@here/v1"}, "should match pattern"),
        ({"extra": {"api_key": "sk-1234"}}, "'api_key' is not allowed here"),
        ({"extra": {"seed": 1}}, "'seed' is not allowed here: it is another option, or a secret"),
        ({"classes": ["sad", "Sad"]}, "classes: one is named twice"),
        ({"server": "localhost:8000"}, "should match pattern"),
        ({"server": "http://here/v1?key=secret"}, "should match pattern"),
        ({"server": "http:///v1"}, "it must be a URL with a host"),
        ({"server": "http://here:99999/v1"}, "it must be a URL with a host"),
        ({"server": "http://[::1/v1"}, "it must be a URL with a host"),
        ({"extra": {"top_p": float("nan")}}, "extra: it holds a number|it holds a number that is"),
        ({"classes": [str(i) for i in range(21)]}, "at most 20 items"),
    ],
)
def test_invalid_questions_are_refused(said, message):
    with pytest.raises(ValidationError, match=message.replace("{", r"\{").replace("}", r"\}")):
        options_of(**{"server": "http://here/v1", **said})


class Hostile(ChatServer):
    """Answer texts that `answers` has by its functions of the request's handler."""

    request_queue_size = 64

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__()
        plain = self.RequestHandlerClass

        class Handler(plain):  # type: ignore[valid-type,misc]
            def do_POST(self) -> None:  # noqa: N802
                body = self.rfile.read(int(self.headers["Content-Length"]))
                question = json.loads(body)["messages"][0]["content"]
                values = [answer for text, answer in answers.items() if f'"{text}"' in question]
                if not values:
                    self.rfile = io.BytesIO(body)
                    return super().do_POST()
                self.close_connection = True
                with contextlib.suppress(OSError):
                    values[0](self)

        self.RequestHandlerClass = Handler


def sends(body: bytes, status: int = 200, **headers: str) -> Any:
    def answer(handler: Any) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def says(**choice: Any) -> Any:
    options = {"message": {"role": "assistant", "content": "A"}} | choice
    return sends(json.dumps({"choices": [options]}).encode())


def scores(value: str) -> Any:
    top = '{"token": "A", "logprob": -0.1}, {"token": "B", "logprob": %s}' % value  # noqa: UP031
    content = '{"message": {"content": "A"}, "logprobs": {"content": [{"top_logprobs": [%s]}]}}'
    return sends(('{"choices": [' + content % top + "]}").encode())


def trickle(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        time.sleep(0.02)


def trickle_headers(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X: y\r\n")
        time.sleep(0.02)


def endless(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65_536)


def reset(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.shutdown(socket.SHUT_RDWR)


NOT_CHAT = "UnfitError: the answer is not of the chat protocol (%s); correct `server`"
INVALID = NOT_CHAT.partition("%")[0]
HOSTILE = {
    "nan": (
        scores("NaN"),
        NOT_CHAT % "'choices.0.logprobs.content.0.top_logprobs.1.logprob' is not valid: it must "
        "be a finite number",
    ),
    "infinity": (scores("-Infinity"), INVALID),
    "null": (scores("null"), INVALID),
    "text": (scores('"-1"'), INVALID),
    "boolean": (scores("true"), INVALID),
    "above 1": (scores("5"), INVALID),
    "huge": (scores("1" + "0" * 400), INVALID),
    "no choices": (sends(b'{"choices": []}'), INVALID),
    "mapping": (sends(b'{"choices": {}}'), INVALID),
    "null choices": (sends(b'{"choices": null}'), INVALID),
    "list": (sends(b"[]"), INVALID),
    "no message": (says(message=None), INVALID),
    "parts": (says(message={"content": [{"text": "A"}]}), INVALID),
    "logprobs text": (says(logprobs="A"), INVALID),
    "no logprobs": (says(), "UnfitError: the server returns no log-probabilities; set `answer: wo"),
    "empty": (sends(b""), INVALID),
    "cut": (sends(b'{"choices": ['), INVALID),
    "deep": (sends(b"[" * 100_000), INVALID),
    "latin-1": (sends(b'{"choices": "\xe9"}', Content_Type="application/json; charset=x"), INVALID),
    "charset": (sends(b"{}", Content_Type="application/json; charset=zip_codec"), INVALID),
    "gzip": (
        sends(gzip.compress(b" " * 10**7), Content_Encoding="gzip"),
        "AnswerError: the answer is compressed, which was not requested",
    ),
    "redirect": (
        sends(b"", 302, Location="http://evil.example/v1?token=x"),
        "AnswerError: the server redirects to evil.example, which is not followed; correct `serv",
    ),
    "endless": (endless, "AnswerError: the answer is larger than 1 MiB"),
    "reset": (reset, "AnswerError: the connection broke ("),
    "no http": (lambda handler: handler.wfile.write(b"hello\r\n\r\n"), "AnswerError: the connecti"),
    "nothing": (lambda handler: None, "AnswerError: the connection broke ("),
    "refused": (
        sends(b'{"error": {"message": "a\\u001b[31m"}}', 400),
        "UnfitError: the server refuses the request (a?[31m)",
    ),
}


def test_a_hostile_answer_costs_its_own_text_alone(tmp_path):
    texts = ["good", *HOSTILE, "better"]
    with Hostile({text: answer for text, (answer, _) in HOSTILE.items()}) as server:
        job = job_of(tmp_path, server.url, texts)
        report = extract(job, "cpu")
        expected = loaded(server.url).extract(["good", "better"])
    for i, (_, message) in enumerate(HOSTILE.values(), 1):
        assert report.failed[f"u{i}"].startswith(message)
        assert len(report.failed[f"u{i}"]) < 300
    assert (report.extracted, len(report.failed)) == (2, len(HOSTILE))
    cache = open_feature(job)
    for utterance, frames in zip(("u0", f"u{len(texts) - 1}"), expected, strict=True):
        np.testing.assert_allclose(cache.frames(utterance), frames, atol=1e-2)


def test_an_answer_that_trickles_in_is_given_up():
    with Hostile({"body": trickle, "headers": trickle_headers}) as server:
        failures = loaded(server.url, timeout=1).extract(["body", "headers"])
    assert [str(failure) for failure in failures] == ["no whole answer within 1 s"] * 2


def test_neither_text_nor_key_follows_a_redirect(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    with (
        ChatServer() as other,
        Hostile({"bad": sends(b"", 307, Location=f"{other.url}/chat/completions")}) as server,
    ):
        (failure,) = loaded(server.url, key="MY_KEY").extract(["bad"])
        assert isinstance(failure, ValueError)
        assert other.requests == []


def test_a_broken_connection_is_tried_again(monkeypatch):
    monkeypatch.setattr(llm, "TRIES", 1)
    times = []

    def once(handler: Any) -> None:
        times.append(1)
        (reset if len(times) == 1 else scores("-3.5"))(handler)

    with Hostile({"bad": once}) as server:
        (frames,) = loaded(server.url).extract(["bad"])
    assert len(times) == 2
    assert frames.shape == (1, 3)


def test_a_key_of_odd_characters_is_refused(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sec\nret")
    with pytest.raises(UserError, match="MY_KEY holds characters that no key has; set it again"):
        loaded("http://127.0.0.1:9/v1", key="MY_KEY")
