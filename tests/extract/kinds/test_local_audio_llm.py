"""Scores of a local model are the log-probabilities of its answers, exact and for any batch."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser.corpus.errors import UserError
from ser.extract.extractor import SAMPLE_RATE, Extractor, parse_options
from ser.extract.kinds.local_audio_llm import MODELS
from ser.extract.testing import ExtractorConformance, clip
from tests.extract.factories import made, new_folder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
CLASSES = ("angry", "sad", "very sad")
ALIKE = {"qwen3_omni_moe"}  # run by the same code as another row
NAMES = [pytest.param(n, marks=pytest.mark.slow if n in ALIKE else ()) for n in MODELS]
TEXTS = ["Which of these emotions does the voice sound like most? A. B. C. sad angry very"] * 3


@cache
def tiny(model_type: str) -> Path:
    from ser.synthetic.audio_llms import write_audio_llm

    torch.manual_seed(0)
    folder = new_folder(f"audio-llm-{model_type}")
    write_audio_llm(model_type, folder, TEXTS)
    return folder


def loaded(model_type: str, **options: Any) -> Any:
    return made("local_audio_llm", tiny(model_type), classes=CLASSES, **options)


class TestLocalAudioLLM(ExtractorConformance):
    layered = False
    test_bad_clip_harms_no_neighbour = None  # type: ignore[assignment]  # of the loop

    @pytest.fixture(autouse=True, scope="class", params=NAMES)
    @classmethod
    def _model(cls, request: Any) -> None:
        cls.row = request.param  # type: ignore[attr-defined]

    def make(self, **options: Any) -> Extractor:
        return loaded(self.row, **options)  # type: ignore[attr-defined]


PROMPTS = {  # what is around a question
    "qwen2_audio": ("<audio>", "<s>"),
    "audioflamingo3": ("<audio>", "<s>"),
    "qwen2_5_omni": ("<audio_on><audio><audio_off>", "<s>"),
    "qwen3_omni_moe": ("<audio_on><audio><audio_off>", "<s>"),
    "voxtral": ("<s>[INST][BEGIN_AUDIO][AUDIO]", "[/INST]"),
    "granite_speech": ("<s>user <|audio|>", "</s>"),
}


def forward(model_type: str, question: str, answer: str, wave: np.ndarray) -> Any:
    """Return log-probabilities of all tokens `(tokens, vocabulary)`, and the tokens."""
    from ser.extract.kinds.audio_processors import load_processor
    from ser.extract.kinds.speech_models import class_of

    omni = "_thinker" if "omni" in model_type else ""
    processor = load_processor("m", f"{model_type}{omni}", tiny(model_type))
    before, behind = PROMPTS[model_type]
    inputs = processor(
        text=[f"{before}{question}{behind}{answer}"],
        audio=[wave],
        sampling_rate=SAMPLE_RATE,
        return_tensors="pt",
    )
    cls = class_of(MODELS[model_type][0])
    with torch.inference_mode():
        logits = cls.from_pretrained(tiny(model_type)).eval()(**inputs).logits[0]
    return logits.log_softmax(-1), inputs["input_ids"][0], processor.tokenizer


def log_softmax(scores: list[float]) -> np.ndarray:
    return np.array(scores) - np.logaddexp.reduce(scores)


def single_tokens(tokenizer: Any, letter: str) -> list[int]:
    """Return the tokens of a letter: also of one with a space, which is not one of Voxtral's."""
    encoded = [tokenizer.encode(text) for text in (letter, f" {letter}")]
    return [tokens[0] for tokens in encoded if len(tokens) == 1]


