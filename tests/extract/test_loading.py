"""Weights that lack a tensor which is used are refused, as it would be random."""

import re

import pytest
from safetensors.torch import load_file, save_file

from ser.corpus.errors import UserError
from ser.extract.extractor import build_extractor, parse_options
from ser.extract.models import resolve
from ser.extract.testing import TEXTS
from ser.synthetic.models import tiny_model

OF_THE_ENCODER, OF_THE_DECODER = (
    f"model.{part}.layer_norm.bias" for part in ("encoder", "decoder")
)
NORM, POOLER = "embeddings.LayerNorm.bias", "pooler.dense.bias"


def load_without(tensor, folder, kind, model):
    """Load a tiny model whose file lacks a tensor."""
    folder = tiny_model(kind, model, folder, TEXTS)
    tensors = load_file(folder / "model.safetensors")
    del tensors[tensor]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    entry = {"kind": kind, "model": str(folder)} | ({"of": "transcript"} if kind == "text" else {})
    build_extractor(parse_options(entry), resolve(str(folder))).load("cpu")


@pytest.mark.parametrize(
    ("kind", "model", "tensor"),
    [
        ("whisper", "openai/whisper-tiny", OF_THE_ENCODER),
        ("asr", "openai/whisper-tiny", OF_THE_DECODER),
        ("text", "roberta", NORM),
    ],
)
def test_a_tensor_that_is_missing_is_named(kind, model, tensor, tmp_path):
    with pytest.raises(UserError, match=f"its weights lack {re.escape(tensor)}, which would"):
        load_without(tensor, tmp_path, kind, model)


@pytest.mark.parametrize(
    ("kind", "model", "tensor"),
    [("whisper", "openai/whisper-tiny", OF_THE_DECODER), ("text", "roberta", POOLER)],
)
def test_what_frames_do_not_need_may_be_missing(kind, model, tensor, tmp_path):
    load_without(tensor, tmp_path, kind, model)
