"""The encoders of kind speech: how each model type of transformers is run, one row each.

A row says where the encoder is, what it reads, how many frames it gives, and whether clips of
different lengths may share a batch. Three ways of cutting a long clip:

    chunks    normalised as a whole, cut to `chunk` seconds that overlap, joined in the middle
    blocks    the same without an overlap: attention ends at each block anyway, so frames are equal
    windows   cut to the model's own window, each padded to it as in training

`mask` is True only where padding leaves the frames of every layer as they are (to 1e-4, by the
conformance suite). Elsewhere only equal lengths share a batch: a group norm averages over padding,
and so do convolutions after a norm (data2vec) or without a mask (Granite).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from ser.corpus.errors import UserError
from ser.extract.extractor import SAMPLE_RATE

Reads = Literal["waveform", "rows", "window"]
Mask = Literal["yes", "no", "layer norm"]
FIELD = 400  # samples: 25 ms
MEL_HOP = 160  # samples from one row of log-mels to the next: 10 ms


@dataclass(frozen=True)
class Family:
    """How the encoder of a model type is run; sizes are at 16 kHz.

    Args:
        name: in sentences and tables.
        reads: the waveform; rows of log-mels of a clip, normalised over all of it; or those of a
            window, padded to its end.
        hop: samples from one frame to the next.
        field: samples behind the first frame, or behind the first row of log-mels.
        rows: rows of log-mels for a frame, of 10 ms.
        edge: rows that convolutions without padding take off, besides.
        stacked: its feature extractor gives the rows of a frame as one.
        partial: rows at the end that are fewer than a frame needs are a frame, too.
        block: frames after which attention ends; 0 where it does not.
        window: frames of a window, or the most that there are positions for.
        mask: whether clips of different lengths share a batch; "layer norm": if the config says so.
        argument: the name of the mask; "" where it takes none.
        encoder: the module and class of transformers, where it is a part of a model.
        together: frames that come at a time.
        layers: whether a layer can be chosen.
        needs: values of the encoder's config that all of this holds for.
        frozen: the parts that fine-tuning freezes by default.
        trainable: whether it can be fine-tuned.
    """

    name: str
    reads: Reads = "waveform"
    hop: int = 320
    field: int = FIELD
    rows: Fraction = Fraction(2)
    edge: int = 0
    stacked: bool = False
    partial: bool = False
    block: int = 0
    window: int = 0
    mask: Mask = "yes"
    argument: str = "attention_mask"
    encoder: str = ""
    together: int = 1
    layers: bool = True
    needs: tuple[tuple[str, int], ...] = ()
    frozen: tuple[str, ...] = ()
    trainable: bool = True

    @property
    def input_name(self) -> str:
        """The name that its model has for what it reads."""
        return "input_values" if self.reads == "waveform" else "input_features"

    @property
    def rate(self) -> float:
        """The frames a second."""
        return float(100 / self.rows) if self.reads == "rows" else SAMPLE_RATE / self.hop

    @property
    def least(self) -> int:
        """The fewest samples that are taken: 25 ms, or those of the first frame."""
        if self.reads == "rows" and not self.partial:
            return max(FIELD, self.field + (int(self.rows) + self.edge - 1) * MEL_HOP)
        return max(FIELD, self.field) if self.reads == "waveform" else FIELD

    def frames(self, samples: int) -> int:
        """Return how many frames a clip has; it has at least `least` samples."""
        if self.reads == "window":
            return -(-samples // self.hop)
        if self.reads == "waveform":
            step = self.together * self.hop
            return self.together * ((samples - self.field) // step + 1)
        return self.frames_of_rows((samples - self.field) // MEL_HOP + 1)

    def frames_of_rows(self, rows: int) -> int:
        """Return how many frames rows of log-mels have."""
        if self.block:  # convolutions of stride 2, three times, in seconds of their own
            seconds, rest = divmod(rows, 100)
            return 13 * seconds + -(-rest // 8)
        return -(-rows // int(self.rows)) if self.partial else (rows - self.edge) // int(self.rows)

    def takes_mask(self, config: Mapping[str, object]) -> bool:
        """Return whether clips of different lengths may share a batch, by the encoder's config."""
        if self.reads == "window":
            return True  # all are of one length
        if self.mask == "layer norm":
            return config.get("feat_extract_norm") == "layer"
        return self.mask == "yes"


