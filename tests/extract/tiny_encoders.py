"""Tiny audio encoders of the true classes, each in the form that its model is published in."""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from ser.extract.kinds.speech_families import FAMILIES, PARTS
from ser.synthetic.recognizers import SIZES as SMALL
from ser.synthetic.recognizers import enlarged
from tests.extract.factories import new_folder

CNN = {
    **SMALL,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
SEW = {
    **SMALL,
    "conv_dim": (8,) * 13,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
QWEN = {
    "num_mel_bins": 128,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "d_model": 16,
}
QWEN3 = {**QWEN, "downsample_hidden_size": 4}
CONFORMER = {"conv_depthwise_kernel_size": 7, "left_max_position_embeddings": 8}
PARAKEET = {**SMALL, "subsampling_conv_channels": 4, "num_mel_bins": 80}

# model type as published, the encoder's config, and its feature extractor
TINY: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "data2vec-audio": (
        {**CNN, "conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 2},
        "Wav2Vec2FeatureExtractor",
        {},
    ),
    "unispeech": ({**CNN, **LAYER_NORM}, "Wav2Vec2FeatureExtractor", {}),
    "unispeech-sat": ({**CNN, **LAYER_NORM}, "Wav2Vec2FeatureExtractor", {}),
    "sew": (SEW, "Wav2Vec2FeatureExtractor", {}),
    "sew-d": (SEW, "Wav2Vec2FeatureExtractor", {}),
    "omniasr_ctc": (CNN, "OmniASRFeatureExtractor", {}),
    "moonshine": (
        {
            "hidden_size": 16,
            "intermediate_size": 32,
            "encoder_num_hidden_layers": 2,
            "encoder_num_attention_heads": 2,
            "decoder_num_attention_heads": 2,
        },
        "Wav2Vec2FeatureExtractor",
        {"do_normalize": False},
    ),
    "seamless_m4t_v2": (
        {
            **CONFORMER,
            "hidden_size": 16,
            "speech_encoder_layers": 2,
            "speech_encoder_attention_heads": 2,
            "speech_encoder_intermediate_size": 32,
        },
        "SeamlessM4TFeatureExtractor",
        {"feature_size": 80, "num_mel_bins": 80, "stride": 2},
    ),
    "granite_speech": (
        {
            "num_layers": 2,
            "hidden_dim": 16,
            "num_heads": 2,
            "feedforward_mult": 2,
            "context_size": 50,
            "max_pos_emb": 64,
            "output_dim": 5,
        },
        "",
        {},
    ),
    "parakeet_ctc": (PARAKEET, "ParakeetFeatureExtractor", {}),
    "canary": (
        {**PARAKEET, "num_mel_bins": 128},
        "ParakeetFeatureExtractor",
        {"feature_size": 128},
    ),
    "qwen3_asr": (QWEN3, "Qwen3ASRFeatureExtractor", {}),
    "qwen3_omni_moe": (
        {**QWEN3, "output_dim": 24},
        "WhisperFeatureExtractor",
        {"feature_size": 128},
    ),
    "voxtral": (
        {**SMALL, "num_mel_bins": 128, "vocab_size": 8},
        "WhisperFeatureExtractor",
        {"feature_size": 128},
    ),
    "glmasr": ({**SMALL, "num_mel_bins": 128}, "WhisperFeatureExtractor", {"feature_size": 128}),
    "qwen2_audio": (QWEN, "WhisperFeatureExtractor", {"feature_size": 128}),
    "audioflamingo3": (SMALL, "WhisperFeatureExtractor", {"feature_size": 128}),
    "audio-spectrogram-transformer": (SMALL, "ASTFeatureExtractor", {}),
    "clap": (
        {
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 1, 1, 1],
            "patch_embeds_hidden_size": 4,
            "hidden_size": 32,
            "enable_patch_layer_norm": True,
        },
        "ClapFeatureExtractor",
        {"truncation": "rand_trunc"},
    ),
}


@cache
def tiny_encoder(model_type: str) -> Path:
    """Save the encoder of a model type as a part of its model, as far as it is one."""
    import torch
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(0)
    options, extractor, preparation = TINY[model_type]
    folder = new_folder(f"tiny-{model_type}")
    if model_type not in PARTS:
        config = transformers.AutoConfig.for_model(model_type, **options)
        enlarged(transformers.AutoModel.from_config(config)).save_pretrained(folder)
    else:
        encoder = encoder_class(model_type)
        config = encoder.config_class(**options)
        own = config.to_dict()
        for key in reversed(PARTS[model_type].config):
            own = {key: own}
        if PARTS[model_type].config:
            transformers.AutoConfig.for_model(model_type, **own).save_pretrained(folder)
        else:
            config.save_pretrained(folder)
        prefix = PUBLISHED.get(model_type, PARTS[model_type].tensors)
        tensors = {f"{prefix}.{k}": v for k, v in enlarged(encoder(config)).state_dict().items()}
        tensors["language_model.embed_tokens.weight"] = torch.zeros(2, 2)  # what is left on disk
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    if extractor:
        getattr(transformers, extractor)(**preparation).save_pretrained(folder)
    return folder


PUBLISHED = {  # what the tensors of an encoder begin with, where it is more than its name
    "canary": "model.encoder",
    "moonshine": "model.encoder",
    "qwen3_omni_moe": "thinker.audio_tower",
    "omniasr_ctc": "model.audio_tower",
}


def encoder_class(model_type: str) -> Any:
    """Return transformers' class of the encoder in a model."""
    module, name = FAMILIES[PARTS[model_type].model_type].encoder.split(".")
    return getattr(import_module(f"transformers.models.{module}.modeling_{module}"), name)