@pytest.mark.parametrize("model_type", NAMES)
def test_letters_are_scored_as_the_next_token(model_type: str) -> None:
    question = (
        "Which of these emotions does the voice sound like most?\n"
        "A. angry\nB. sad\nC. very sad\nAnswer with one letter and nothing else."
    )
    scores, _, tokenizer = forward(model_type, question, "", clip(0.5))
    tokens = [single_tokens(tokenizer, letter) for letter in "ABC"]
    expected = log_softmax([float(scores[-1, pair].logsumexp(0)) for pair in tokens])
    (frames,) = loaded(model_type).extract([clip(0.5)])
    np.testing.assert_allclose(frames[0], expected, atol=1e-5)


@pytest.mark.parametrize("model_type", NAMES)
def test_names_are_scored_token_by_token_with_their_end(model_type: str) -> None:
    question = "Voice? angry, sad, very sad"
    expected = []
    for name in CLASSES:
        scores, tokens, tokenizer = forward(model_type, question, f"{name}</s>", clip(0.5))
        count = len(tokenizer.encode(name)) + 1
        own = scores[-count - 1 : -1].gather(1, tokens[-count:, None])
        expected.append(float(own.sum()))
    extractor = loaded(model_type, prompt="Voice? {classes}", answer="word")
    (frames,) = extractor.extract([clip(0.5)])
    np.testing.assert_allclose(frames[0], log_softmax(expected), atol=1e-5)


def test_classes_are_scored_behind_the_reasoning(monkeypatch: pytest.MonkeyPatch) -> None:
    question = "Voice?\nA. angry\nB. sad\nC. very sad"
    extractor = loaded("qwen2_audio", prompt="Voice?\n{classes}", reasoning=8)
    written = "angry sad</think>"
    scores, _, tokenizer = forward("qwen2_audio", question, written, clip(0.5))
    tokens = [tokenizer.encode(letter) + tokenizer.encode(f" {letter}") for letter in "ABC"]
    expected = log_softmax([float(scores[-1, pair].logsumexp(0)) for pair in tokens])

    def generate(**inputs: Any) -> Any:
        assert inputs["max_new_tokens"] == 8
        return torch.cat([inputs["input_ids"], torch.tensor([tokenizer.encode(written)])], 1)

    monkeypatch.setattr(extractor._scorer._model, "generate", generate)
    (frames,) = extractor.extract([clip(0.5)])
    np.testing.assert_allclose(frames[0], expected, atol=1e-5)


def test_reasoning_without_an_end_is_a_reason() -> None:
    (error,) = loaded("qwen2_audio", reasoning=3).extract([clip(0.5)])
    assert str(error) == "the reasoning does not end within 3 tokens; raise `reasoning`"


def test_a_long_clip_fails_alone() -> None:
    long, short = loaded("qwen2_audio", longest=1.0).extract([clip(1.5), clip(0.5)])
    assert str(long).startswith("it is 1.5 s long, and clips over 1 s are not scored; raise")
    assert isinstance(short, np.ndarray)


def test_a_longer_clip_than_the_model_takes_is_no_option() -> None:
    with pytest.raises(ValueError, match=r"^longest: .* takes at most 30 s$"):
        loaded("qwen2_audio", longest=60.0)


def test_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gemma3n"}')
    with pytest.raises(UserError) as error:
        made("local_audio_llm", tmp_path, classes=CLASSES)
    assert str(error.value) == (
        f"{tmp_path}: a gemma3n model cannot be run by `kind: local_audio_llm`, only those of type "
        "qwen2_audio, audioflamingo3, qwen2_5_omni, qwen3_omni_moe, voxtral, granite_speech; serve "
        "it and use `kind: audio_llm`."
    )
    (tmp_path / "config.json").write_text('{"model_type": null}')
    with pytest.raises(UserError, match=r": its config\.json names no model type; "):
        made("local_audio_llm", tmp_path, classes=CLASSES)


def test_a_class_is_named_once() -> None:
    entry = {"kind": "local_audio_llm", "model": "m", "classes": ["sad", "Sad"]}
    with pytest.raises(ValueError, match="classes: one is named twice"):
        parse_options(entry)
