"""Tiny recognizers with random weights: the classes of `kind: recognizer`, and Parakeet CTC.

Their chat templates have the parts of the published ones that hold the clip and the language.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
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
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEKKEN = (*SPECIAL, "[INST]", "[/INST]", "[BEGIN_AUDIO]", "[AUDIO]", "[TRANSCRIBE]", "</think>")
CODES = ("<|en|>", "<|de|>", "<|pnc|>")
COHERE = (
    *("▁", "<|startofcontext|>", "<|startoftranscript|>", "<|emo:undefined|>", "<|noitn|>"),
    *("<|notimestamp|>", "<|nodiarize|>"),
)
QWEN = {"audio_token": "<audio>", "audio_bos_token": "<audio_on>", "audio_eos_token": "<audio_off>"}
FASTCONFORMER = {**SIZES, "subsampling_conv_channels": 4, "num_mel_bins": 128}
DECODER = {**SIZES, "num_key_value_heads": 1, "head_dim": 8}
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


def write_recognizer(model_type: str, folder: Path, texts: Sequence[str]) -> None:
    """Write the model of a type, and its processor, whose tokenizer is trained on `texts`."""
    import transformers

    from ser.extract.kinds.recognizer import RECOGNIZERS
    from ser.extract.kinds.speech_models import class_of

    ctc = model_type == "parakeet_ctc"
    processor = _PROCESSORS[model_type](texts)
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
    audio = words.convert_tokens_to_ids("<audio>")
    qwen_audio = {
        "num_mel_bins": 128,
        "encoder_layers": LAYERS,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "d_model": DIM,
        "downsample_hidden_size": 4,
        "output_dim": DIM,
    }
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
            **vocabulary,
            **IDS,
            "hidden_size": DIM,
            "intermediate_size": 32,
            **{f"{part}_num_hidden_layers": LAYERS for part in ("encoder", "decoder")},
            **{f"{part}_num_attention_heads": 2 for part in ("encoder", "decoder")},
        },
        "seamless_m4t_v2": {
            **vocabulary,
            **IDS,
            "hidden_size": DIM,
            "decoder_start_token_id": 2,
            "conv_depthwise_kernel_size": 7,
            "left_max_position_embeddings": 8,
            **{
                f"{part}_{name}": size
                for part in ("encoder", "decoder", "speech_encoder")
                for name, size in (("layers", LAYERS), ("attention_heads", 2))
            },
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "speech_encoder_intermediate_size": 32,
        },
        "parakeet_ctc": parakeet,
        "parakeet_rnnt": transducer,
        "parakeet_tdt": transducer,
        "canary": {
            **vocabulary,
            **IDS,
            "decoder_start_token_id": 1,
            "encoder_config": FASTCONFORMER,
            "decoder_config": {**DECODER, **vocabulary},
        },
        "cohere_asr": {
            **vocabulary,
            **IDS,
            **DECODER,
            "decoder_start_token_id": 1,
            "encoder_config": FASTCONFORMER,
        },
        "qwen3_asr": {
            "audio_token_id": audio,
            "pad_token_id": 0,
            "eos_token_id": 2,
            "audio_config": qwen_audio,
            "text_config": {**DECODER, **vocabulary, **IDS},
        },
        "glmasr": {
            "audio_token_id": audio,
            "audio_config": {**SIZES, "num_mel_bins": 128},
            "text_config": {**DECODER, **vocabulary, **IDS},
        },
        "granite_speech": granite_config(words),
        "voxtral": voxtral_config(words),
        "speech_to_text": {
            **vocabulary,
            **IDS,
            "d_model": DIM,
            "conv_channels": 8,
            **{
                f"{part}_{name}": size
                for part in ("encoder", "decoder")
                for name, size in (("layers", LAYERS), ("attention_heads", 2), ("ffn_dim", 32))
            },
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
            "codec_config": {
                **SIZES,
                "num_filters": 4,
                "codebook_size": 8,
                "codebook_dim": 8,
                "num_quantizers": 2,
                "vector_quantization_hidden_dimension": 8,
                "head_dim": 8,
                "num_key_value_heads": 2,
                "upsample_groups": DIM,
            },
        },
    }


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
    from transformers import (
        Speech2TextFeatureExtractor,
        Speech2TextProcessor,
        Speech2TextTokenizer,
    )

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


_PROCESSORS = {
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
