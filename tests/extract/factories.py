"""Tiny models of the true classes, and small corpora, made once and thrown away at exit."""

import time
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import soundfile

from ser.cache.features import FeatureCache
from ser.corpus.manifest import Manifest
from ser.extract.extractor import SAMPLE_RATE, Extractor, extractor, extractor_class, parse_options
from ser.extract.job import Job, full_spec
from ser.extract.kinds.prosody import Prosody
from ser.extract.models import resolve
from ser.extract.testing import TEXTS, clip
from ser.synthetic.models import BY_ARCHITECTURE

_FOLDER = TemporaryDirectory(prefix="ser-tests-")
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
WINDOW = 48  # tokens of the tiny text models


def new_folder(name: str) -> Path:
    folder = Path(_FOLDER.name) / name
    folder.mkdir()
    return folder


@lru_cache(maxsize=3)  # not all: the real ones are hundreds of megabytes each
def made(kind: str, model: Path | str | None = None, **options: Any) -> Extractor:
    """Load an extractor on the CPU; another call with the same options returns the same one."""
    entry = {"kind": kind, **({} if model is None else {"model": str(model)}), **options}
    weights = None if model is None else resolve(str(model))
    loaded = extractor_class(kind)(parse_options(entry), weights)
    loaded.load("cpu")
    return loaded


def model_folder(package: str) -> Path:
    """Return where a package that carries weights has them; skips the test without it."""
    return Path(next(iter(pytest.importorskip(package).__path__))) / "model"


@cache
def tiny_whisper() -> Path:
    import torch
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    torch.manual_seed(0)
    layers = {f"{part}_layers": 2 for part in ("encoder", "decoder")}
    heads = {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    sizes = {f"{part}_ffn_dim": 64 for part in ("encoder", "decoder")}
    config = WhisperConfig(vocab_size=100, d_model=32, **layers, **heads, **sizes)
    config.pad_token_id = config.bos_token_id = config.eos_token_id = 0
    config.decoder_start_token_id = 1
    folder = new_folder("whisper")
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder


@cache
def ctranslate2_whisper(quantization: str | None) -> Path:
    """Save the encoder and decoder of `tiny_whisper` as CTranslate2 does."""
    from ctranslate2.converters.transformers import WhisperLoader
    from transformers import WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(tiny_whisper())
    spec = WhisperLoader().get_model_spec(model)
    spec.register_vocabulary([str(i) for i in range(100)])
    spec.validate()
    spec.optimize(quantization)
    folder = new_folder(f"whisper-ctranslate2-{quantization}")
    spec.save(str(folder))
    return folder


def speech_config(family: str, norm: str, **further: Any) -> Any:
    import transformers

    return getattr(transformers, f"{family}Config")(
        **SHAPE,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
        **further,
    )


@cache
def tiny_speech(family: str, norm: str) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    config = speech_config(family, norm)
    folder = new_folder(f"{family}-{norm}")
    getattr(transformers, f"{family}Model")(config).save_pretrained(folder)
    masked = norm == "layer"
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=masked).save_pretrained(folder)
    return folder


SUPERB = ("neu", "hap", "ang", "sad")  # the labels of superb's models, in their order
MSP_DIM = ("arousal", "dominance", "valence")  # and of audEERING's


@cache
def tiny_classifier(family: str, norm: str, labels: tuple[str, ...] = SUPERB) -> Path:
    """Save a tiny `…ForSequenceClassification` whose answers differ from clip to clip."""
    import torch
    import transformers

    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(labels)), "classifier_proj_size": 8}
    folder = new_folder(f"classifier-{family}-{norm}-{'-'.join(labels)}")
    if family == "Whisper":
        sizes = {"encoder_ffn_dim": 64, "encoder_attention_heads": 2, "encoder_layers": 2}
        config = transformers.WhisperConfig(d_model=32, **sizes, **names)
        model = transformers.WhisperForAudioClassification(config)
        prepare = transformers.WhisperFeatureExtractor()
    elif family == "Wav2Vec2Bert":
        config = transformers.Wav2Vec2BertConfig(
            **SHAPE, **BY_ARCHITECTURE["wav2vec2-bert"], **names
        )
        model = transformers.Wav2Vec2BertForSequenceClassification(config)
        bands = {"feature_size": 80, "num_mel_bins": 80, "padding_value": 1, "stride": 2}
        prepare = transformers.SeamlessM4TFeatureExtractor(**bands)
    else:
        config = speech_config(family, norm, use_weighted_layer_sum=True, **names)
        model = getattr(transformers, f"{family}ForSequenceClassification")(config)
        prepare = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")
    with torch.no_grad():
        model.classifier.weight.mul_(2000 if family == "Whisper" else 100)
    model.save_pretrained(folder)
    prepare.save_pretrained(folder)
    return folder


@cache
def tiny_dense(family: str, norm: str, labels: tuple[str, ...] = MSP_DIM) -> Path:
    """Save a tiny `…ForSpeechClassification`, with the tensors that published ones have."""
    import torch
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(1)
    config = speech_config(family, norm, id2label=dict(enumerate(labels)), pooling_mode="mean")
    encoder = getattr(transformers, f"{family}Model")(config)
    prefix = encoder.base_model_prefix
    tensors = {f"{prefix}.{name}": tensor for name, tensor in encoder.state_dict().items()}
    for name, outputs in (("dense", 32), ("out_proj", len(labels))):
        tensors[f"classifier.{name}.weight"] = torch.randn(outputs, 32) * 0.1
        tensors[f"classifier.{name}.bias"] = torch.full((outputs,), 0.5)
    config.architectures = [f"{family}ForSpeechClassification"]
    folder = new_folder(f"dense-{family}-{norm}-{'-'.join(labels)}")
    config.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    masked = norm == "layer"
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=masked).save_pretrained(folder)
    return folder


