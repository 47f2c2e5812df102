"""The processors of tiny recognizers and audio language models, with trained tokenizers.

Their chat templates have the parts of the published ones that hold the clip and the language.
"""

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
TEKKEN = (*SPECIAL, "[INST]", "[/INST]", "[BEGIN_AUDIO]", "[AUDIO]", "[TRANSCRIBE]", "</think>")
CODES = ("<|en|>", "<|de|>", "<|pnc|>")
COHERE = (
    *("▁", "<|startofcontext|>", "<|startoftranscript|>", "<|emo:undefined|>", "<|noitn|>"),
    *("<|notimestamp|>", "<|nodiarize|>"),
)
QWEN = {"audio_token": "<audio>", "audio_bos_token": "<audio_on>", "audio_eos_token": "<audio_off>"}
CANARY_CHAT = (
    "{% for part in messages[0]['content'] %}{% if part['type'] == 'text' %}<s>"
    "<|{{ part['source_language'] }}|><|{{ part['target_language'] }}|><|pnc|>"
    "{% endif %}{% endfor %}"
)
QWEN_CHAT = (
    "{% for message in messages %}<s>{{ message['role'] }} {% for part in message['content'] %}"
    "{{ '<audio_on><audio><audio_off>' if part['type'] == 'audio' else part['text'] }}"
    "{% endfor %}{% endfor %}"
)
PARTS_CHAT = (
    "{% for part in messages[0]['content'] %}"
    "{{ '<audio>' if part['type'] == 'audio' else part['text'] }}{% endfor %}"
)
CHAT = PARTS_CHAT + "{% if add_generation_prompt %}<s>{% endif %}"
GRANITE_CHAT = (
    "{% for message in messages %}<s>{{ message['role'] }} {{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}</s>{% endif %}"
)
MELS = {"feature_size": 128}
PARAKEETS = ("parakeet_ctc", "parakeet_rnnt", "parakeet_tdt")
# of each processor and of its feature extractor in transformers, with the options of the latter
CLASSES: dict[str, tuple[str, str, Mapping[str, object]]] = {
    "moonshine": ("Wav2Vec2Processor", "Wav2Vec2FeatureExtractor", {"do_normalize": False}),
    "seamless_m4t_v2": ("SeamlessM4TProcessor", "SeamlessM4TFeatureExtractor", {}),
    **dict.fromkeys(PARAKEETS, ("ParakeetProcessor", "ParakeetFeatureExtractor", MELS)),
    "canary": ("CanaryProcessor", "ParakeetFeatureExtractor", MELS),
    "cohere_asr": ("CohereAsrProcessor", "CohereAsrFeatureExtractor", MELS),
    "qwen3_asr": ("Qwen3ASRProcessor", "Qwen3ASRFeatureExtractor", {}),
    "glmasr": ("GlmAsrProcessor", "WhisperFeatureExtractor", MELS),
    "qwen2_audio": ("Qwen2AudioProcessor", "WhisperFeatureExtractor", MELS),
    "audioflamingo3": ("AudioFlamingo3Processor", "WhisperFeatureExtractor", MELS),
    "kyutai_speech_to_text": (
        *("KyutaiSpeechToTextProcessor", "KyutaiSpeechToTextFeatureExtractor"),
        {"audio_delay_seconds": 0.5},
    ),
}
TOKENS = {  # of the tokenizers, beside SPECIAL
    **dict.fromkeys(PARAKEETS, ("<blank>",)),
    "canary": CODES,
    "cohere_asr": CODES + COHERE,
    "qwen3_asr": tuple(QWEN.values()),
    "glmasr": ("<audio>",),
    **dict.fromkeys(("qwen2_audio", "audioflamingo3"), ("<audio>", "</think>")),
    "kyutai_speech_to_text": ("<start>",),
}
LISTENING = {"chat_template": CHAT, "audio_token": "<audio>"}
CHATS = {  # options of the processors
    "canary": {"chat_template": CANARY_CHAT},
    "qwen3_asr": {"chat_template": QWEN_CHAT},
    "glmasr": {"chat_template": PARTS_CHAT + "</s>", "audio_token": "<audio>"},
    "qwen2_audio": LISTENING,
    "audioflamingo3": LISTENING,
}