_30_SECONDS = (("max_source_positions", 1500),)
_50_HZ = (("num_mel_bins", 128), ("output_downsampling_factor", 1), ("causal", 0))
_CNN = Family("wav2vec 2.0", mask="layer norm", frozen=("feature_encoder",))
_SEW = replace(_CNN, name="SEW", field=720, together=2, mask="no")
_PAIRS = Family("w2v-BERT 2.0", reads="rows", stacked=True)
_WHISPER = Family(
    "Voxtral",
    reads="window",
    field=320,
    window=1500,
    argument="",
    needs=_30_SECONDS,
    encoder="voxtral.VoxtralEncoder",
)
_POOLED = replace(_WHISPER, hop=640, field=640, window=750)
_SECONDS = Family(
    "Qwen3-ASR",
    reads="rows",
    field=160,
    rows=Fraction(100, 13),
    partial=True,
    block=104,
    argument="",
    needs=(("n_window", 50), ("n_window_infer", 800)),
    encoder="qwen3_asr.Qwen3ASREncoder",
)

FAMILIES = {
    "wav2vec2": _CNN,
    "hubert": replace(_CNN, name="HuBERT"),
    "wavlm": replace(_CNN, name="WavLM"),
    "unispeech": replace(_CNN, name="UniSpeech"),
    "unispeech-sat": replace(_CNN, name="UniSpeech-SAT"),
    "wav2vec2-conformer": replace(_CNN, name="wav2vec 2.0 Conformer", mask="no"),
    "data2vec-audio": replace(_CNN, name="data2vec-audio", mask="no"),
    "sew": _SEW,
    "sew-d": replace(_SEW, name="SEW-D"),
    "emotion2vec": replace(
        _CNN, name="emotion2vec", mask="no", argument="", frozen=(), trainable=False
    ),
    "omniasr_audio": Family(
        "omniASR", argument="padding_mask", encoder="omniasr.OmniASRAudioModel"
    ),
    "moonshine": Family(
        "Moonshine", hop=384, field=895, mask="no", encoder="moonshine.MoonshineEncoder"
    ),
    "wav2vec2-bert": _PAIRS,
    "seamless_m4t_v2": replace(
        _PAIRS, name="SeamlessM4T v2", encoder="seamless_m4t_v2.SeamlessM4Tv2SpeechEncoder"
    ),
    "granite_speech_encoder": replace(
        _PAIRS,
        name="Granite Speech",
        field=0,
        mask="no",
        needs=(("input_dim", 160),),
        encoder="granite_speech.GraniteSpeechCTCEncoder",
    ),
    "parakeet_encoder": Family(
        "FastConformer (Parakeet, Canary)",
        reads="rows",
        field=160,
        rows=Fraction(8),
        partial=True,
        needs=(("subsampling_factor", 8),),
        encoder="parakeet.ParakeetEncoder",
    ),
    "qwen3_asr_encoder": _SECONDS,
    "qwen3_omni_moe_audio_encoder": replace(
        _SECONDS, name="Qwen3-Omni", encoder="qwen3_omni_moe.Qwen3OmniMoeAudioEncoder"
    ),
    "voxtral_encoder": _WHISPER,
    "glmasr_encoder": replace(_WHISPER, name="GLM-ASR", needs=(), encoder="glmasr.GlmAsrEncoder"),
    "qwen2_audio_encoder": replace(
        _POOLED, name="Qwen2-Audio", encoder="qwen2_audio.Qwen2AudioEncoder"
    ),
    "audioflamingo3_encoder": replace(
        _POOLED,
        name="Audio Flamingo 3",
        argument="input_features_mask",
        encoder="audioflamingo3.AudioFlamingo3Encoder",
    ),
    "dasheng": Family(
        "Dasheng",
        reads="rows",
        field=0,
        rows=Fraction(4),
        window=252,
        mask="no",
        argument="",
        trainable=False,
    ),
    "spear": Family("SPEAR", reads="rows", field=80, edge=7, needs=_50_HZ, trainable=False),
    "audio-spectrogram-transformer": Family(
        "AST",
        reads="window",
        hop=1600,
        field=2800,
        window=101,
        argument="",
        needs=(("max_length", 1024), ("patch_size", 16), ("time_stride", 10)),
    ),
    "clap_audio_model": Family(
        "CLAP",
        reads="window",
        hop=5000,
        field=5000,
        window=32,
        argument="",
        layers=False,
        encoder="clap.ClapAudioModel",
    ),
}


