"""The encoder of kind text in transformers' classes: a text model and its tokenizer."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

from ser.corpus.errors import UserError
from ser.extract.kinds.text import TextOptions
from ser.extract.kinds.token_windows import TokenEncoder
from ser.extract.layers import hidden, item_shape
from ser.extract.loading import load_whole

DEFAULT_WINDOW = 512  # tokens, when neither model nor tokenizer has a limit: T5's training length


class TextEncoder(TokenEncoder):
    """A text model; `placed` are options of `from_pretrained` for weights that it places itself."""

    def __init__(
        self, options: TextOptions, folder: Path, dtype: torch.dtype, placed: Mapping[str, object]
    ) -> None:
        super().__init__()
        self.options = options
        tokenizer = load_tokenizer(folder)
        config = AutoConfig.from_pretrained(folder)
        auto = AutoModelForTextEncoding if _has_decoder(config) else AutoModel
        config.use_cache = False  # keys and values are for generating
        # frames need no pooler; quantized layers have tensors of their own
        ignored = ".*" if placed else r"(.*\.)?pooler\..*"
        given = {"config": config, "dtype": dtype, **placed}
        self.model = load_whole(options.model, auto, folder, ignored=ignored, **given)
        self.use_tokenizer(tokenizer, _positions(self.model), folder)
        self.layers = int(config.num_hidden_layers)
        self.item_shape = item_shape(self.layers + 1, int(config.hidden_size), options.layer)
        if options.compile:
            self.model = torch.compile(self.model, dynamic=True)

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames of the configured layers."""
        given: dict[str, Any] = {"input_ids": inputs, "attention_mask": mask.long()}
        return hidden(self.model, self.layers + 1, self.options.layer, **given)

    def save(self, folder: Path) -> None:
        """Write the model and its tokenizer."""
        self.model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer, padding on the right; decoders have no token for it, and need none."""
    pieces = [path.name for path in folder.glob("*.model")]
    if pieces and not (folder / "tokenizer.json").exists() and find_spec("sentencepiece") is None:
        raise UserError(
            f"{folder / pieces[0]}: this tokenizer is a SentencePiece model; "
            "`pip install sentencepiece`."
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right", truncation_side="right")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _has_decoder(config: Any) -> bool:
    """Return whether a model's class has a decoder, as T5's; of a T5, the encoder may be saved."""
    (name, *_) = config.architectures or [""]
    return bool(config.is_encoder_decoder) or str(name).endswith("EncoderModel")


def _positions(model: Any) -> int:
    """Return how many tokens a model has positions for.

    RoBERTa's table of 514 begins with the padding token's own row and those before it.
    """
    config = model.config
    positions = getattr(config, "max_position_embeddings", None) or DEFAULT_WINDOW
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return int(positions) - (0 if padding is None else padding + 1)
