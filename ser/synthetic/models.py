"""Tiny models with random weights, of the same architecture as the ones that they replace.

The architecture is the one in config.json of the model's folder, otherwise it follows from the
name: the classes of transformers, their norms and their tokenizers' marks are as published, the
sizes are not. FACodec has no sizes to change, so its stand-in is as large as the real one.
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ser.corpus.errors import UserError, listed
from ser.extract.encoding import LONGEST_CONFIG, json_object
from ser.extract.models import FACODEC_FILES
from ser.extract.registry import card
from ser.synthetic.audio_llms import write_audio_llm
from ser.synthetic.encoders import encoder_like, write_encoder
from ser.synthetic.recognizers import write_recognizer, write_whisper
from ser.synthetic.sizes import Options, enlarged

MELS = "wav2vec2-bert"  # the only encoder here that reads log-mels
LAYERS = 4  # `sum:-4:` has something to sum
DIM = 32
WINDOW = 64  # tokens
SIZES: Options = {
    "hidden_size": DIM,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
SPEECH = (
    # a part of the name, and the architecture; the first match counts
    ("w2v-bert", "wav2vec2-bert"),
    ("conformer", "wav2vec2-conformer"),
    ("wavlm", "wavlm"),
    ("hubert", "hubert"),
    ("wav2vec2", "wav2vec2"),
    ("xls", "wav2vec2"),
)
CTC = (("parakeet", "parakeet_ctc"), *SPEECH[1:])
RECOGNIZER = (
    ("moonshine", "moonshine"),
    ("seamless", "seamless_m4t_v2"),
    ("rnnt", "parakeet_rnnt"),
    ("tdt", "parakeet_tdt"),
    ("canary", "canary"),
    ("cohere", "cohere_asr"),
    ("qwen3-asr", "qwen3_asr"),
    ("glm-asr", "glmasr"),
    ("granite", "granite_speech"),
    ("voxtral", "voxtral"),
    ("s2t", "speech_to_text"),
    ("kyutai/stt", "kyutai_speech_to_text"),
)
AUDIO_LLM = (
    ("qwen2-audio", "qwen2_audio"),
    ("flamingo", "audioflamingo3"),
    ("qwen2.5-omni", "qwen2_5_omni"),
    ("qwen3-omni", "qwen3_omni_moe"),
    ("voxtral", "voxtral"),
    ("granite", "granite_speech"),
)
TEXT = (
    ("modernbert", "modernbert"),
    ("deberta-v", "deberta-v2"),
    ("roberta", "roberta"),
    ("bert", "bert"),
    ("minilm", "bert"),
    ("t5", "t5"),
    ("llama", "llama"),
    ("mistral", "mistral"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("gemma", "gemma3_text"),
)
DECODER = {"num_key_value_heads": 1, "pad_token_id": None}
BY_ARCHITECTURE: dict[str, Options] = {
    MELS: {
        "vocab_size": 8,
        "conv_depthwise_kernel_size": 7,
        "left_max_position_embeddings": 8,
        "right_max_position_embeddings": 4,
    },
    "roberta": {"max_position_embeddings": WINDOW + 2},  # the first two rows are padding's
    "deberta-v2": {  # as published, unlike the defaults of the class
        "relative_attention": True,
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
    "modernbert": {"local_attention": 8},
    "t5": {"d_model": DIM, "d_ff": 64, "num_layers": LAYERS, "num_heads": 2, "d_kv": 16},
    "llama": DECODER,
    "mistral": DECODER | {"sliding_window": None},
    "qwen2": DECODER,
    "qwen3": DECODER | {"head_dim": 16},
    "gemma3_text": DECODER | {"head_dim": 16, "use_bidirectional_attention": True},
}
# what a tokenizer adds to a text
MARKED = "<s> $A </s>"
MARKS = {"t5": "$A </s>", "llama": "<s> $A", "mistral": "<s> $A", "qwen2": "$A", "qwen3": "$A </s>"}
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def tiny_model(kind: str, model: str, folder: Path, texts: Sequence[str]) -> Path:
    """Write the stand-in of a model to its own folder in `folder`; return that folder.

    `kind` is a feature's, of those that run a model on this machine. Its tokenizer is
    trained on `texts`. The same model gives the same weights. Raises `UserError` for a model of an
    unknown architecture.
    """
    import torch
    from transformers.utils import logging

    published = card(model)
    name = published.hub if published else model
    target = folder / f"{'whisper' if kind == 'asr' else kind}-{Path(name).name.lower()}"
    if target.exists():  # features share models
        return target
    target.mkdir(parents=True)
    logging.disable_progress_bar()
    torch.manual_seed(zlib.crc32(name.encode()))
    if kind == "facodec":
        from ser.extract.kinds.facodec_model import Decoder, Encoder

        for network, file in zip((Encoder(), Decoder()), FACODEC_FILES, strict=True):
            torch.save(network.state_dict(), target / file)
    elif kind in ("whisper", "asr"):
        mels = 128 if "large-v3" in name else 80
        write_whisper(target, texts, mels, (LAYERS, 1), std=0.5)
    elif kind == "speech" and (own := encoder_like(name, str(_config(name).get("model_type")))):
        write_encoder(own, target, LAYERS)
    elif kind == "speech":
        write_speech(target, _architecture(name, SPEECH), _norm(name))
    elif kind == "ctc" and _architecture(name, CTC) != "parakeet_ctc":
        letters = sorted(set("".join(texts).upper()) - {" "})
        tokens = ["<pad>", "<unk>", "|", *letters]
        write_speech(target, _architecture(name, CTC), _norm(name), tokens)
    elif kind in ("ctc", "recognizer"):
        by_name = CTC if kind == "ctc" else RECOGNIZER
        write_recognizer(_architecture(name, by_name), target, texts)
    elif kind == "local_audio_llm":
        write_audio_llm(_architecture(name, AUDIO_LLM), target, texts)
    else:
        write_text(target, _architecture(name, TEXT), texts)
    return target


def _config(model: str) -> dict[str, object]:
    return json_object(Path(model) / "config.json", LONGEST_CONFIG) or {}


def _architecture(model: str, by_name: Sequence[tuple[str, str]]) -> str:
    model_type = str(_config(model).get("model_type", ""))
    types = dict.fromkeys(architecture for _, architecture in by_name)
    if model_type in types:
        return model_type
    for part, architecture in by_name:
        if not model_type and part in model.lower():
            return architecture
    raise UserError(
        f"smoke: the architecture of '{model}' is unknown; a smoke test can replace "
        f"{listed(types)}."
    )


def _norm(model: str) -> str:
    """Return the norm of a speech model's convolutions: the base ones have group norm."""
    group = "base" in Path(model).name.lower()
    return str(_config(model).get("feat_extract_norm", "group" if group else "layer"))


