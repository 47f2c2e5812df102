"""What every encoder of text has in common: the windows of tokens that a model takes at once."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ser.corpus.errors import UserError
from ser.extract.encoder import Encoder, Piece
from ser.extract.kinds.text import LONGEST, TextOptions


class TokenEncoder(Encoder):
    """An encoder of texts of any length; a subclass has a model and calls `use_tokenizer`."""

    options: TextOptions

    def use_tokenizer(self, tokenizer: Any, positions: int, source: object) -> None:
        """Take a tokenizer that is called as transformers' are, and how many tokens a model takes.

        Raises `UserError`, with the source of the model, for a `pad_to` of more.
        """
        self._tokenizer = tokenizer
        self.window = min(int(tokenizer.model_max_length), positions, LONGEST)
        if (self.options.pad_to or 0) > self.window:
            raise UserError(
                f"{source}: the model takes {self.window} tokens, and pad_to is "
                f"{self.options.pad_to}; set it to {self.window} or less."
            )
        self.padding = int(tokenizer.pad_token_id or 0)
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
        return float(self.options.pad_to or min(size / 3 + 2, self.window))
