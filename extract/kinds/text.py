"""Token states of a text model, any layer: encoders, the encoder of T5, decoder language models.

One frame a token, the model's own start and end tokens included unless `special_tokens: false`.
Batches are padded on the right to their longest text and masked; a decoder looks back only and
never sees the padding. An empty text is one frame of zeros, so that a head can still
attend to it. A text longer than the model's context is cut into windows that are encoded apart and
joined. The last layer is the model's output, behind its final norm where there is one (ModernBERT,
T5, decoders); the layers below are as they leave their block.

`quantize: int8` holds the weights of a large model in half the memory (Dettmers et al. 2022). It
picks outlier channels over a whole batch, so there a result depends on the batch a little.

`pad_to: 80` gives every text 80 frames, as UNICAMP's released code stores it: longer texts are cut,
and the states of the padding tokens, which see the text, are frames like the others.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ser.corpus.config import Name
from ser.corpus.errors import UserError
from ser.extract.extractor import (
    Extractor,
    FeatureOptions,
    ModelOptions,
    device_type,
    extractor,
)
from ser.extract.layers import hidden, item_shape

DEFAULT_WINDOW = 512  # tokens, when neither model nor tokenizer has a limit: T5's training length
LONGEST = 8192  # decoders take more than the memory does


class TextOptions(ModelOptions):
    """Options of `kind: text`.

    `of` names the transcripts: a feature of kind asr, or `transcript`, the manifest's own column.
    `pad_to` is a number of tokens that every text is cut or padded to.
    """

    of: Name
    special_tokens: bool = True
    quantize: Literal["none", "int8"] = "none"
    pad_to: int | None = Field(default=None, ge=2, le=LONGEST)

    @model_validator(mode="after")
    def _keeps_special_tokens(self) -> "TextOptions":
        if self.pad_to is not None and not self.special_tokens:
            raise ValueError(
                "pad_to: padded texts keep their special tokens; leave `special_tokens` out"
            )
        return self


@extractor("text")
class Text(Extractor):
    """Extract hidden states of every token."""

    Options: ClassVar[type[FeatureOptions]] = TextOptions
    reads: ClassVar[Literal["audio", "text"]] = "text"

    def load(self, device: str) -> None:
        """Load the model and its tokenizer."""
        import torch
        from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding

        assert self.weights is not None
        folder = self.weights.folder
        placed = _quantized(self.options, device)
        self._tokenizer = load_tokenizer(folder)
        config = AutoConfig.from_pretrained(folder)
        config.use_cache = False  # keys and values are for generating
        auto = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel
        dtype = torch.bfloat16 if device_type(device) == "cuda" else torch.float32
        self._model = auto.from_pretrained(folder, config=config, dtype=dtype, **placed).eval()
        if self.options.quantize == "none":
            self._model.to(device)
        self._device = device
        self._window = window_of(self._tokenizer, self._model)
        if (self.options.pad_to or 0) > self._window:
            raise UserError(
                f"{folder}: the model takes {self._window} tokens, and pad_to is "
                f"{self.options.pad_to}; set it to {self._window} or less."
            )
        self._states = int(config.num_hidden_layers) + 1
        self.item_shape = item_shape(self._states, int(config.hidden_size), self.options.layer)
        if self.options.compile:
            self._model = torch.compile(self._model, dynamic=True)

    def cost(self, size: int) -> float:
        """Return the tokens of a text, about one in three characters."""
        return size / 3 + 2

    def extract(self, batch: Sequence[str]) -> list[np.ndarray]:
        """Return the states of each text's tokens `(tokens, *item_shape)`."""
        if self.options.pad_to is not None:  # an empty text has frames like any other
            return [windows[0] for windows in self._encode(batch)]
        texts = [text for text in batch if text.strip()]
        parts = iter(self._encode(texts) if texts else [])
        nothing = np.zeros((1, *self.item_shape), np.float32)
        windows_of = [next(parts) if text.strip() else [] for text in batch]
        return [np.concatenate(windows) if windows else nothing for windows in windows_of]

    def _encode(self, texts: Sequence[str]) -> list[list[np.ndarray]]:
        """Return the states of each text by window; no window for a text without words."""
        import torch

        inputs, words, keep = self._tokens(texts)
        mask = inputs["attention_mask"]
        arguments = {"input_ids": inputs["input_ids"], "attention_mask": mask}
        arguments = {name: tensor.to(self._device) for name, tensor in arguments.items()}
        with torch.inference_mode():
            states = hidden(self._model, self._states, self.options.layer, **arguments)
            chosen = states.float().cpu()
        windows: list[list[np.ndarray]] = [[] for _ in texts]
        owners = map(int, inputs.get("overflow_to_sample_mapping", range(len(texts))))
        for i, frames, is_word, rows in zip(owners, chosen, words, keep, strict=True):
            if is_word.any() or self.options.pad_to is not None:
                windows[i].append(frames[rows].numpy())
        return windows

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the character span (from, to) of each frame of a text; (0, 0) for none.

        Empty for a text that is one frame of zeros, and for a tokenizer without offsets.
        """
        if not text.strip() or not self._tokenizer.is_fast:
            return []
        inputs, words, keep = self._tokens([text], return_offsets_mapping=True)
        windows = zip(inputs["offset_mapping"], words, keep, strict=True)
        return [
            (a, b)
            for offsets, is_word, rows in windows
            if is_word.any()
            for a, b in offsets[rows].tolist()
        ]

    def _tokens(self, texts: Sequence[str], **options: Any) -> tuple[Any, Any, Any]:
        """Return the tokens of each window, a mask of those of words, and one of those to keep."""
        import torch

        inputs = self._tokenizer(
            list(texts),
            truncation=True,
            max_length=self.options.pad_to or self._window,
            # the windows of a long text follow one another
            return_overflowing_tokens=self.options.pad_to is None,
            return_special_tokens_mask=True,
            padding="max_length" if self.options.pad_to else True,
            return_tensors="pt",
            **options,
        )
        tokens = inputs["attention_mask"].bool()
        words = tokens & ~inputs["special_tokens_mask"].bool()
        if self.options.pad_to is not None:
            return inputs, words, torch.ones_like(tokens)
        return inputs, words, tokens if self.options.special_tokens else words


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer, padding on the right; decoders have no token for it, and need none."""
    from transformers import AutoTokenizer

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


def window_of(tokenizer: Any, model: Any) -> int:
    """Return how many tokens a model is given at a time."""
    return min(int(tokenizer.model_max_length), _positions(model), LONGEST)


def _positions(model: Any) -> int:
    """Return how many tokens a model has positions for.

    RoBERTa's table of 514 begins with the padding token's own row and those before it.
    """
    config = model.config
    positions = getattr(config, "max_position_embeddings", None) or DEFAULT_WINDOW
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return int(positions) - (0 if padding is None else padding + 1)


def _quantized(options: TextOptions, device: str) -> dict[str, Any]:
    """Return what `from_pretrained` needs to load int8 weights, nothing for others."""
    if options.quantize == "none":
        return {}
    if device_type(device) != "cuda":
        raise UserError(
            f"{options.model}: `quantize: {options.quantize}` runs on an NVIDIA GPU only; extract "
            "with `--device cuda`, or leave `quantize` out."
        )
    absent = [name for name in ("bitsandbytes", "accelerate") if find_spec(name) is None]
    if absent:
        raise UserError(
            f"{options.model}: `quantize: {options.quantize}` needs {' and '.join(absent)}; "
            f"`pip install {' '.join(absent)}`."
        )
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(load_in_8bit=True),
        "device_map": {"": device},
    }
