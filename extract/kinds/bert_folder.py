"""The files of a BERT that can be run without transformers: those of MiniLM, for example."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ser.extract.encoding import json_object

PREFIX = "bert."  # of the names in a file with a task's layers, such as masked words
LONGEST = 64 << 20  # bytes of a JSON file
SIZE = Field(gt=0, le=1 << 20)


class BertConfig(BaseModel):
    """The config.json of a BERT, as far as it decides the numbers; other models are not valid."""

    model_config = ConfigDict(frozen=True)

    model_type: Literal["bert"]
    hidden_act: Literal["gelu"] = "gelu"
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False
    vocab_size: int = SIZE
    type_vocab_size: int = SIZE
    max_position_embeddings: int = SIZE
    hidden_size: int = SIZE
    intermediate_size: int = SIZE
    num_hidden_layers: int = Field(gt=0, le=1000)
    num_attention_heads: int = SIZE
    layer_norm_eps: float = Field(1e-12, ge=0, lt=1)


@dataclass(frozen=True)
class BertFolder:
    """A folder with a BERT: its config, and the tokens that the tokenizer allows."""

    folder: Path
    config: BertConfig
    longest: int


def read_bert(folder: Path) -> BertFolder | None:
    """Return the BERT in a folder; None for another model, or files that transformers must read."""
    tokenizer, options = folder / "tokenizer.json", _read(folder / "tokenizer_config.json")
    if not (tokenizer.is_file() and (folder / "model.safetensors").is_file()):
        return None
    try:
        config = BertConfig.model_validate(_read(folder / "config.json"))
    except ValidationError:
        return None
    normalizer = _read(tokenizer).get("normalizer")
    # transformers gives tokenizer_config.json precedence
    same = {"do_lower_case": "lowercase", "strip_accents": "strip_accents"}
    same |= {"tokenize_chinese_chars": "handle_chinese_chars"}
    agrees = isinstance(normalizer, dict) and all(
        options.get(theirs, normalizer.get(ours)) == normalizer.get(ours)
        for theirs, ours in same.items()
    )
    longest = options.get("model_max_length")
    if not agrees or not _has_present_names(folder) or not isinstance(longest, int) or longest < 2:
        return None
    return BertFolder(folder, config, longest)


def _has_present_names(folder: Path) -> bool:
    """Return whether the file has the names that transformers writes: older ones had `gamma`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "model.safetensors", "np") as file:
            names = {name.removeprefix(PREFIX) for name in file.keys()}  # noqa: SIM118  no mapping
    except (OSError, SafetensorError):
        return False
    return "embeddings.LayerNorm.weight" in names


def _read(path: Path) -> dict[str, object]:
    return json_object(path, LONGEST) or {}
