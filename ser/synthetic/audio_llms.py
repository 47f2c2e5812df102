"""Tiny audio language models with random weights, of the classes that `local_audio_llm` runs."""

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ser.synthetic.encoders import QWEN
from ser.synthetic.recognizers import (
    DECODER,
    IDS,
    SIZES,
    TekkenProcessor,
    enlarged,
    granite_config,
    granite_tokenizer,
    tokenizer,
    voxtral_config,
)

CHAT = (
    "{% for part in messages[0]['content'] %}"
    "{{ '<audio>' if part['type'] == 'audio' else part['text'] }}{% endfor %}"
    "{% if add_generation_prompt %}<s>{% endif %}"
)
AUDIO = {"qwen2_audio": QWEN, "audioflamingo3": SIZES}


def write_audio_llm(model_type: str, folder: Path, texts: Sequence[str]) -> None:
    """Write the model of a type, and its processor, whose tokenizer is trained on `texts`."""
    import transformers

    from ser.extract.kinds.local_audio_llm import MODELS
    from ser.extract.kinds.speech_models import class_of

    cls = class_of(MODELS[model_type][0])
    processor, options = _parts(model_type, [*texts, " ".join(string.ascii_uppercase)])
    model = enlarged(cls(cls.config_class(**options)))
    model.generation_config = transformers.GenerationConfig(**IDS)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _parts(model_type: str, texts: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Return the processor of a type, or what is read of it, and the options of its config."""
    import transformers

    if model_type == "voxtral":
        tekken = TekkenProcessor()
        return tekken, voxtral_config(tekken.tokenizer)
    if model_type == "granite_speech":
        granite = granite_tokenizer(texts, ["</think>"])
        return granite, granite_config(granite)
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
