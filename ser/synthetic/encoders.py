"""Tiny audio encoders of the true classes, each in the form that its model is published in."""

import json
import math
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from ser.extract.kinds.speech_families import FAMILIES, PARTS
from ser.extract.registry import card
from ser.synthetic.sizes import (
    FASTCONFORMER,
    GLM,
    GRANITE,
    MOONSHINE,
    QWEN2,
    QWEN3,
    SEAMLESS,
    SIZES,
    Options,
    enlarged,
)
from ser.synthetic.spear import Shapes, SpearSizes, with_bias, write_spear

DEPTH = {  # keys of configs
    *("num_hidden_layers", "encoder_num_hidden_layers", "encoder_layers"),
    *("speech_encoder_layers", "num_layers"),
}
CNN = {
    **SIZES,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
SEW = {**CNN, "conv_dim": (8,) * 13}
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}


@dataclass(frozen=True)
class Tiny:
    """The sizes of an encoder, and its feature extractor ("" for none) with its options."""

    sizes: Options
    extractor: str = "Wav2Vec2FeatureExtractor"
    preparation: Options = field(default_factory=dict)


LOG_MELS: tuple[str, Options] = ("WhisperFeatureExtractor", {"feature_size": 128})
TINY = {  # by the model type as published
    "data2vec-audio": Tiny({**CNN, "conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 2}),
    "unispeech": Tiny({**CNN, **LAYER_NORM}),
    "unispeech-sat": Tiny({**CNN, **LAYER_NORM}),
    "sew": Tiny(SEW),
    "sew-d": Tiny(SEW),
    "omniasr_ctc": Tiny(CNN, "OmniASRFeatureExtractor"),
    "moonshine": Tiny(MOONSHINE, preparation={"do_normalize": False}),
    "seamless_m4t_v2": Tiny(SEAMLESS, "SeamlessM4TFeatureExtractor"),
    "granite_speech": Tiny(GRANITE, ""),
    "parakeet_ctc": Tiny({**FASTCONFORMER, "num_mel_bins": 80}, "ParakeetFeatureExtractor"),
    "canary": Tiny(FASTCONFORMER, "ParakeetFeatureExtractor", {"feature_size": 128}),
    "qwen3_asr": Tiny(QWEN3, "Qwen3ASRFeatureExtractor"),
    "qwen3_omni_moe": Tiny({**QWEN3, "output_dim": 24}, *LOG_MELS),
    "voxtral": Tiny({**GLM, "vocab_size": 8}, *LOG_MELS),
    "glmasr": Tiny(GLM, *LOG_MELS),
    "qwen2_audio": Tiny(QWEN2, *LOG_MELS),
    "audioflamingo3": Tiny(SIZES, *LOG_MELS),
    "audio-spectrogram-transformer": Tiny(SIZES, "ASTFeatureExtractor"),
    "clap": Tiny(
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
TYPES = (*TINY, "dasheng", "spear")


def encoder_like(model: str, model_type: str) -> str | None:
    """Return the type of the tiny encoder for a model of a type, or with a card; None for none."""
    published = card(model)
    family = published.encoder if published else ""
    families = {name: PARTS[name].model_type if name in PARTS else name for name in TYPES}
    return next((n for n in TYPES if n == model_type or families[n] == family), None)


def write_encoder(model_type: str, folder: Path, layers: int) -> None:
    """Write the encoder of a model type, as a part of its model as far as it is one."""
    import torch
    import transformers
    from safetensors.torch import save_file

    if model_type == "dasheng":
        write_dasheng(folder, 24, layers, 3)
        return
    if model_type == "spear":
        sizes = SpearSizes(24, 48, 2, layers=(1, layers - 1), steps=(1, 2), kernels=(7, 5))
        write_spear(folder, sizes)
        return
    tiny = TINY[model_type]
    options = {key: layers if key in DEPTH else value for key, value in tiny.sizes.items()}
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
    if tiny.extractor:
        getattr(transformers, tiny.extractor)(**tiny.preparation).save_pretrained(folder)


def write_dasheng(folder: Path, dim: int, depth: int, heads: int) -> None:
    """Write Dasheng with random weights, and those of a classifier, as it is published."""
    import torch
    from safetensors.torch import save_file

    sizes = {"embed_dim": dim, "depth": depth, "num_heads": heads}
    config = {"model_type": "dasheng", "encoder_kwargs": sizes}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {"outputlayer.0.weight": torch.zeros(2, dim)}
    for name, shape in dasheng_shapes(dim, depth).items():
        tensors[f"encoder.{name}"] = torch.randn(shape) * math.prod(shape[1:]) ** -0.5
    norm = "encoder.init_bn.1"
    tensors[f"{norm}.running_mean"] -= 30.0  # dB
    tensors[f"{norm}.running_var"] = 300.0 + 100.0 * tensors[f"{norm}.running_var"].abs()
    tensors[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    save_file(tensors, folder / "model.safetensors")


def dasheng_shapes(dim: int, depth: int) -> Shapes:
    """Return the shapes of Dasheng's tensors."""
    shapes: Shapes = {
        **{f"init_bn.1.{n}": (64,) for n in ("weight", "bias", "running_mean", "running_var")},
        **with_bias("patch_embed.proj", dim, 1, 64, 4),
        "time_pos_embed": (1, dim, 1, 252),
        "freq_pos_embed": (1, dim, 1, 1),
        **with_bias("norm", dim),
    }
    linear = {"attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim)}
    linear |= {"mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim)}
    for block in (f"blocks.{i}" for i in range(depth)):
        for name, shape in (*linear.items(), ("norm1", (dim,)), ("norm2", (dim,))):
            shapes |= with_bias(f"{block}.{name}", *shape)
    return shapes


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
