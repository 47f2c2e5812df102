"""Tiny recognizers with random weights: those of `kind: recognizer`, Parakeet CTC and Whisper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ser.synthetic import sizes
from ser.synthetic.processors import byte_pairs, processor_of
from ser.synthetic.sizes import DECODER, DIM, FASTCONFORMER, IDS, LAYERS, PARTS, SIZES, Options

KYUTAI_CODEC = {
    **SIZES,
    "num_filters": 4,
    "codebook_size": 8,
    "codebook_dim": 8,
    "num_quantizers": 2,
    "vector_quantization_hidden_dimension": 8,
    "head_dim": 8,
    "num_key_value_heads": 2,
    "upsample_groups": DIM,
}
WHISPER_DIM = 32
TRANSCRIPT = 12  # tokens after which the tiny Whisper ends
WHISPER_TOKENS = ("<|endoftext|>", "<|startoftranscript|>", "<|nospeech|>", "<|notimestamps|>")


def write_recognizer(model_type: str, folder: Path, texts: Sequence[str]) -> None:
    """Write the model of a type, and its processor, whose tokenizer is trained on `texts`."""
    import transformers

    from ser.extract.kinds.recognizer import RECOGNIZERS
    from ser.extract.kinds.speech_models import class_of

    ctc = model_type == "parakeet_ctc"
    processor = processor_of(model_type, texts)
    words = getattr(processor, "tokenizer", processor)
    cls = class_of("parakeet.ParakeetForCTC" if ctc else RECOGNIZERS[model_type].cls)
    config = cls.config_class(**_configs(words)[model_type])
    model = sizes.enlarged(cls(config))
    model.generation_config = transformers.GenerationConfig(
        **IDS,
        decoder_start_token_id=getattr(config, "blank_token_id", None),
        text_decoder_lang_to_code_id={"eng": 1, "deu": 3} if "seamless" in model_type else None,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _configs(words: Any) -> dict[str, Options]:
    """Return the options of each model type, for a tokenizer."""
    vocabulary = {"vocab_size": len(words)}
    text = {**vocabulary, **IDS}
    parakeet = {**vocabulary, "pad_token_id": 0, "encoder_config": FASTCONFORMER}
    transducer = {
        **parakeet,
        "blank_token_id": words.convert_tokens_to_ids("<blank>"),
        "decoder_hidden_size": DIM,
        "num_decoder_layers": 1,
        "max_symbols_per_step": 3,
    }
    begin_and_encoder = {"decoder_start_token_id": 1, "encoder_config": FASTCONFORMER}
    qwen3 = sizes.language_model(words, {**sizes.QWEN3, "output_dim": DIM})
    return {
        "moonshine": {**text, **sizes.MOONSHINE},
        "seamless_m4t_v2": {**text, **sizes.SEAMLESS, "decoder_start_token_id": 2},
        "parakeet_ctc": parakeet,
        "parakeet_rnnt": transducer,
        "parakeet_tdt": transducer,
        "canary": {**text, **begin_and_encoder, "decoder_config": {**DECODER, **vocabulary}},
        "cohere_asr": {**text, **DECODER, **begin_and_encoder},
        "qwen3_asr": {**qwen3, "pad_token_id": 0, "eos_token_id": 2},
        "glmasr": sizes.language_model(words, sizes.GLM),
        "granite_speech": sizes.granite(words),
        "voxtral": sizes.voxtral(words),
        "speech_to_text": {
            **text,
            "d_model": DIM,
            "conv_channels": 8,
            **sizes.of_parts(PARTS, layers=LAYERS, attention_heads=2, ffn_dim=32),
        },
        "kyutai_speech_to_text": {
            **vocabulary,
            **DECODER,
            "pad_token_id": 3,
            "bos_token_id": len(words) - 1,
            "ffn_dim": 32,
            "num_codebooks": 2,
            "codebook_vocab_size": 9,
            "audio_bos_token_id": 8,
            "audio_pad_token_id": len(words) + 2 * 9,
            "codec_config": KYUTAI_CODEC,
        },
    }


def write_whisper(
    folder: Path, texts: Sequence[str], mels: int, layers: tuple[int, int], std: float
) -> None:
    """Write a Whisper with its tokenizer, whose transcripts end after `TRANSCRIPT` tokens.

    `layers` are those of encoder and decoder. Words depend on the clip where the standard deviation
    of the weights is large.
    """
    import torch
    import transformers

    raw, last = byte_pairs(texts, WHISPER_TOKENS), WHISPER_TOKENS[0]
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=last, pad_token=last
    )
    ends: Options = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
    ends["decoder_start_token_id"] = 1
    options: Options = {"vocab_size": len(words), "d_model": WHISPER_DIM, "num_mel_bins": mels}
    for part, depth in zip(("encoder", "decoder"), layers, strict=True):
        options |= sizes.of_parts((part,), layers=depth, attention_heads=2, ffn_dim=64)
    config = transformers.WhisperConfig(**options, **ends, init_std=std)
    model = transformers.WhisperForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(**ends, suppress_tokens=[1, 2, 3])
    with torch.no_grad():  # after TRANSCRIPT tokens only the end is likely: texts stay short
        decoder = model.model.decoder
        end = decoder.embed_tokens.weight[0].normal_()  # the padding's too, so it began as zeros
        decoder.embed_positions.weight[TRANSCRIPT:] = 100 * end
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=mels).save_pretrained(folder)
    words.save_pretrained(folder)