class Part(NamedTuple):
    """Where an encoder is in a larger model: its model type, its config, and its tensors."""

    model_type: str
    config: tuple[str, ...] = ("audio_config",)
    tensors: str = "audio_tower"


_FASTCONFORMER = Part("parakeet_encoder", ("encoder_config",), "encoder")
PARTS = {
    "parakeet_ctc": _FASTCONFORMER,
    "parakeet_rnnt": _FASTCONFORMER,
    "parakeet_tdt": _FASTCONFORMER,
    "canary": _FASTCONFORMER,
    "cohere_asr": _FASTCONFORMER,
    "granite_speech": Part("granite_speech_encoder", ("encoder_config",), "encoder"),
    "voxtral": Part("voxtral_encoder"),
    "glmasr": Part("glmasr_encoder"),
    "qwen2_audio": Part("qwen2_audio_encoder"),
    "audioflamingo3": Part("audioflamingo3_encoder"),
    "qwen3_asr": Part("qwen3_asr_encoder"),
    "qwen3_omni_moe": Part("qwen3_omni_moe_audio_encoder", ("thinker_config", "audio_config")),
    "qwen3_omni_moe_thinker": Part("qwen3_omni_moe_audio_encoder"),
    "omniasr": Part("omniasr_audio"),
    "omniasr_ctc": Part("omniasr_audio"),
    "clap": Part("clap_audio_model", tensors="audio_model"),
    "seamless_m4t_v2": Part("seamless_m4t_v2", (), "speech_encoder"),
    "moonshine": Part("moonshine", (), "encoder"),
}


class Located(NamedTuple):
    """The encoder of a model: its row, its own config, and where that and its tensors are."""

    family: Family
    config: dict[str, object]
    keys: tuple[str, ...]
    tensors: str


def locate(model: str, config: Mapping[str, object]) -> Located:
    """Find the encoder by a model's config.json.

    Raises `UserError` for a model that is not of kind speech, or gives frames at another rate.
    """
    name = str(config.get("model_type"))
    part = PARTS.get(name, Part(name, (), ""))
    own: Any = config
    for key in part.config:
        own = own.get(key) if isinstance(own, Mapping) else None
    family = FAMILIES.get(part.model_type)
    if family is None or not isinstance(own, Mapping) or not _fits(family, own):
        remedy = (
            "use `kind: whisper`" if name == "whisper" else "docs/extract.md lists those that are"
        )
        raise UserError(f"{model}: this {name[:40]} model is not of kind speech; {remedy}.")
    return Located(family, {**own, "model_type": part.model_type}, part.config, part.tensors)


def _fits(family: Family, config: Mapping[str, object]) -> bool:
    """Return whether an encoder has the shape, and so the frame rate, of its row."""
    strides = config.get("conv_stride")
    if isinstance(strides, list) and math.prod(strides) != family.hop:
        return False
    return all(config.get(key, value) == value for key, value in family.needs)
