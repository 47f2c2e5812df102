"""The weights in CTranslate2's model.bin as arrays, and Whisper's encoder as a torch module.

CTranslate2 runs an encoder as a whole and gives its last layer only; of a torch module every layer
can be read. The file, in little endian (a text is its length with a zero, and bytes):

    version, text of the kind, revision
    count, variables: text, rank, shape, type, bytes, data
    count, aliases: two texts each

CTranslate2 itself trusts whatever is stated; here every length is compared with the file's.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

VERSION = 6
# of `ctranslate2::DataType`: float32, int8, int16, int32, float16, bfloat16
TYPES = ("<f4", "i1", "<i2", "<i4", "<f2", "<u2")
BFLOAT16 = 5
# a whole Whisper around the encoder has no decoder to speak of
NO_DECODER: dict[str, Any] = {"decoder_layers": 0, "vocab_size": 1, "max_target_positions": 1}
NO_DECODER |= {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "decoder_start")}
MODULES = {  # of a layer, here and in transformers
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
SIDE, LAYER = "encoder/", "/ffn/linear_0/weight"  # what each layer has once


@dataclass(frozen=True)
class Variable:
    """An array of the file: where it is, and in which type; `kind` is an index of `TYPES`."""

    shape: tuple[int, ...]
    kind: int
    offset: int


def read_variables(file: IO[bytes], size: int) -> dict[str, Variable]:
    """Read the headers of all variables in a model.bin of `size` bytes, by name and alias.

    Raises `ValueError` for another version, and where the stated sizes do not add up to the file's.
    """

    def data(length: int) -> bytes:
        content = file.read(length)
        if len(content) < length:
            raise ValueError("model.bin is truncated")
        return content

    def read(form: str) -> tuple[int, ...]:
        return struct.unpack(f"<{form}", data(struct.calcsize(f"<{form}")))

    def text() -> str:
        (length,) = read("H")
        return data(length)[:-1].decode("utf-8", errors="replace")

    (version,) = read("I")
    if version != VERSION:
        raise ValueError(f"model.bin is not a CTranslate2 model of version {VERSION}")
    text()
    _, count = read("II")
    variables = {}
    for _ in range(count):
        name = text()
        shape = read(f"{read('B')[0]}I")
        kind, length = read("BI")
        width = np.dtype(TYPES[kind]).itemsize if kind < len(TYPES) else 0
        offset = file.tell()
        if math.prod(shape) * width != length or offset + length > size:
            raise ValueError(f"model.bin: the sizes of '{name[:80]}' do not fit the file")
        variables[name] = Variable(shape, kind, offset)
        file.seek(offset + length)
    (aliases,) = read("I")  # equal arrays are stored once
    for _ in range(aliases):
        alias, name = text(), text()
        if name not in variables:
            raise ValueError(f"model.bin: '{alias[:80]}' is an alias of nothing")
        variables[alias] = variables[name]
    if file.tell() != size:
        raise ValueError("model.bin has bytes left over")
    return variables


def encoder_layers(folder: Path) -> int:
    """Count the encoder's layers from the headers in model.bin; raises `ValueError`."""
    path = folder / "model.bin"
    with path.open("rb") as file:
        variables = read_variables(file, path.stat().st_size)
    return sum(name.startswith(SIDE) and name.endswith(LAYER) for name in variables)


def read_whisper_encoder(folder: Path, trained: bool = False) -> "torch.nn.Module":
    """Load the encoder of a CTranslate2 Whisper, in float32.

    It is a `WhisperLayers`, or where it will be `trained` Transformers' `WhisperEncoder`, of the
    same states. Raises `ValueError` for weights that are quantized to integers, or are not those of
    a Whisper.
    """
    import torch

    from ser.extract.kinds.whisper_layers import WhisperLayers

    arrays = _arrays(folder / "model.bin")
    try:
        layers = sum(name.endswith(LAYER) for name in arrays)
        state = dict(_state(arrays, layers))
        width, bands, _ = state["conv1.weight"].shape
        sizes: dict[str, Any] = {
            "d_model": width,
            "num_mel_bins": bands,
            "max_source_positions": len(state["embed_positions.weight"]),
            "encoder_layers": layers,
            "encoder_attention_heads": int(arrays["num_heads"]),
            "encoder_ffn_dim": len(state["layers.0.fc1.weight"]),
        }
        with torch.device("meta"):
            encoder = _transformers_encoder(sizes) if trained else WhisperLayers(sizes)
        # copies, as the file has equal arrays once and training changes each on its own
        tensors = {name: torch.tensor(array) for name, array in state.items()}
        encoder.load_state_dict(tensors, assign=True)
    except (KeyError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError("model.bin does not hold the encoder of a Whisper model") from error
    return encoder.eval()


def _transformers_encoder(sizes: dict[str, Any]) -> "torch.nn.Module":
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    encoder: torch.nn.Module = WhisperEncoder(WhisperConfig(**sizes, **NO_DECODER))
    return encoder


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the encoder's variables, by name below `encoder/`: weights as float32."""
    arrays, by_offset = {}, dict[int, np.ndarray]()  # an array with several names is read once
    with path.open("rb") as file:
        for full, variable in read_variables(file, path.stat().st_size).items():
            if not full.startswith(SIDE):
                continue
            name = full.removeprefix(SIDE)
            if name.endswith("/weight_scale"):
                raise ValueError("model.bin is quantized; use weights of float16 or float32")
            if variable.offset not in by_offset:
                by_offset[variable.offset] = _array(file, variable)
            arrays[name] = by_offset[variable.offset]
    return arrays


def _array(file: IO[bytes], variable: Variable) -> np.ndarray:
    file.seek(variable.offset)
    array = np.fromfile(file, TYPES[variable.kind], math.prod(variable.shape))
    if variable.kind == BFLOAT16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    return array.reshape(variable.shape)


def _state(arrays: dict[str, np.ndarray], layers: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the state dict of Transformers' encoder; queries, keys and values are one matrix here.

    Whisper's keys have no bias, for which CTranslate2 stores zeros.
    """
    yield "embed_positions.weight", arrays["position_encodings/encodings"]
    copies = [(name, name) for name in ("conv1", "conv2", "layer_norm")]
    for i in range(layers):
        old, new = f"layer_{i}", f"layers.{i}"
        copies += [(f"{old}/{theirs}", f"{new}.{ours}") for theirs, ours in MODULES.items()]
        for kind in ("weight", "bias"):
            thirds = np.split(arrays[f"{old}/self_attention/linear_0/{kind}"], 3)
            for projection, third in zip(("q_proj", "k_proj", "v_proj"), thirds, strict=True):
                if (projection, kind) != ("k_proj", "bias"):
                    yield f"{new}.self_attn.{projection}.{kind}", np.ascontiguousarray(third)
    for old, new in copies:
        weight, bias = ("gamma", "beta") if new.endswith("norm") else ("weight", "bias")
        yield f"{new}.weight", arrays[f"{old}/{weight}"]
        yield f"{new}.bias", arrays[f"{old}/{bias}"]
