"""The sizes of tiny recognizers, encoders and audio language models: options of their configs."""

from collections.abc import Sequence
from typing import Any

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
DECODER = {**SIZES, "num_key_value_heads": 1, "head_dim": 8}
PARTS = ("encoder", "decoder")


def of_parts(parts: Sequence[str], **sizes: int) -> Options:
    """Return sizes of several parts, as in `encoder_layers` and `decoder_layers`."""
    return {f"{part}_{name}": size for part in parts for name, size in sizes.items()}


MOONSHINE = {
    "hidden_size": DIM,
    "intermediate_size": 32,
    **of_parts(PARTS, num_hidden_layers=LAYERS, num_attention_heads=2),
}
SEAMLESS = {
    "hidden_size": DIM,
    "conv_depthwise_kernel_size": 7,
    "left_max_position_embeddings": 8,
    **of_parts((*PARTS, "speech_encoder"), layers=LAYERS, attention_heads=2),
    **of_parts(PARTS, ffn_dim=32),
    "speech_encoder_intermediate_size": 32,
}
FASTCONFORMER = {**SIZES, "subsampling_conv_channels": 4, "num_mel_bins": 128}
GLM = {**SIZES, "num_mel_bins": 128}
GRANITE = {
    "num_layers": LAYERS,
    "hidden_dim": DIM,
    "num_heads": 2,
    "feedforward_mult": 2,
    "context_size": 50,
    "max_pos_emb": 64,
    "output_dim": 5,
}
QWEN2 = {
    "num_mel_bins": 128,
    "d_model": DIM,
    **of_parts(("encoder",), layers=LAYERS, attention_heads=2, ffn_dim=32),
}
QWEN3 = {**QWEN2, "downsample_hidden_size": 4}


def language_model(words: Any, audio: Options, mark: str = "<audio>") -> Options:
    """Return the options of a language model with an encoder of clips, for a tokenizer."""
    return {
        "audio_token_id": words.convert_tokens_to_ids(mark),
        "audio_config": audio,
        "text_config": {**DECODER, "vocab_size": len(words), **IDS},
    }


def granite(words: Any) -> Options:
    """Return the options of Granite Speech, for a tokenizer."""
    return {
        "audio_token_index": words.convert_tokens_to_ids("<|audio|>"),
        "has_lora_adapter": False,
        "encoder_config": GRANITE,
        "projector_config": {"model_type": "blip_2_qformer", **SIZES, "encoder_hidden_size": DIM},
        "text_config": {"model_type": "granite", **DECODER, "vocab_size": len(words), **IDS},
    }


def voxtral(words: Any) -> Options:
    """Return the options of Voxtral, for a tokenizer."""
    return language_model(words, {**GLM, "intermediate_size": 4 * DIM}, "[AUDIO]")


def enlarged(model: Any) -> Any:
    """Draw weights so large that results depend on the clip, and on padding that is not masked."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, parameter[0].numel() ** -0.5)
    return model