@cache
def tiny_text(family: str) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    positions = WINDOW + 2 if family == "Roberta" else WINDOW  # RoBERTa counts from 2
    config = getattr(transformers, f"{family}Config")(
        **SHAPE, vocab_size=200, max_position_embeddings=positions, pad_token_id=1
    )
    folder = new_folder(family)
    getattr(transformers, f"{family}Model")(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=200, special_tokens=special))
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), special, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=WINDOW,
        cls_token="<s>",
        sep_token="</s>",
        **names,
    )


@cache
def tiny_w2v_bert() -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.Wav2Vec2BertConfig(
        **SHAPE,
        **BY_ARCHITECTURE["wav2vec2-bert"],
    )
    folder = new_folder("w2v-bert")
    transformers.Wav2Vec2BertModel(config).save_pretrained(folder)
    bands = {"feature_size": 80, "num_mel_bins": 80, "padding_value": 1, "stride": 2}
    transformers.SeamlessM4TFeatureExtractor(**bands).save_pretrained(folder)
    return folder


DEBERTA = BY_ARCHITECTURE["deberta-v2"]
# the class, what its tokenizer adds to a text, and its own options
FAMILIES: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "deberta-v2": ("DebertaV2Model", "<s> $A </s>", {**DEBERTA, "conv_kernel_size": 3}),
    "deberta-v3": ("DebertaV2Model", "<s> $A </s>", DEBERTA),
    "modernbert": ("ModernBertModel", "<s> $A </s>", {"local_attention": 8}),
    "t5": ("T5ForConditionalGeneration", "$A </s>", {"d_kv": 16}),
    "llama": ("LlamaModel", "<s> $A", {"num_key_value_heads": 1, "pad_token_id": None}),
    "qwen3": ("Qwen3Model", "$A </s>", {"num_key_value_heads": 1, "head_dim": 16}),
    "gemma3": (
        "Gemma3TextModel",
        "<s> $A </s>",
        {"num_key_value_heads": 1, "head_dim": 16, "use_bidirectional_attention": True},
    ),
    "qwen2": ("Qwen2Model", None, {"num_key_value_heads": 1, "pad_token_id": None}),
}


@cache
def tiny_family(name: str) -> Path:
    """Save a tiny model of one of `FAMILIES` with a tokenizer like its own."""
    import torch
    import transformers
    from tokenizers import processors

    torch.manual_seed(0)
    model, template, own = FAMILIES[name]
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0}
    options = {**SHAPE, **ids, "sep_token_id": 2, "vocab_size": 200, **own}
    config = getattr(transformers, model).config_class(**options, max_position_embeddings=WINDOW)
    folder = new_folder(name)
    getattr(transformers, model)(config).save_pretrained(folder)
    words = tokenizer()
    words.backend_tokenizer.post_processor = (
        processors.TemplateProcessing(single=template, special_tokens=[("<s>", 0), ("</s>", 2)])
        if template
        else processors.Sequence([])
    )
    if config.pad_token_id is None:
        words.pad_token = None
    words.save_pretrained(folder)
    return folder


@extractor("slow")
class Slow(Prosody):
    """Prosody that takes its time and counts its loads, for runs that are watched or killed."""

    loads: ClassVar[int] = 0
    calls: ClassVar[list[int]] = []  # clips of each batch
    fits: ClassVar[int] = 1_000_000  # clips that fit the memory
    pause: ClassVar[float] = 0.0

    def load(self, device: str) -> None:
        Slow.loads += 1
        super().load(device)

    def extract(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        if len(batch) > Slow.fits:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        Slow.calls.append(len(batch))
        time.sleep(Slow.pause)
        return super().extract(batch)


def write_corpus(folder: Path, clips: int = 12) -> Manifest:
    """Write `clips` wavs of 0.3 to 1.2 s and name them u00, u01, …"""
    folder.mkdir(exist_ok=True)
    names = [f"u{i:02}" for i in range(clips)]
    for i, name in enumerate(names):
        soundfile.write(folder / f"{name}.wav", clip(0.3 + 0.1 * (i % 10), i), SAMPLE_RATE)
    return Manifest(pl.DataFrame({"utterance": names, "path": [f"{n}.wav" for n in names]}))


def job(folder: Path, manifest: Manifest, cache_name: str = "cache", **entry: Any) -> Job:
    """Describe the extraction of `folder/audio` into `folder/<cache_name>`."""
    options = parse_options({"kind": "slow", **entry})
    return Job("feature", options, manifest, folder / "audio", folder / cache_name)


def opened(of: Job) -> FeatureCache:
    spec, _ = full_spec(of)
    opened_cache = FeatureCache.existing(of.cache, of.name, spec)
    assert opened_cache is not None
    return opened_cache


def checksums(of: Job) -> Mapping[str, int]:
    """Return the crc32c that is stored for each utterance."""
    index = opened(of).index()
    return dict(zip(index["utterance"], index["crc32c"], strict=True))


def run_slowly(folder: str) -> None:
    """Extract a corpus in shards of a few clips; what a test's child process does."""
    from ser.extract.run import extract

    Slow.pause = 0.2  # it is killed amid them
    manifest = Manifest.read(Path(folder) / "manifest.parquet")
    extract(job(Path(folder), manifest), "cpu", frame_budget=100, shard_bytes=5_000)
