"""The processors of recognizers and audio language models: transformers', or one of our own.

Those of our own give what transformers' do, without what these need: torchaudio for the log-mels of
Granite Speech, mistral-common for the tokens of Voxtral, torchvision for the images of Qwen-Omni.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoProcessor, AutoTokenizer, WhisperFeatureExtractor

from ser.extract.encoding import LONGEST_CONFIG, dtype_on, json_object, read_config
from ser.extract.extractor import SAMPLE_RATE
from ser.extract.kinds.speech_families import FAMILIES
from ser.extract.kinds.speech_inputs import granite_mels
from ser.extract.kinds.speech_models import class_of, load_with_head
from ser.extract.loading import named_errors

Messages = list[dict[str, Any]]
Waves = list[np.ndarray]
QUESTION = "can you transcribe the speech into a written format?"  # that Granite was trained on
WINDOW = 30 * SAMPLE_RATE  # samples, of Voxtral's encoder
WINDOW_TOKENS = 375


def load_processor(model: str, model_type: str, folder: Path) -> Any:
    """Return the processor of a model of a type; raises `UserError` where it cannot be loaded."""
    with named_errors(model):
        if model_type in OWN:
            return OWN[model_type](folder)
        return AutoProcessor.from_pretrained(folder, trust_remote_code=False)


def load_generator(model: str, cls: str, folder: Path, head: str, device: str) -> tuple[Any, Any]:
    """Return a model of the class `module.Class` of transformers on a device, and its processor.

    `head` names what the model has, for messages. Raises `UserError` where either cannot be loaded.
    """
    loaded_class = class_of(cls)
    mapping = {loaded_class.config_class: loaded_class}
    loaded = load_with_head(model, folder, mapping, head, dtype_on(device))
    return loaded.eval().to(device), load_processor(model, loaded.config.model_type, folder)


def inputs_on(model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a processor gives on the device of a model, floats in the type of its weights."""
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else None)
        if isinstance(value, Tensor)
        else value
        for name, value in given.items()
    }


