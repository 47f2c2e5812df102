"""A clip is sent as audio, and the answer becomes log-probabilities; reasoning is left out."""

import base64
import io
from typing import Any

import numpy as np
import pytest
import soundfile

from ser.corpus.errors import UserError
from ser.extract.extractor import Extractor, parse_options
from ser.extract.kinds.audio_llm import AudioLLM
from ser.extract.testing import ExtractorConformance, clip
from ser.synthetic.server import ChatServer, completion

CLASSES = ("angry", "sad", "neutral")
pytest.importorskip("httpcore")
pytestmark = pytest.mark.usefixtures("no_waiting")


def loaded(server: str, **options: Any) -> AudioLLM:
    entry = {"kind": "audio_llm", "server": server, "model": "tiny", "classes": CLASSES}
    extractor = AudioLLM(parse_options(entry | options))
    extractor.load("cpu")
    return extractor


class Says(ChatServer):
    """Answer with a text and why it ended, by the number of the sample."""

    def __init__(self, *answers: tuple[str, str]) -> None:
        super().__init__()
        self.answers = answers

    def reply(self, request: dict[str, Any]) -> Any:
        text, end = self.answers[request["seed"] - 7]
        body: Any = completion(request, text)
        body["choices"][0]["finish_reason"] = end
        return 200, body


@pytest.mark.usefixtures("server")
class TestAudioLLM(ExtractorConformance):
    layered = False

    @pytest.fixture(autouse=True)
    def _serve(self, server):
        self.url = server.url

    def make(self, **options: Any) -> Extractor:
        return loaded(self.url, **options)


def test_the_request_has_the_clip_and_the_question():
    wave = clip(0.5)
    with ChatServer() as server:
        loaded(server.url).extract([wave])
        _, request = server.requests
    audio, text = request["messages"][0]["content"]
    assert text == {
        "type": "text",
        "text": "Which of these emotions does the voice sound like most?\n"
        "A. angry\nB. sad\nC. neutral\nAnswer with one letter and nothing else.",
    }
    assert (audio["type"], audio["input_audio"]["format"]) == ("input_audio", "wav")
    sent = io.BytesIO(base64.b64decode(audio["input_audio"]["data"]))
    assert soundfile.info(sent).subtype == "PCM_16"
    sent.seek(0)
    samples, rate = soundfile.read(sent, dtype="float32")
    assert rate == 16_000
    np.testing.assert_allclose(samples, wave, atol=1e-4)
    assert (request["max_tokens"], request["logprobs"]) == (1, True)


def test_a_long_clip_is_not_sent_and_fails_alone():
    with ChatServer() as server:
        long, short = loaded(server.url, longest=1.0).extract([clip(1.5), clip(0.5)])
        assert len(server.requests) == 2  # the test request, and the short clip
    assert str(long).startswith("it is 1.5 s long, and clips over 1 s are not scored; raise")
    assert short.shape == (1, 3)


def test_answers_are_counted_behind_the_reasoning():
    answers = [
        ("<think>Not sad, nor neutral.</think> Angry.", "stop"),
        ("sad, I think, or neutral</think>angry", "stop"),  # the template began the reasoning
        ("sad", "length"),  # reasoning that is cut off
        ("<think>sad", "stop"),
    ]
    with Says(*answers) as server:
        options = {"answer": "word", "samples": 4, "temperature": 1.0, "reasoning": 100}
        (frames,) = loaded(server.url, **options).extract([clip(0.5)])
        assert {request["max_tokens"] for request in server.requests} == {116}
    # two votes, and one that is spread over the classes
    np.testing.assert_allclose(np.exp(frames[0]), np.array([2 + 1 / 3, 1 / 3, 1 / 3]) / 3)


@pytest.mark.parametrize("answer", [("angry or", "length"), ("<think>it is sad", "stop")])
def test_reasoning_without_an_end_is_a_reason(answer):
    with Says(answer) as server:
        options = {"answer": "word", "reasoning": 10}
        (error,) = loaded(server.url, **options).extract([clip(0.5)])
    assert str(error) == "the reasoning does not end within 26 tokens; raise `reasoning`"


def test_a_letter_cannot_follow_reasoning():
    with pytest.raises((UserError, ValueError), match="reasoning: the first token is no letter"):
        loaded("http://localhost:1/v1", reasoning=10)
