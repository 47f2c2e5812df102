"""Checks of each member of a bundle, before any library reads it.

A bundle comes from somebody else. Its pipeline may run, read and fetch nothing, its card is plain
text, and a model in it may ask for no more memory than its own weights account for.
"""

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import yaml

from ser.cache.json_file import parse_object
from ser.corpus.bounded_yaml import CONTROL, parse_yaml
from ser.corpus.errors import DamagedError, UserError
from ser.extract.kinds.ctranslate2_weights import read_variables

NO_PICKLE = re.compile(rb"\x80|PK")  # the first bytes of a file of torch.save, never of CTranslate2
ELSEWHERE = re.compile(r"[/\\~]|[A-Za-z]:[/\\]|\w+://|(.*[/\\])?\.\.([/\\]|\Z)")
MODEL = re.compile(r"\w[\w.-]{0,99}(/\w[\w.-]{0,99})?", re.ASCII)  # a short name, or a hub id
CONFIG = 1 << 20  # bytes of a model's config.json
TOKENIZER = 1 << 26  # bytes of any other text of a model
HEADER = 1 << 24  # bytes of the header of a safetensors file
LARGEST_INTEGER = 1 << 31
MOST_LAYERS = 1000
PREPROCESSOR = {"chunk_length": 100, "feature_size": 1024, "n_fft": 1 << 14, "hop_length": 1 << 14}
WIDTHS = ("hidden_size", "d_model", "dim", "n_embd", "embed_dim", "classifier_proj_size")
INNER = ("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "n_inner")
ROWS = ("vocab_size", "type_vocab_size", "num_codevectors_per_group", "xvector_output_dim")
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
DTYPES |= {"U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8}


def pipeline_problem(text: bytes) -> str | None:
    """Return why a bundle may not have this pipeline.yaml, None if it may.

    It must be bounded plain data without aliases, variables, plugins, addresses or paths that lead
    out of the bundle.
    """
    try:
        value = parse_yaml("it", text).value
        aliases = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text.decode()))
    except (UserError, yaml.YAMLError, ValueError, RecursionError):
        return "is not valid YAML"
    strings = [part for part in _parts(value) if isinstance(part, str)]
    if aliases or any("${" in string for string in strings):
        return "has aliases or variables"
    if isinstance(value, dict) and "plugins" in value:
        return "names plugins, and a bundle may not run code"
    outside = next((string for string in strings if ELSEWHERE.match(string)), None)
    return None if outside is None else f"leads out of the bundle ({outside[:60]!r})"


def _parts(value: object) -> Iterator[object]:
    """Yield plain data, and every key and value in it."""
    yield value
    if isinstance(value, dict):
        value = list(chain.from_iterable(value.items()))
    for inner in value if isinstance(value, list) else ():
        yield from _parts(inner)


def card_problem(text: bytes) -> str | None:
    """Return why a bundle may not have this card.md, None if it may."""
    try:
        control = CONTROL.search(text.decode())
    except UnicodeDecodeError:
        return "is not UTF-8"
    return "has control characters" if control else None


def model_problem(file: Path) -> str | None:
    """Return why a bundle may not have this file of a model, None if it may."""
    size = file.stat().st_size
    if file.name == "model.bin":
        return _binary_problem(file, size)
    if file.suffix == ".safetensors":
        return tensors_problem(file)
    if size > (CONFIG if file.name.endswith("config.json") else TOKENIZER):
        return f"is too large ({size} bytes)"
    if file.name.endswith("config.json"):
        return _config_problem(file)
    return None


def _binary_problem(file: Path, size: int) -> str | None:
    with file.open("rb") as opened:
        if NO_PICKLE.match(opened.read(2)):
            return "is pickled, and nothing in a bundle is ever unpickled"
        opened.seek(0)
        try:
            read_variables(opened, size)
        except ValueError:
            return "is not a CTranslate2 model of version 6, or is truncated"
    return None


def _config_problem(file: Path) -> str | None:
    try:
        config = json.loads(file.read_bytes())  # a tokenizer's has integers of 100 bits
        if '"auto_map"' in json.dumps(config):
            return "needs code of its own (auto_map), and a bundle may not run code"
    except (ValueError, RecursionError):
        return "is not valid JSON"
    if not isinstance(config, dict):
        return "is not valid JSON"
    most = PREPROCESSOR if file.name == "preprocessor_config.json" else {}
    if any(isinstance(n := config.get(key, 0), int) and n > most[key] for key in most):
        return "has an impossible size"
    return _size_problem(file, config) if file.name == "config.json" else None


def _size_problem(file: Path, config: Mapping[str, object]) -> str | None:
    """Return which size in a model's config is out of proportion to its weights, None for none."""
    weights = sum(
        path.stat().st_size
        for path in file.parent.iterdir()
        if path.suffix == ".safetensors" or path.name == "model.bin"
    )
    # Models share layers, and tests have tiny ones: only what is out of all proportion is refused.
    most = 64 * weights + 10_000_000
    for part in _parts(config):
        if not isinstance(part, dict):
            continue
        for key, value in part.items():
            if isinstance(value, int) and not -LARGEST_INTEGER < value < LARGEST_INTEGER:
                return f"has an impossible size ('{key[:40]}')"
            if "layer" in key and isinstance(value, int) and abs(value) > MOST_LAYERS:
                return f"has an impossible size ('{key[:40]}')"
        if _parameters(part) > most:
            return f"describes a model far larger than its weights ({weights} bytes)"
    return None


def _parameters(config: Mapping[str, object]) -> int:
    """Return a lower bound of the parameters that a config describes."""

    def largest(*names: str) -> int:
        return max([abs(v) for n in names if isinstance(v := config.get(n), int)], default=0)

    sizes = [v for n, v in config.items() if isinstance(v, int) and n.endswith(("_size", "_dim"))]
    width = largest(*WIDTHS)
    layers = max([abs(v) for k, v in config.items() if "layers" in k and isinstance(v, int)] or [0])
    layer = width * (width + largest(*INNER))
    tables = width * largest(*ROWS)
    widths = config.get("conv_dim")
    convolutions = 0
    if isinstance(widths, list) and all(isinstance(w, int) for w in widths):
        convolutions = sum(abs(a * b) for a, b in pairwise(widths))
    return max(layers, 1) * layer + tables + convolutions + max(map(abs, sizes), default=0)


def tensors_problem(file: Path) -> str | None:
    """Return what is wrong with the header of a safetensors file, None for nothing."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(HEADER, size - 8):
            return "is not a safetensors file, or is truncated"
        try:
            header = parse_object(file, opened.read(length), "")
        except DamagedError:
            return "is not a safetensors file, or is truncated"
    header.pop("__metadata__", None)
    spans = []
    for name, entry in header.items():
        span = _span(entry)
        if span is None:
            return f"states an impossible tensor ({name[:60]!r})"
        spans.append(span)
    ends = [0, *(end for _, end in sorted(spans))]
    if [begin for begin, _ in sorted(spans)] != ends[:-1] or ends[-1] != size - 8 - length:
        return "has tensors that overlap, or bytes outside them"
    return None


def _span(entry: Any) -> tuple[int, int] | None:
    """Return the range of a tensor's bytes; None where the entry contradicts itself."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        counts = [*shape, begin, end]
        if not all(type(n) is int and 0 <= n < 1 << 48 for n in counts) or len(shape) > 16:
            return None
        return (begin, end) if math.prod(shape) * DTYPES[dtype] == end - begin else None
    except (KeyError, TypeError, ValueError):
        return None
