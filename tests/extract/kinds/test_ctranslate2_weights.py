import struct

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from ser.extract.kinds.ctranslate2_weights import (
    encoder_layers,
    read_variables,
    read_whisper_encoder,
)
from tests.extract.factories import ctranslate2_whisper, tiny_whisper


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(("dtype", "bits"), [(None, 23), ("float16", 10), ("bfloat16", 7)])
def test_the_encoder_is_that_of_the_model(dtype, bits, trained):
    """Equal but for the rounding of the type; `bits` of a mantissa."""
    model = WhisperForConditionalGeneration.from_pretrained(tiny_whisper()).model.encoder
    encoder = read_whisper_encoder(ctranslate2_whisper(dtype), trained)
    assert encoder_layers(ctranslate2_whisper(dtype)) == model.config.encoder_layers == 2
    expected, weights = model.state_dict(), encoder.state_dict()
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, expected[name], rtol=2.0**-bits, atol=1e-7)


def test_quantized_weights_are_refused():
    with pytest.raises(ValueError, match=r"^model.bin is quantized; use weights of float16"):
        read_whisper_encoder(ctranslate2_whisper("int8"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data[:-1], "model.bin is truncated"),
        (lambda data: data + b"x", "model.bin has bytes left over"),
        (lambda data: data[: len(data) // 2], "model.bin: the sizes of "),
        (lambda data: b"", "model.bin is truncated"),
        (lambda data: b"\5" + data[1:], "model.bin is not a CTranslate2 model of version 6"),
        (lambda data: data.replace(b"encoder/conv1/w", b"encoder/conv9/w"), "model.bin does not"),
        (lambda data: data.replace(b"encoder/num_heads", b"encoder/num_hands"), "model.bin does"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, problem):
    data = (ctranslate2_whisper(None) / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(change(data))
    with pytest.raises(ValueError) as error:
        read_whisper_encoder(tmp_path)
    assert str(error.value).startswith(problem)


def test_a_model_without_attention_heads_is_refused(tmp_path):
    data = bytearray((ctranslate2_whisper(None) / "model.bin").read_bytes())
    with (ctranslate2_whisper(None) / "model.bin").open("rb") as file:
        at = read_variables(file, len(data))["encoder/num_heads"].offset
    data[at : at + 2] = bytes(2)
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"^model.bin does not hold the encoder of a Whisper"):
        read_whisper_encoder(tmp_path)


def test_an_alias_of_nothing_is_refused(tmp_path):
    file = tmp_path / "model.bin"
    text = struct.pack("<H1sx", 2, b"a")
    file.write_bytes(
        struct.pack("<I", 6) + text + struct.pack("<II", 1, 0) + struct.pack("<I", 1) + text * 2
    )
    with file.open("rb") as opened, pytest.raises(ValueError, match=r"'a' is an alias of nothing$"):
        read_variables(opened, file.stat().st_size)
