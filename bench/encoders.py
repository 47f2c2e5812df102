"""Time and memory of audio encoders at their true size, with random weights, for one clip.

Each model is run in a process of its own, on one thread of the CPU, through kind speech: its own
feature extractor, encoder and frames. `--list` shows the names; `--only` chooses some.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from bench.processes import in_fresh_process
from bench.report import Row, arguments, show, use_one_thread

SECONDS = 5.0


def _sizes(width: int, layers: int, heads: int) -> dict[str, Any]:
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return dict(zip(names, (width, layers, heads, 4 * width), strict=True))


LARGE = _sizes(1024, 24, 16)
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
SPEAR = {"heads": 8, "steps": (1, 2, 4, 8, 4, 2, 1), "kernels": (31, 31, 15, 15, 15, 31, 31)}
# a model with a short name: where its config differs from the defaults of its class
CONFIGS: dict[str, dict[str, Any]] = {
    "wav2vec2-base": {},
    "hubert-base": {},
    "wav2vec2-conformer-large": {**LARGE, "position_embeddings_type": "relative"},
    "data2vec-audio-base": {},
    "sew-d-tiny": _sizes(384, 12, 6),
    "moonshine-base": {
        "hidden_size": 416,
        "intermediate_size": 1664,
        "encoder_num_hidden_layers": 8,
        "decoder_num_hidden_layers": 8,
    },
    "qwen3-asr-0.6b": {
        "d_model": 896,
        "encoder_layers": 18,
        "encoder_attention_heads": 14,
        "encoder_ffn_dim": 3584,
    },
    "glm-asr-nano": {},
    "dasheng-base": {"dim": 768, "depth": 12, "heads": 12},
    "dasheng-0.6b": {"dim": 1280, "depth": 32, "heads": 16},
    "spear-base": {"dim": 512, "hidden": 1536, "layers": (1, 2, 3, 3, 1, 1, 1), **SPEAR},
    "spear-large": {"dim": 1024, "hidden": 3072, "layers": (1, 2, 2, 3, 1, 1, 1), **SPEAR},
    "wavlm-large": {**LARGE, **LAYER_NORM},
    "data2vec-audio-large": LARGE,
    "unispeech-sat-large": {**LARGE, **LAYER_NORM},
    "sew-d-mid": _sizes(512, 24, 8),
    "w2v-bert-2.0": {},
    "omniasr-300m": {},
    "moonshine-tiny": {},
    "seamless-m4t-v2-large": {},
    "granite-speech-3.3-2b": {"num_layers": 16},
    "parakeet-tdt-0.6b-v3": {"num_mel_bins": 128},
    "canary-1b-v2": {"num_mel_bins": 128, "num_hidden_layers": 32},
    "qwen3-asr-1.7b": {},
    "qwen3-omni-30b": {},
    "voxtral-mini-3b": {},
    "qwen2-audio-7b": {},
    "audio-flamingo-3": {},
    "ast-audioset": {},
    "clap-htsat-unfused": {},
}
BANDS_128 = {"feature_size": 128}
PAIRS = {"feature_size": 80, "num_mel_bins": 80, "padding_value": 1, "stride": 2}
EXTRACTORS: dict[str, tuple[str, dict[str, Any]]] = {  # by the row of the encoder
    "omniasr_audio": ("OmniASRFeatureExtractor", {}),
    "moonshine": ("Wav2Vec2FeatureExtractor", {"do_normalize": False}),
    "wav2vec2-bert": ("SeamlessM4TFeatureExtractor", PAIRS),
    "seamless_m4t_v2": ("SeamlessM4TFeatureExtractor", PAIRS),
    "parakeet_encoder": ("ParakeetFeatureExtractor", BANDS_128),
    "qwen3_asr_encoder": ("Qwen3ASRFeatureExtractor", {}),
    "qwen3_omni_moe_audio_encoder": ("WhisperFeatureExtractor", BANDS_128),
    "glmasr_encoder": ("WhisperFeatureExtractor", BANDS_128),
    "voxtral_encoder": ("WhisperFeatureExtractor", BANDS_128),
    "qwen2_audio_encoder": ("WhisperFeatureExtractor", BANDS_128),
    "audioflamingo3_encoder": ("WhisperFeatureExtractor", BANDS_128),
    "audio-spectrogram-transformer": ("ASTFeatureExtractor", {}),
    "clap_audio_model": ("ClapFeatureExtractor", {"truncation": "rand_trunc"}),
}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", nargs="*", default=[], metavar="MODEL", help="names, by --list")
    parser.add_argument("--list", action="store_true", help="show the names and end")
    args = parser.parse_args()
    if args.list:
        print("\n".join(CONFIGS))
        return
    names = args.only or (["wav2vec2-base", "moonshine-tiny"] if args.quick else list(CONFIGS))
    time_rows, memory_rows = [], []
    for name in names:
        measured = in_fresh_process(measure, name)
        print(name, measured, file=sys.stderr, flush=True)  # in case it is ended
        label = f"{name}, {measured['parameters']:.0f} M"
        time_rows.append(Row(label, measured["wall"], "s", cpu=measured["cpu"]))
        memory_rows.append(Row(label, measured["peak"], "GB"))
    note = f"one clip of {SECONDS:g} s, float32, random weights, one thread"
    sections = {"Time of the clip": time_rows, "Peak memory": memory_rows}
    show(args, sections, f"{note}; memory without libraries")


def measure(name: str) -> dict[str, float]:
    """Return millions of parameters, seconds of wall and CPU time, and GB of memory at the peak."""
    import torch

    from ser.extract.extractor import parse_options
    from ser.extract.kinds import speech_encoder
    from ser.extract.kinds.speech_families import locate

    use_one_thread()
    options: Any = parse_options({"kind": "speech", "model": name})
    with tempfile.TemporaryDirectory() as folder:
        write_configs(name, Path(folder))
        located = locate(name, json.loads((Path(folder) / "config.json").read_text()))
        before = peak()
        with mock.patch.object(speech_encoder, "load_encoder", random_encoder):
            encoder = speech_encoder.SpeechEncoder(options, Path(folder), located, torch.float32)
    encoder.eval()
    wave = np.random.default_rng(0).standard_normal(round(SECONDS * 16_000)).astype(np.float32)
    encoder.frames(encoder.prepare(0.1 * wave[:16_000]))
    wall, cpu = time.perf_counter(), time.process_time()
    encoder.frames(encoder.prepare(0.1 * wave))
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak": peak() - before,
        "parameters": sum(p.numel() for p in encoder.model.parameters()) / 1e6,
    }


def peak() -> float:
    """Return the most memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def write_configs(name: str, folder: Path) -> None:
    """Write the config and the feature extractor of a model at its true size."""
    import transformers

    from ser.extract.kinds.speech_families import FAMILIES
    from ser.extract.kinds.speech_models import class_of
    from ser.extract.registry import MODELS
    from ser.synthetic.spear import SpearSizes

    encoder = MODELS[name].encoder
    if encoder == "dasheng":
        (folder / "config.json").write_text(json.dumps({"model_type": encoder, **CONFIGS[name]}))
        return
    if encoder == "spear":
        (folder / "config.json").write_text(json.dumps(SpearSizes(**CONFIGS[name]).config()))
        return
    if FAMILIES[encoder].encoder:
        config = class_of(FAMILIES[encoder].encoder).config_class(**CONFIGS[name])
    else:
        config = transformers.AutoConfig.for_model(encoder, **CONFIGS[name])
    config.save_pretrained(folder)
    extractor, options = EXTRACTORS.get(encoder, ("Wav2Vec2FeatureExtractor", {}))
    getattr(transformers, extractor)(**options).save_pretrained(folder)