def write_speech(
    folder: Path, architecture: str, norm: str, tokens: Sequence[str] = (), **own: Any
) -> None:
    """Write an encoder; with tokens, the first of which is the blank, a CTC model.

    `own` are further options of its config.
    """
    import transformers

    config = speech_config(architecture, norm, **own)
    if tokens:
        config.vocab_size, config.pad_token_id = len(tokens), 0
        enlarged(transformers.AutoModelForCTC.from_config(config)).save_pretrained(folder)
        (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
        transformers.Wav2Vec2CTCTokenizer(folder / "vocab.json").save_pretrained(folder)
    else:
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    write_feature_extractor(folder, architecture, norm)


def speech_config(architecture: str, norm: str, **own: Any) -> Any:
    """Return the config of a tiny encoder.

    `norm` of its convolutions, "layer" or "group"; `own` are further options of the class.
    """
    import transformers

    convolutions = {
        "conv_dim": (16,) * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "feat_extract_norm": norm,
        "do_stable_layer_norm": norm == "layer",
    }
    options = SIZES | BY_ARCHITECTURE.get(architecture, {}) | own
    options |= {} if architecture == MELS else convolutions
    return transformers.AutoConfig.for_model(architecture, **options)


def write_feature_extractor(folder: Path, architecture: str, norm: str) -> None:
    """Write what prepares clips for an encoder, with a mask where its norm allows one."""
    import transformers

    if architecture == MELS:
        transformers.SeamlessM4TFeatureExtractor(padding_value=1).save_pretrained(folder)
    else:
        masked = norm == "layer"
        transformers.Wav2Vec2FeatureExtractor(return_attention_mask=masked).save_pretrained(folder)


def write_text(folder: Path, architecture: str, texts: Sequence[str], **own: Any) -> None:
    """Write a text model and its tokenizer; `own` are further options of its config."""
    import transformers

    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0}
    options = SIZES | ids | {"sep_token_id": 2, "max_position_embeddings": WINDOW}
    words = tokenizer(texts, MARKS.get(architecture, MARKED))
    options |= {"vocab_size": len(words)} | BY_ARCHITECTURE.get(architecture, {}) | own
    config = transformers.AutoConfig.for_model(architecture, **options)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    if config.pad_token_id is None:
        words.pad_token = None
    words.save_pretrained(folder)


def tokenizer(texts: Sequence[str], marks: str = MARKED) -> Any:
    """Return a tokenizer that is trained on texts and adds `marks` to each, as transformers'."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=list(SPECIAL), show_progress=False)
    raw.train_from_iterator(texts, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single=marks, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = ("bos_token", "pad_token", "eos_token", "unk_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=WINDOW,
        cls_token="<s>",
        sep_token="</s>",
        **dict(zip(names, SPECIAL, strict=True)),
    )
