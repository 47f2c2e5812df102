"""Tiny audio language models with random weights, of the classes that `local_audio_llm` runs."""

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ser.synthetic import sizes
from ser.synthetic.processors import (
    CHAT,
    QWEN,
    TekkenProcessor,
    granite_tokenizer,
    processor_of,
    tokenizer,
)
from ser.synthetic.sizes import DIM, IDS, QWEN2, QWEN3, SIZES, Options

AUDIO = {
    "qwen2_audio": QWEN2,
    "audioflamingo3": SIZES,
    "qwen2_5_omni": {**QWEN2, "output_dim": DIM},
    "qwen3_omni_moe": {**QWEN3, "output_dim": DIM},
}
OMNI_CHAT = CHAT.replace("<audio>", "<audio_on><audio><audio_off>")
VISION_SIZES = {"depth": 1, "hidden_size": DIM, "num_heads": 2, "out_hidden_size": DIM}
VISION: dict[str, Options] = {  # which is not used
    "qwen2_5_omni": {**VISION_SIZES, "fullatt_block_indexes": [0]},
    "qwen3_omni_moe": {**VISION_SIZES, "deepstack_visual_indexes": [0]},
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def write_audio_llm(model_type: str, folder: Path, texts: Sequence[str]) -> None:
    """Write the model of a type, and its processor, whose tokenizer is trained on `texts`."""
    import transformers

    from ser.extract.kinds.local_audio_llm import MODELS
    from ser.extract.kinds.speech_models import class_of

    cls = class_of(MODELS[model_type][0])
    processor, options = _parts(model_type, [*texts, " ".join(string.ascii_uppercase)])
    model = sizes.enlarged(cls(cls.config_class(**options)))
    model.generation_config = transformers.GenerationConfig(**IDS)
    if model_type in VISION:
        _write_whole(model_type, folder, model)
    else:
        model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _write_whole(model_type: str, folder: Path, thinker: Any) -> None:
    """Write a thinker as a part of its model, which is how it is published."""
    import transformers
    from safetensors.torch import load_file, save_file

    thinker.save_pretrained(folder)
    path = folder / "model.safetensors"
    tensors = {f"thinker.{name}": tensor for name, tensor in load_file(path).items()}
    tensors["talker.codec_head.weight"] = tensors["thinker.lm_head.weight"].clone()  # left on disk
    save_file(tensors, path, {"format": "pt"})
    options = {"thinker_config": thinker.config.to_dict()}
    transformers.AutoConfig.for_model(model_type, **options).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=128).save_pretrained(folder)


def _parts(model_type: str, texts: Sequence[str]) -> tuple[Any, Options]:
    """Return the processor of a type, or what is read of it, and the options of its config."""
    if model_type == "voxtral":
        tekken = TekkenProcessor()
        return tekken, sizes.voxtral(tekken.tokenizer)
    if model_type == "granite_speech":
        granite = granite_tokenizer(texts, ["</think>"])
        return granite, sizes.granite(granite)
    if model_type in VISION:
        omni = tokenizer(texts, [*QWEN.values(), "</think>"], named=QWEN)
        omni.chat_template = OMNI_CHAT
        return omni, _omni_config(model_type, omni)
    processor = processor_of(model_type, texts)
    return processor, sizes.language_model(processor.tokenizer, AUDIO[model_type])


def _omni_config(model_type: str, words: Any) -> Options:
    """Return the options of a thinker, for a tokenizer."""
    options = sizes.language_model(words, AUDIO[model_type])
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    options["text_config"] |= {"rope_parameters": rope}
    options["text_config"] |= EXPERTS if model_type == "qwen3_omni_moe" else {}
    return {
        **options,
        "audio_start_token_id": words.convert_tokens_to_ids(QWEN["audio_bos_token"]),
        "audio_end_token_id": words.convert_tokens_to_ids(QWEN["audio_eos_token"]),
        **{f"{name}_token_id": len(words) for name in ("image", "video", "vision_start")},  # none
        "vision_config": VISION[model_type],
    }
