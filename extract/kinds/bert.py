"""BERT as a torch module of our own, and its tokenizer by the library `tokenizers` alone.

Parameters have the names, and the operations the order, of transformers' `BertModel`: states are
the same to the last bit, without the three seconds that importing transformers takes. It is for
frames only; what is trained and saved is transformers' class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from ser.corpus.errors import UserError
from ser.extract.encoding import json_object
from ser.extract.kinds.own_model import OwnModel
from ser.extract.kinds.text import TextOptions
from ser.extract.kinds.token_windows import TokenEncoder
from ser.extract.layers import choose, item_shape

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
    try:
        with safe_open(folder / "model.safetensors", "np") as file:
            names = {name.removeprefix(PREFIX) for name in file.keys()}  # noqa: SIM118  no mapping
    except (OSError, SafetensorError):
        return False
    return "embeddings.LayerNorm.weight" in names


def _read(path: Path) -> dict[str, object]:
    return json_object(path, LONGEST) or {}


class BertEncoder(TokenEncoder):
    """A BERT and its tokenizer."""

    def __init__(self, options: TextOptions, source: BertFolder, dtype: torch.dtype) -> None:
        super().__init__()
        self.options = options
        self.model = read_model(source).to(dtype)
        config = source.config
        self.use_tokenizer(WordPieces(source), config.max_position_embeddings, source.folder)
        self.layers = config.num_hidden_layers
        self.item_shape = item_shape(self.layers + 1, config.hidden_size, options.layer)

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames of the configured layers."""
        return choose(self.model(inputs, None if mask.all() else mask), self.options.layer)


class WordPieces:
    """The tokenizer of a folder, called as transformers' are."""

    is_fast = True

    def __init__(self, source: BertFolder) -> None:
        self._tokenizer = Tokenizer.from_file(str(source.folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self.model_max_length = source.longest
        self.pad_token_id = self._tokenizer.token_to_id("[PAD]") or 0
        self._longest = 0

    def __call__(
        self,
        texts: Sequence[str],
        *,
        max_length: int,
        return_overflowing_tokens: bool,
        padding: str | bool,
        **_: Any,
    ) -> dict[str, list[Any]]:
        """Return ids, masks and offsets of one text, by window."""
        if max_length != self._longest:
            self._longest = max_length
            self._tokenizer.enable_truncation(max_length)
            if padding:
                self._tokenizer.enable_padding(pad_id=self.pad_token_id, length=max_length)
        [encoding] = self._tokenizer.encode_batch(list(texts))
        windows = [encoding, *(encoding.overflowing if return_overflowing_tokens else ())]
        return {
            "input_ids": [window.ids for window in windows],
            "attention_mask": [window.attention_mask for window in windows],
            "special_tokens_mask": [window.special_tokens_mask for window in windows],
            "offset_mapping": [window.offsets for window in windows],
        }


class BertModel(OwnModel):
    """Embeddings and layers; it returns all states, the embeddings first."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = nn.Module()
        layers = range(config.num_hidden_layers)
        self.encoder.layer = nn.ModuleList(Layer(config) for _ in layers)

    def forward(self, ids: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Return states `(batch, tokens, dim)` of ids `(batch, tokens)`.

        The mask `(batch, tokens)` is True where there is a token; None is everywhere.
        """
        if mask is not None:
            mask = mask[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        states = [self.embeddings(ids)]
        for layer in self.encoder.layer:  # type: ignore[union-attr]
            states.append(layer(states[-1], mask))
        return states


class Embeddings(nn.Module):
    """The sum of the embeddings of token, type (always the first) and position, normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = _table(config.vocab_size, width)
        self.position_embeddings = _table(config.max_position_embeddings, width)
        self.token_type_embeddings = _table(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        """Return `(batch, tokens, dim)` of ids `(batch, tokens)`."""
        summed = self.word_embeddings(ids) + self.token_type_embeddings.weight[0]
        normed: Tensor = self.LayerNorm(summed + self.position_embeddings.weight[: ids.shape[1]])
        return normed


class Layer(nn.Module):
    """A post-norm transformer layer."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width, hidden = config.hidden_size, config.intermediate_size
        self.attention = nn.Module()
        self.attention.self = SelfAttention(width, config.num_attention_heads)
        self.attention.output = AddAndNorm(width, width, config.layer_norm_eps)
        self.intermediate = nn.Module()
        self.intermediate.dense = nn.Linear(width, hidden)
        self.output = AddAndNorm(hidden, width, config.layer_norm_eps)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the next states `(batch, tokens, dim)`."""
        x = self.attention.output(self.attention.self(x, mask), x)  # type: ignore[operator]
        next_states: Tensor = self.output(gelu(self.intermediate.dense(x)), x)  # type: ignore[operator]
        return next_states


class SelfAttention(nn.Module):
    """Multi-head self-attention, without the projection of its output."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} dimensions do not divide into {heads} heads")
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return what each token attends to, `(batch, tokens, dim)`."""
        queries, keys, values = (
            project(x).view(*x.shape[:-1], self.heads, -1).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        attended = scaled_dot_product_attention(queries, keys, values, mask, scale=self.scale)
        return attended.transpose(1, 2).reshape(x.shape)


class AddAndNorm(nn.Module):
    """A projection, added to the states before it and normalised."""

    def __init__(self, inputs: int, width: int, eps: float) -> None:
        super().__init__()
        self.dense, self.LayerNorm = nn.Linear(inputs, width), nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return `(batch, tokens, dim)`."""
        normed: Tensor = self.LayerNorm(self.dense(x) + residual)
        return normed


def read_model(source: BertFolder) -> BertModel:
    """Load the weights; raises `UserError` for a file without all of them, in their shapes."""
    path = source.folder / "model.safetensors"
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(path).items()}
    with torch.device("meta"):
        model = BertModel(source.config)
    wanted = {name: weights[name] for name in model.state_dict() if name in weights}
    try:
        model.load_state_dict(wanted, assign=True)
    except RuntimeError as error:
        raise UserError(
            f"{path}: the weights are not those of the BERT in config.json; get the model again."
        ) from error
    return model.eval()


def _table(rows: int, width: int) -> nn.Embedding:
    # without initial values: drawing them for the meta device would import torch's compiler
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))
