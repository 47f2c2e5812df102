"""Damaged weights of the models that are modules of our own, and of others."""

import pytest

from ser.corpus.errors import UserError
from ser.extract.extractor import build_extractor, parse_options
from ser.extract.kinds.dasheng_model import load_dasheng
from ser.extract.kinds.spear_model import load_spear
from ser.extract.models import resolve
from ser.extract.testing import TEXTS
from ser.synthetic.encoders import write_encoder
from ser.synthetic.models import tiny_model


@pytest.mark.parametrize(("name", "load"), [("dasheng", load_dasheng), ("spear", load_spear)])
@pytest.mark.parametrize("size", [0, 4, 1000, 20_000])
def test_a_file_that_was_cut_short_is_one_sentence(tmp_path, name, load, size):
    write_encoder(name, tmp_path, layers=3)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"model\.safetensors: (these are not|it cannot be read)"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("kind", "model"), [("whisper", "openai/whisper-tiny"), ("text", "roberta")]
)
def test_so_is_one_of_the_models_of_transformers(tmp_path, kind, model):
    folder = tiny_model(kind, model, tmp_path, TEXTS)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    entry = {"kind": kind, "model": str(folder)} | ({"of": "transcript"} if kind == "text" else {})
    with pytest.raises(UserError, match=r"it cannot be loaded .*; get the model again"):
        build_extractor(parse_options(entry), resolve(str(folder))).load("cpu")
