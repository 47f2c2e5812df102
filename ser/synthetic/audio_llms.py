"""Tiny audio language models with random weights, of the classes that `local_audio_llm` runs."""

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ser.synthetic.encoders import QWEN, QWEN3
from ser.synthetic.processors import TekkenProcessor, granite_tokenizer, tokenizer
from ser.synthetic.recognizers import (
    DECODER,
    DIM,
    IDS,
    SIZES,
    Options,
    enlarged,
    granite_config,
    voxtral_config,
)

CHAT = (
    "{% for part in messages[0]['content'] %}"
    "{{ '<audio>' if part['type'] == 'audio' else part['text'] }}{% endfor %}"
    "{% if add_generation_prompt %}<s>{% endif %}"
)
AUDIO = {
    "qwen2_audio": QWEN,
    "audioflamingo3": SIZES,
    "qwen2_5_omni": {**QWEN, "output_dim": DIM},
    "qwen3_omni_moe": {**QWEN3, "output_dim": DIM},
}
MARKS = {"audio_token": "<audio>", "audio_bos_token": "<on>", "audio_eos_token": "<off>"}
OMNI_CHAT = CHAT.replace("<audio>", "<on><audio><off>")
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
    model = enlarged(cls(cls.config_class(**options)))
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
    import transformers

    if model_type == "voxtral":
        tekken = TekkenProcessor()
        return tekken, voxtral_config(tekken.tokenizer)
    if model_type == "granite_speech":
        granite = granite_tokenizer(texts, ["</think>"])
        return granite, granite_config(granite)
    if model_type in VISION:
        omni = tokenizer(texts, [*MARKS.values(), "</think>"], named=MARKS)
        omni.chat_template = OMNI_CHAT
        return omni, _omni_config(model_type, omni)
    words = tokenizer(texts, ["<audio>", "</think>"])
    processor = {
        "qwen2_audio": transformers.Qwen2AudioProcessor,
        "audioflamingo3": transformers.AudioFlamingo3Processor,
    }[model_type](
        transformers.WhisperFeatureExtractor(feature_size=128),
        words,
        chat_template=CHAT,
        audio_token="<audio>",
    )
    options = {
        "audio_token_id": words.convert_tokens_to_ids("<audio>"),
        "audio_config": AUDIO[model_type],
        "text_config": {**DECODER, "vocab_size": len(words), **IDS},
    }
    return processor, options


def _omni_config(model_type: str, words: Any) -> Options:
    """Return the options of a thinker, for a tokenizer."""
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    text = {**DECODER, "vocab_size": len(words), **IDS, "rope_parameters": rope}
    names = {"audio": "<audio>", "audio_start": "<on>", "audio_end": "<off>"}
    return {
        **{f"{name}_token_id": words.convert_tokens_to_ids(mark) for name, mark in names.items()},
        **{f"{name}_token_id": len(words) for name in ("image", "video", "vision_start")},  # none
        "audio_config": AUDIO[model_type],
        "vision_config": VISION[model_type],
        "text_config": text | (EXPERTS if model_type == "qwen3_omni_moe" else {}),
    }
