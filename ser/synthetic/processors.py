"""The processors of tiny recognizers, whose tokenizers are trained on a few texts.

Their chat templates have the parts of the published ones that hold the clip and the language.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
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
GLM_CHAT = (
    "{% for part in messages[0]['content'] %}"
    "{{ '<audio>' if part['type'] == 'audio' else part['text'] }}{% endfor %}</s>"
)
GRANITE_CHAT = (
    "{% for message in messages %}<s>{{ message['role'] }} {{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}</s>{% endif %}"
)


def tokenizer(
    texts: Sequence[str],
    special: Sequence[str] = (),
    cls: str = "PreTrainedTokenizerFast",
    named: Mapping[str, str] = {},
) -> Any:
    """Return a tokenizer of bytes and pairs of them."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    marks = [*SPECIAL, *special]
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=marks, show_progress=False)
    raw.train_from_iterator(texts, trainer)
    names = ("pad_token", "bos_token", "eos_token", "unk_token")
    return getattr(transformers, cls)(
        tokenizer_object=raw,
        extra_special_tokens=dict(named),
        **dict(zip(names, SPECIAL, strict=True)),
    )


def _moonshine(texts: Sequence[str]) -> Any:
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Processor

    return Wav2Vec2Processor(Wav2Vec2FeatureExtractor(do_normalize=False), tokenizer(texts))


def _seamless(texts: Sequence[str]) -> Any:
    from transformers import SeamlessM4TFeatureExtractor, SeamlessM4TProcessor

    return SeamlessM4TProcessor(SeamlessM4TFeatureExtractor(), tokenizer(texts))


def _parakeet(texts: Sequence[str]) -> Any:
    from transformers import ParakeetFeatureExtractor, ParakeetProcessor

    words = tokenizer(texts, ["<blank>"], "ParakeetTokenizer")
    return ParakeetProcessor(ParakeetFeatureExtractor(feature_size=128), words)


def _canary(texts: Sequence[str]) -> Any:
    from transformers import CanaryProcessor, ParakeetFeatureExtractor

    extractor = ParakeetFeatureExtractor(feature_size=128)
    return CanaryProcessor(extractor, tokenizer(texts, CODES), chat_template=CANARY_CHAT)


def _cohere(texts: Sequence[str]) -> Any:
    from transformers import CohereAsrFeatureExtractor, CohereAsrProcessor

    words = tokenizer(texts, [*CODES, *COHERE])
    return CohereAsrProcessor(CohereAsrFeatureExtractor(feature_size=128), words)


def _qwen3(texts: Sequence[str]) -> Any:
    from transformers import Qwen3ASRFeatureExtractor, Qwen3ASRProcessor

    words = tokenizer(texts, list(QWEN.values()), named=QWEN)
    return Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(), words, chat_template=QWEN_CHAT)


def _glm(texts: Sequence[str]) -> Any:
    from transformers import GlmAsrProcessor, WhisperFeatureExtractor

    extractor, words = WhisperFeatureExtractor(feature_size=128), tokenizer(texts, ["<audio>"])
    return GlmAsrProcessor(extractor, words, chat_template=GLM_CHAT, audio_token="<audio>")


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


def _kyutai(texts: Sequence[str]) -> Any:
    from transformers import KyutaiSpeechToTextFeatureExtractor, KyutaiSpeechToTextProcessor

    extractor = KyutaiSpeechToTextFeatureExtractor(audio_delay_seconds=0.5)
    return KyutaiSpeechToTextProcessor(extractor, tokenizer(texts, ["<start>"]))


PROCESSORS = {
    "moonshine": _moonshine,
    "seamless_m4t_v2": _seamless,
    "parakeet_ctc": _parakeet,
    "parakeet_rnnt": _parakeet,
    "parakeet_tdt": _parakeet,
    "canary": _canary,
    "cohere_asr": _cohere,
    "qwen3_asr": _qwen3,
    "glmasr": _glm,
    "granite_speech": granite_tokenizer,
    "voxtral": TekkenProcessor,
    "speech_to_text": _speech_to_text,
    "kyutai_speech_to_text": _kyutai,
}