def random_encoder(model: str, folder: Path, located: Any, dtype: Any, changes: object) -> Any:
    """Build the encoder of a folder's config, in the place of `load_encoder`."""
    import torch
    import transformers

    from ser.extract.kinds.dasheng_model import Dasheng
    from ser.extract.kinds.own_model import renamed
    from ser.extract.kinds.spear_model import NAMES, NOT_NEEDED, with_tensors
    from ser.extract.kinds.speech_models import class_of
    from ser.synthetic.encoders import dasheng_shapes
    from ser.synthetic.spear import SpearSizes, spear_shapes

    sizes = located.config
    if sizes["model_type"] == "dasheng":
        shapes = dasheng_shapes(sizes["dim"], sizes["depth"])
        tensors = {name: 0.02 * torch.ones(shape) for name, shape in shapes.items()}
        tensors["init_bn.1.num_batches_tracked"] = torch.tensor(0)
        return Dasheng(tensors, sizes["heads"])
    if sizes["model_type"] == "spear":
        shapes = spear_shapes(SpearSizes(**CONFIGS[model]))
        tensors = {name: 0.02 * torch.ones(shapes[name]) for name in shapes}
        return with_tensors(renamed(tensors, NAMES, NOT_NEEDED))
    if located.family.encoder:
        cls = class_of(located.family.encoder)
        return cls(cls.config_class.from_pretrained(folder)).to(dtype)
    return transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(folder))


if __name__ == "__main__":
    main()
