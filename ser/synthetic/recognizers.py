"""Tiny recognizers with random weights: the classes of `kind: recognizer`, and Parakeet CTC."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ser.synthetic.processors import PROCESSORS

Options = dict[str, Any]  # of a config of transformers
DIM = 16
LAYERS = 2
SIZES: Options = {
    "hidden_size": DIM,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
FASTCONFORMER = {**SIZES, "subsampling_conv_channels": 4, "num_mel_bins": 128}
DECODER = {**SIZES, "num_key_value_heads": 1, "head_dim": 8}
PARTS = ("encoder", "decoder")
QWEN_AUDIO = {
    "num_mel_bins": 128,
    "encoder_layers": LAYERS,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "d_model": DIM,
    "downsample_hidden_size": 4,
    "output_dim": DIM,
}
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


def write_recognizer(model_type: str, folder: Path, texts: Sequence[str]) -> None:
    """Write the model of a type, and its processor, whose tokenizer is trained on `texts`."""
    import transformers

    from ser.extract.kinds.recognizer import RECOGNIZERS
    from ser.extract.kinds.speech_models import class_of

    ctc = model_type == "parakeet_ctc"
    processor = PROCESSORS[model_type](texts)
    words = getattr(processor, "tokenizer", processor)
    cls = class_of("parakeet.ParakeetForCTC" if ctc else RECOGNIZERS[model_type].cls)
    config = cls.config_class(**_configs(words)[model_type])
    model = enlarged(cls(config))
    model.generation_config = transformers.GenerationConfig(
        **IDS,
        decoder_start_token_id=getattr(config, "blank_token_id", None),
        text_decoder_lang_to_code_id={"eng": 1, "deu": 3} if "seamless" in model_type else None,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def enlarged(model: Any) -> Any:
    """Draw weights so large that results depend on the clip, and on padding that is not masked."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, parameter[0].numel() ** -0.5)
    return model


def _configs(words: Any) -> dict[str, Options]:
    """Return the options of each model type, for a tokenizer."""
    vocabulary = {"vocab_size": len(words)}
    text = {**vocabulary, **IDS}
    audio = {"audio_token_id": words.convert_tokens_to_ids("<audio>")}
    parakeet = {**vocabulary, "pad_token_id": 0, "encoder_config": FASTCONFORMER}
    transducer = {
        **parakeet,
        "blank_token_id": words.convert_tokens_to_ids("<blank>"),
        "decoder_hidden_size": DIM,
        "num_decoder_layers": 1,
        "max_symbols_per_step": 3,
    }
    return {
        "moonshine": {
            **text,
            "hidden_size": DIM,
            "intermediate_size": 32,
            **_of_parts(PARTS, num_hidden_layers=LAYERS, num_attention_heads=2),
        },
        "seamless_m4t_v2": {
            **text,
            "hidden_size": DIM,
            "decoder_start_token_id": 2,
            "conv_depthwise_kernel_size": 7,
            "left_max_position_embeddings": 8,
            **_of_parts((*PARTS, "speech_encoder"), layers=LAYERS, attention_heads=2),
            **_of_parts(PARTS, ffn_dim=32),
            "speech_encoder_intermediate_size": 32,
        },
        "parakeet_ctc": parakeet,
        "parakeet_rnnt": transducer,
        "parakeet_tdt": transducer,
        "canary": {
            **text,
            "decoder_start_token_id": 1,
            "encoder_config": FASTCONFORMER,
            "decoder_config": {**DECODER, **vocabulary},
        },
        "cohere_asr": {
            **text,
            **DECODER,
            "decoder_start_token_id": 1,
            "encoder_config": FASTCONFORMER,
        },
        "qwen3_asr": {
            **audio,
            "pad_token_id": 0,
            "eos_token_id": 2,
            "audio_config": QWEN_AUDIO,
            "text_config": {**DECODER, **text},
        },
        "glmasr": {
            **audio,
            "audio_config": {**SIZES, "num_mel_bins": 128},
            "text_config": {**DECODER, **text},
        },
        "granite_speech": granite_config(words),
        "voxtral": voxtral_config(words),
        "speech_to_text": {
            **text,
            "d_model": DIM,
            "conv_channels": 8,
            **_of_parts(PARTS, layers=LAYERS, attention_heads=2, ffn_dim=32),
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


def _of_parts(parts: Sequence[str], **sizes: int) -> Options:
    """Return sizes of several parts, as in `encoder_layers` and `decoder_layers`."""
    return {f"{part}_{name}": size for part in parts for name, size in sizes.items()}


def granite_config(words: Any) -> Options:
    """Return the options of Granite Speech, for a tokenizer."""
    return {
        "audio_token_index": words.convert_tokens_to_ids("<|audio|>"),
        "has_lora_adapter": False,
        "encoder_config": {
            "num_layers": LAYERS,
            "hidden_dim": DIM,
            "num_heads": 2,
            "feedforward_mult": 2,
            "context_size": 50,
            "max_pos_emb": 64,
            "output_dim": 5,
        },
        "projector_config": {"model_type": "blip_2_qformer", **SIZES, "encoder_hidden_size": DIM},
        "text_config": {"model_type": "granite", **DECODER, "vocab_size": len(words), **IDS},
    }


def voxtral_config(words: Any) -> Options:
    """Return the options of Voxtral, for a tokenizer."""
    return {
        "audio_token_id": words.convert_tokens_to_ids("[AUDIO]"),
        "audio_config": {**SIZES, "intermediate_size": 4 * DIM, "num_mel_bins": 128},
        "text_config": {**DECODER, "vocab_size": len(words), **IDS},
    }
