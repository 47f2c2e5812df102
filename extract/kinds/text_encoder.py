"""The encoder of kind text: a text model, its tokenizer, and the windows of long texts."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

from ser.corpus.errors import UserError
from ser.extract.encoder import Encoder, Piece
from ser.extract.kinds.text import LONGEST, TextOptions
from ser.extract.layers import hidden, item_shape

DEFAULT_WINDOW = 512  # tokens, when neither model nor tokenizer has a limit: T5's training length


class TextEncoder(Encoder):
    """A text model; `placed` are options of `from_pretrained` for weights that it places itself."""

    def __init__(
        self, options: TextOptions, folder: Path, dtype: torch.dtype, placed: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.options = options
        self._tokenizer = load_tokenizer(folder)
        config = AutoConfig.from_pretrained(folder)
        auto = AutoModelForTextEncoding if _has_decoder(config) else AutoModel
        config.use_cache = False  # keys and values are for generating
        self.model = auto.from_pretrained(folder, config=config, dtype=dtype, **placed)
        self.window = min(int(self._tokenizer.model_max_length), _positions(self.model), LONGEST)
        if (options.pad_to or 0) > self.window:
            raise UserError(
                f"{folder}: the model takes {self.window} tokens, and pad_to is "
                f"{options.pad_to}; set it to {self.window} or less."
            )
        self.padding = int(self._tokenizer.pad_token_id or 0)
        self.layers = int(config.num_hidden_layers)
        self.item_shape = item_shape(self.layers + 1, int(config.hidden_size), options.layer)
        if options.compile:
            self.model = torch.compile(self.model, dynamic=True)
        # sets the tokenizer's truncation, which must not change while another thread encodes
        self.prepare("a")

    def prepare(self, source: Any) -> list[Piece]:
        """Return the windows of tokens; one without tokens for a text without words."""
        if self.options.pad_to is None and not source.strip():
            return [Piece(np.zeros(0, np.int64), 1)]
        windows = self._windows(source)
        pieces = [Piece(ids, len(ids), kept, hidden) for ids, kept, hidden, _ in windows]
        return pieces or [Piece(np.zeros(0, np.int64), 1)]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the character span (from, to) of each frame of a text; (0, 0) for none.

        Empty for a text that is one frame of zeros, and for a tokenizer without offsets.
        """
        if not text.strip() or not self._tokenizer.is_fast:
            return []
        return [
            (a, b)
            for _, kept, _, spans in self._windows(text, return_offsets_mapping=True)
            for a, b in spans[kept].tolist()
        ]

    def _windows(self, text: str, **options: Any) -> Iterator[tuple[Any, Any, int, Any]]:
        """Yield the tokens of each window with words, those to keep, how many pad it, and spans."""
        inputs = self._tokenizer(
            [text],
            truncation=True,
            max_length=self.options.pad_to or self.window,
            # the windows of a long text follow one another
            return_overflowing_tokens=self.options.pad_to is None,
            return_special_tokens_mask=True,
            padding="max_length" if self.options.pad_to else False,
            **options,
        )
        for i, tokens in enumerate(inputs["input_ids"]):
            words = ~np.array(inputs["special_tokens_mask"][i], bool)
            padded = len(tokens) - sum(inputs["attention_mask"][i])
            if not words.any() and self.options.pad_to is None:
                continue
            kept = slice(None) if self.options.special_tokens else words
            spans = np.array(inputs["offset_mapping"][i]) if options else None
            yield np.array(tokens, np.int64), kept, padded, spans

    def cost(self, size: int) -> float:
        """Return the tokens, about one in three characters."""
        return min(size / 3 + 2, self.window)

    def run(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the frames of the configured layers."""
        arguments = {"input_ids": inputs, "attention_mask": mask.long()}
        return hidden(self.model, self.layers + 1, self.options.layer, **arguments)

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