class GraniteProcessor:
    """The processor of Granite Speech, for waveforms of one length."""

    AUDIO = "<|audio|>"

    def __init__(self, folder: Path) -> None:
        config: dict[str, Any] = read_config(folder)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self._window = int(config.get("window_size", 15))  # frames, each of two rows of log-mels
        self._tokens = self._window // int(config.get("downsample_rate", 5))  # of a window

    def __call__(self, text: list[str], audio: Waves, **_: object) -> dict[str, Any]:
        """Return the model's inputs for prompts, each with the mark of a clip."""
        features = torch.from_numpy(np.stack([granite_mels(wave) for wave in audio]))
        tokens = -(-features.shape[1] // self._window) * self._tokens
        prompts = [prompt.replace(self.AUDIO, self.AUDIO * tokens) for prompt in text]
        return {
            **self.tokenizer(prompts, return_tensors="pt"),
            "input_features": features,
            "input_features_mask": torch.ones(len(audio), tokens, dtype=torch.bool),
        }

    def apply_chat_template(self, messages: Messages, **options: Any) -> str:
        """Return the prompt of a message whose parts are a clip and a text."""
        (message,) = messages
        parts = (part.get("text", self.AUDIO) for part in message["content"])
        plain = {"role": message["role"], "content": "".join(parts)}
        prompt: str = self.tokenizer.apply_chat_template([plain], **options)
        return prompt

    def apply_transcription_request(self, audio: Waves) -> dict[str, Any]:
        """Return the inputs for the words of clips."""
        content = [{"type": "audio"}, {"type": "text", "text": QUESTION}]
        prompt = self.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return self([prompt] * len(audio), audio)


class VoxtralProcessor:
    """The processor of Voxtral, with the tokens of the model's tekken.json."""

    AUDIO = "[AUDIO]"

    def __init__(self, folder: Path) -> None:
        from transformers.integrations.mistral.tokenizer import convert_tekken_tokenizer

        self.tokenizer: Any = convert_tekken_tokenizer(str(folder / "tekken.json"))
        self._extractor: Any = WhisperFeatureExtractor.from_pretrained(folder)

    def __call__(self, text: list[str], audio: Waves, **_: object) -> dict[str, Any]:
        """Return the model's inputs for prompts, each with the mark of a clip."""
        features = [self._windows(wave) for wave in audio]
        prompts = [
            prompt.replace(self.AUDIO, self.AUDIO * WINDOW_TOKENS * len(own))
            for prompt, own in zip(text, features, strict=True)
        ]
        options = {"add_special_tokens": False, "padding": True, "padding_side": "left"}
        tokens = self.tokenizer(prompts, return_tensors="pt", **options)
        return {
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
            "input_features": torch.cat(features),
        }

    def _windows(self, wave: np.ndarray) -> torch.Tensor:
        """Return the log-mels of a clip in windows of 30 s, `(windows, bands, rows)`."""
        given = self._extractor(
            wave,
            sampling_rate=SAMPLE_RATE,
            padding=True,
            truncation=False,
            pad_to_multiple_of=WINDOW,
            return_tensors="pt",
        )
        (mels,) = given["input_features"]
        return torch.stack(mels.split(WINDOW // self._extractor.hop_length, dim=-1))

    def apply_chat_template(self, messages: Messages, **_: object) -> str:
        """Return the prompt of a message whose parts are a clip and a text."""
        (message,) = messages
        mark = f"[BEGIN_AUDIO]{self.AUDIO}"
        parts = (part.get("text", mark) for part in message["content"])
        return f"<s>[INST]{''.join(parts)}[/INST]"

    def apply_transcription_request(self, audio: Waves, language: str) -> dict[str, Any]:
        """Return the inputs for the words of clips in a language."""
        prompt = f"<s>[INST][BEGIN_AUDIO]{self.AUDIO}[/INST]lang:{language}[TRANSCRIBE]"
        return self([prompt] * len(audio), audio)


class OmniProcessor:
    """The processor of Qwen2.5-Omni, for waveforms of one length."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self._extractor: Any = WhisperFeatureExtractor.from_pretrained(folder)
        template = json_object(folder / "chat_template.json", LONGEST_CONFIG) or {}
        self._template = template.get("chat_template")  # else that of the tokenizer

    def __call__(self, text: list[str], audio: Waves, **_: object) -> dict[str, Any]:
        """Return the model's inputs for prompts, each with the mark of a clip."""
        given = self._extractor(
            audio,
            sampling_rate=SAMPLE_RATE,
            padding="longest",
            truncation=False,
            return_attention_mask=True,
            return_tensors="pt",
        )
        mask = given["attention_mask"]
        mark = self.tokenizer.audio_token
        tokens = mark * self.tokens(int(mask[0].sum()))
        prompts = [prompt.replace(mark, tokens) for prompt in text]
        return {
            **self.tokenizer(prompts, return_tensors="pt"),
            "input_features": given["input_features"],
            "feature_attention_mask": mask,
        }

    def tokens(self, rows: int) -> int:
        """Return the tokens of rows of log-mels: a pair of each other row's."""
        return (rows + 1) // 4

    def apply_chat_template(self, messages: Messages, **options: Any) -> str:
        """Return the prompt of a message whose parts are a clip and a text."""
        options = {"chat_template": self._template, **options}
        prompt: str = self.tokenizer.apply_chat_template(messages, **options)
        return prompt


class MoeOmniProcessor(OmniProcessor):
    """The processor of Qwen3-Omni, for waveforms of one length."""

    def tokens(self, rows: int) -> int:
        """Return the tokens of rows of log-mels: 13 of a second."""
        return FAMILIES["qwen3_omni_moe_audio_encoder"].frames_of_rows(rows)


OWN = {
    "granite_speech": GraniteProcessor,
    "voxtral": VoxtralProcessor,
    "qwen2_5_omni_thinker": OmniProcessor,
    "qwen3_omni_moe_thinker": MoeOmniProcessor,
}
