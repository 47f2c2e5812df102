"""Tiny models of the true classes, and small corpora, made once and thrown away at exit."""

import time
from collections.abc import Callable, Mapping, Sequence
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
from ser.extract.extractor import EXTRACTORS, SAMPLE_RATE, Extractor, extractor, parse_options
from ser.extract.job import Job, full_spec
from ser.extract.kinds.prosody import Prosody
from ser.extract.models import resolve
from ser.extract.testing import TEXTS, clip
from ser.synthetic.models import speech_config, write_feature_extractor, write_speech, write_text
from ser.synthetic.recognizers import write_whisper

_FOLDER = TemporaryDirectory(prefix="ser-tests-")
SHALLOW = {"num_hidden_layers": 2}


def new_folder(name: str) -> Path:
    folder = Path(_FOLDER.name) / name
    folder.mkdir()
    return folder


@lru_cache(maxsize=3)  # not all: the real ones are hundreds of megabytes each
def made(kind: str, model: Path | str | None = None, **options: Any) -> Extractor:
    """Load an extractor on the CPU; another call with the same options returns the same one."""
    entry = {"kind": kind, **({} if model is None else {"model": str(model)}), **options}
    weights = None if model is None else resolve(str(model))
    loaded = EXTRACTORS.get(kind)(parse_options(entry), weights)
    loaded.load("cpu")
    return loaded


def model_folder(package: str) -> Path:
    """Return where a package that carries weights has them; skips the test without it."""
    return Path(next(iter(pytest.importorskip(package).__path__))) / "model"


def drawn(name: str, write: Callable[..., None], *arguments: Any, **options: Any) -> Path:
    """Write a tiny model to a new folder, with the same random weights in every run."""
    import torch

    torch.manual_seed(0)
    write(folder := new_folder(name), *arguments, **options)
    return folder


@cache
def tiny_whisper() -> Path:
    return drawn("whisper", write_whisper, TEXTS, 80, (2, 2), std=0.02)


@cache
def ctranslate2_whisper(quantization: str | None) -> Path:
    """Save the encoder and decoder of `tiny_whisper` as CTranslate2 does."""
    from ctranslate2.converters.transformers import WhisperLoader
    from transformers import WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(tiny_whisper())
    spec = WhisperLoader().get_model_spec(model)
    spec.register_vocabulary([str(i) for i in range(model.config.vocab_size)])
    spec.validate()
    spec.optimize(quantization)
    folder = new_folder(f"whisper-ctranslate2-{quantization}")
    spec.save(str(folder))
    return folder


def model_type(family: str) -> str:
    """Return the name of an architecture from that of its classes, such as WavLM."""
    import transformers

    return str(getattr(transformers, f"{family}Config").model_type)


@cache
def tiny_speech(family: str, norm: str) -> Path:
    return drawn(f"{family}-{norm}", write_speech, model_type(family), norm, **SHALLOW)


def tiny_w2v_bert() -> Path:
    return tiny_speech("Wav2Vec2Bert", "layer")


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
        transformers.WhisperFeatureExtractor().save_pretrained(folder)
    else:
        own = {"use_weighted_layer_sum": family != "Wav2Vec2Bert"}
        config = speech_config(model_type(family), norm, **SHALLOW, **own, **names)
        model = getattr(transformers, f"{family}ForSequenceClassification")(config)
        write_feature_extractor(folder, model_type(family), norm)
    with torch.no_grad():
        model.classifier.weight.mul_(2000 if family == "Whisper" else 100)
    model.save_pretrained(folder)
    return folder


@cache
def tiny_dense(family: str, norm: str, labels: tuple[str, ...] = MSP_DIM) -> Path:
    """Save a tiny `…ForSpeechClassification`, with the tensors that published ones have."""
    import torch
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(1)
    own = {"id2label": dict(enumerate(labels)), "pooling_mode": "mean"}
    config = speech_config(model_type(family), norm, **SHALLOW, **own)
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
    write_feature_extractor(folder, model_type(family), norm)
    return folder


# a model of text and its architecture
FAMILIES = {
    **{name: name for name in ("roberta", "bert", "deberta-v2", "modernbert", "t5", "llama")},
    **{"deberta-v3": "deberta-v2", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3": "gemma3_text"},
}


@cache
def tiny_text(family: str) -> Path:
    """Save a tiny model of one of `FAMILIES` with a tokenizer like its own."""
    own = {"conv_kernel_size": 3} if family == "deberta-v2" else {}
    return drawn(family, write_text, FAMILIES[family], TEXTS, **SHALLOW, **own)


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