def byte_pairs(texts: Sequence[str], special: Sequence[str]) -> Any:
    """Return a tokenizer of bytes and pairs of them, of the package tokenizers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=[*special], show_progress=False)
    raw.train_from_iterator(texts, trainer)
    return raw


def tokenizer(
    texts: Sequence[str],
    special: Sequence[str] = (),
    cls: str = "PreTrainedTokenizerFast",
    named: Mapping[str, str] = {},
) -> Any:
    """Return a tokenizer of transformers with the tokens `SPECIAL` and `special`."""
    import transformers

    names = ("pad_token", "bos_token", "eos_token", "unk_token")
    return getattr(transformers, cls)(
        tokenizer_object=byte_pairs(texts, (*SPECIAL, *special)),
        extra_special_tokens=dict(named),
        **dict(zip(names, SPECIAL, strict=True)),
    )


def processor_of(model_type: str, texts: Sequence[str]) -> Any:
    """Return the processor of a model type, or what is read of it."""
    import transformers

    if model_type in OWN:
        return OWN[model_type](texts)
    name, extractor, options = CLASSES[model_type]
    words = tokenizer(
        texts,
        TOKENS.get(model_type, ()),
        "ParakeetTokenizer" if model_type in PARAKEETS else "PreTrainedTokenizerFast",
        QWEN if model_type == "qwen3_asr" else {},
    )
    prepare = getattr(transformers, extractor)(**options)
    return getattr(transformers, name)(prepare, words, **CHATS.get(model_type, {}))


def granite_tokenizer(texts: Sequence[str], special: Sequence[str] = ()) -> Any:
    """Return the tokenizer of Granite Speech, which is all that is read of its processor."""
    words = tokenizer(texts, ["<|audio|>", *special])
    words.chat_template = GRANITE_CHAT
    return words


class TekkenProcessor:
    """The files of Voxtral's processor: a tekken.json of bytes, and the sizes of its log-mels."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        from transformers.integrations.mistral.tokenizer import convert_tekken_tokenizer

        with TemporaryDirectory() as folder:
            self.save_pretrained(Path(folder))
            self.tokenizer = convert_tekken_tokenizer(f"{folder}/tekken.json")

    def save_pretrained(self, folder: Path) -> None:
        """Write the files."""
        from transformers import WhisperFeatureExtractor

        vocabulary = [base64.b64encode(bytes([i])).decode() for i in range(256)]
        content = {
            "config": {
                "pattern": "[a-z]+|[^a-z]",
                "default_vocab_size": len(vocabulary) + len(TEKKEN),
                "default_num_special_tokens": len(TEKKEN),
            },
            "vocab": [{"rank": i, "token_bytes": token} for i, token in enumerate(vocabulary)],
            "special_tokens": [{"rank": i, "token_str": mark} for i, mark in enumerate(TEKKEN)],
        }
        (folder / "tekken.json").write_text(json.dumps(content))
        WhisperFeatureExtractor(feature_size=128).save_pretrained(folder)


def _speech_to_text(texts: Sequence[str]) -> Any:
    """Return the processor of Speech2Text, whose tokenizer is one of sentencepiece's."""
    import sentencepiece
    from transformers import Speech2TextFeatureExtractor, Speech2TextProcessor, Speech2TextTokenizer

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="char",
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    vocabulary = {pieces.id_to_piece(i): i for i in range(len(pieces))}
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spm.model").write_bytes(model.getvalue())
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        files = (str(folder / "vocab.json"), str(folder / "spm.model"))
        words = Speech2TextTokenizer(*files)
    return Speech2TextProcessor(Speech2TextFeatureExtractor(), words)


OWN: dict[str, Callable[[Sequence[str]], Any]] = {
    "granite_speech": granite_tokenizer,
    "voxtral": TekkenProcessor,
    "speech_to_text": _speech_to_text,
}
