"""A tiny Whisper with random weights."""

from collections.abc import Sequence
from pathlib import Path

from ser.synthetic.processors import byte_pairs
from ser.synthetic.sizes import Options, of_parts

DIM = 32
TRANSCRIPT = 12  # tokens after which the tiny Whisper ends
TOKENS = ("<|endoftext|>", "<|startoftranscript|>", "<|nospeech|>", "<|notimestamps|>")


def write_whisper(
    folder: Path, texts: Sequence[str], mels: int, layers: tuple[int, int], std: float
) -> None:
    """Write a Whisper with its tokenizer, whose transcripts end after `TRANSCRIPT` tokens.

    `layers` are those of encoder and decoder. Words depend on the clip where the standard deviation
    of the weights is large.
    """
    import torch
    from transformers import (
        GenerationConfig,
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    raw = byte_pairs(texts, TOKENS)
    words = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=TOKENS[0], pad_token=TOKENS[0])
    ends: Options = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
    ends["decoder_start_token_id"] = 1
    sizes: Options = {"vocab_size": len(words), "d_model": DIM, "num_mel_bins": mels}
    for part, depth in zip(("encoder", "decoder"), layers, strict=True):
        sizes |= of_parts((part,), layers=depth, attention_heads=2, ffn_dim=64)
    model = WhisperForConditionalGeneration(WhisperConfig(**sizes, **ends, init_std=std))
    model.generation_config = GenerationConfig(**ends, suppress_tokens=[1, 2, 3])
    with torch.no_grad():  # after TRANSCRIPT tokens only the end is likely: texts stay short
        decoder = model.model.decoder
        end = decoder.embed_tokens.weight[0].normal_()  # the padding's too, so it began as zeros
        decoder.embed_positions.weight[TRANSCRIPT:] = 100 * end
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=mels).save_pretrained(folder)
    words.save_pretrained(folder)
