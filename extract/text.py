"""Token states of a text encoder (RoBERTa, DeBERTa, BERT, MiniLM, …), any layer.

One frame a token, the model's own start and end tokens included unless `special_tokens: false`.
Batches are padded to their longest text and masked. An empty text is one frame of zeros: nothing
was said, and a head can still attend to it. A text longer than the model's context is cut into
windows that are encoded apart and joined.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from extract.extractor import Extractor, FeatureOptions, ModelOptions, choose, extractor, item_shape

LONGEST = 512  # tokens of a window, special ones included, when the tokenizer does not say


class TextOptions(ModelOptions):
    """Options of `kind: text`.

    `of` names the transcripts: a feature of kind asr, or `transcript`, the manifest's own column.
    """

    of: str
    special_tokens: bool = True


@extractor("text")
class Text(Extractor):
    """Extract hidden states of every token."""

    Options: ClassVar[type[FeatureOptions]] = TextOptions
    reads: ClassVar[Literal["audio", "text"]] = "text"

    def load(self, device: str) -> None:
        """Load the model and its tokenizer."""
        import torch
        from transformers import AutoModel, AutoTokenizer

        assert self.weights is not None
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self._tokenizer = AutoTokenizer.from_pretrained(self.weights.folder)
        self._model = AutoModel.from_pretrained(self.weights.folder, dtype=dtype)
        self._model.eval().to(device)
        self._device = device
        config = self._model.config
        positions = getattr(config, "max_position_embeddings", None) or LONGEST
        self._window = min(self._tokenizer.model_max_length, positions, LONGEST)
        self.item_shape = item_shape(
            int(config.num_hidden_layers) + 1, int(config.hidden_size), self.options.layer
        )

    def cost(self, size: int) -> float:
        """Return the tokens of a text, about one in three characters."""
        return size / 3 + 2

    def extract(self, batch: Sequence[str]) -> list[np.ndarray]:
        """Return the states of each text's tokens `(tokens, *item_shape)`."""
        import torch

        inputs = self._tokenizer(
            list(batch),
            truncation=True,
            max_length=self._window,
            return_overflowing_tokens=True,  # the windows of a long text follow one another
            return_special_tokens_mask=True,
            padding=True,
            return_tensors="pt",
        )
        owner = inputs.pop("overflow_to_sample_mapping").tolist()
        special = inputs.pop("special_tokens_mask").bool()
        words = inputs["attention_mask"].bool() & ~special
        with torch.inference_mode():
            out = self._model(**inputs.to(self._device), output_hidden_states=True)
            states = [*out.hidden_states[:-1], out.last_hidden_state]
            chosen = choose(states, self.options.layer).float().cpu()
        kept = inputs["attention_mask"].bool().cpu() if self.options.special_tokens else words
        parts: list[list[np.ndarray]] = [[] for _ in batch]
        for i, frames, said, mask in zip(owner, chosen, words, kept, strict=True):
            if said.any():
                parts[i].append(frames[mask].numpy())
        nothing = np.zeros((1, *self.item_shape), np.float32)
        return [np.concatenate(p) if p else nothing for p in parts]
