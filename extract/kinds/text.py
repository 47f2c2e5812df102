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

from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from ser.corpus.config import Name
from ser.corpus.errors import UserError
from ser.extract.devices import require_gpu
from ser.extract.encoding import EncoderExtractor, dtype_on
from ser.extract.extractor import FeatureOptions, ModelOptions, extractor

if TYPE_CHECKING:
    from ser.extract.kinds.token_windows import TokenEncoder

LONGEST = 8192  # decoders take more than the memory does


class TextOptions(ModelOptions):
    """Options of `kind: text`.

    `of` names the transcripts: a feature with transcripts, or `transcript`, the manifest's column.
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
class Text(EncoderExtractor):
    """Extract hidden states of every token."""

    Options: ClassVar[type[FeatureOptions]] = TextOptions
    reads: ClassVar[Literal["audio", "text"]] = "text"
    encoder: "TokenEncoder"

    def build_encoder(self, device: str, trained: bool = False) -> "TokenEncoder":
        """Load the model and its tokenizer, without transformers where that gives the same."""
        plain = not (trained or self.options.compile) and self.options.quantize == "none"
        if plain:
            from ser.extract.kinds.bert import BertEncoder, read_bert

            if (bert := read_bert(self.folder)) is not None:
                return BertEncoder(self.options, bert, dtype_on(device)).to(device)
        from ser.extract.kinds.text_encoder import TextEncoder

        placed = _quantized(self.options, device)
        encoder = TextEncoder(self.options, self.folder, dtype_on(device), placed)
        return encoder if placed else encoder.to(device)

    def cost(self, size: int) -> float:
        """Return the tokens of a text, about one in three characters."""
        return float(self.options.pad_to or size / 3 + 2)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the character span (from, to) of each frame of a text; see `TokenEncoder`."""
        return self.encoder.offsets(text)


def _quantized(options: TextOptions, device: str) -> dict[str, object]:
    """Return what `from_pretrained` needs to load int8 weights, nothing for others."""
    if options.quantize == "none":
        return {}
    require_gpu(options, device)
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
