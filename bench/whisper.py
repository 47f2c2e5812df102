"""Whisper's encoder run by CTranslate2 and by our torch module: one window, the same weights.

The encoders have their true sizes and random weights, in float32; of large-v3 only the first four
layers, as all are alike. One thread for both sides (OMP_NUM_THREADS=1), which take turns in every
round; the states are compared before anything is timed. A ratio above 1: torch takes less CPU time.
"""

from functools import partial
from pathlib import Path
from typing import Any

from bench.report import (
    Row,
    Side,
    arguments,
    compare,
    show,
    temporary_folder,
    times_the_cpu,
    use_one_thread,
)

# layers, width, heads and mel bands
SIZES = {
    "tiny": (4, 384, 6, 80),
    "base": (6, 512, 8, 80),
    "small": (12, 768, 12, 80),
    "large-v3, 4 layers": (4, 1_280, 20, 128),
}
WINDOWS = (30, 10, 5)  # seconds
ROUNDS = 3
NO_DECODER: dict[str, Any] = {"decoder_layers": 1, "decoder_ffn_dim": 8, "vocab_size": 100}
NO_DECODER |= {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "decoder_start")}
TOLERANCE = 1e-3  # of states of about 1


def main() -> None:
    use_one_thread()
    args = arguments(__doc__ or "").parse_args()
    sections = {}
    for name in list(SIZES)[:2] if args.quick else SIZES:
        with temporary_folder(args) as folder:
            sections[f"Whisper {name}"] = _rows(name, folder)
    show(args, sections)


def _rows(name: str, folder: Path) -> list[Row]:
    import torch

    from ser.extract.kinds.whisper import WhisperOptions
    from ser.extract.kinds.whisper_models import load_whisper

    _write_random(folder, *SIZES[name])
    options = WhisperOptions.model_validate({"kind": "whisper", "model": str(folder)})
    last = load_whisper(options, folder, "cpu")
    layered = load_whisper(options, folder, "cpu", layer=SIZES[name][0])
    rows = []
    for seconds in WINDOWS:
        torch.manual_seed(0)
        mels = torch.rand(1, 100 * seconds, SIZES[name][3])
        names = f"CTranslate2, {seconds} s", f"torch, {seconds} s"
        with torch.inference_mode():
            states = [encoder.chosen(encoder.encode(mels)) for encoder in (last, layered)]
            if (states[0] - states[1]).abs().max() > TOLERANCE:
                raise AssertionError(f"{name}, {seconds} s: the states differ")
            sides = [
                Side(names[0], partial(last.encode, mels), 1),
                Side(names[1], partial(layered.encode, mels), 1, base=names[0]),
            ]
            measured = compare(sides, "windows", ROUNDS)
        ratio = times_the_cpu(measured, *names)
        rows += [*measured, Row(f"CPU: {names[0]} / {names[1]}", ratio, "x")]
    return rows


def _write_random(folder: Path, layers: int, width: int, heads: int, bands: int) -> None:
    """Write an encoder with random weights, and a decoder that is not used, as CTranslate2 does."""
    import torch
    from ctranslate2.converters.transformers import WhisperLoader
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        num_mel_bins=bands,
        **NO_DECODER,
    )
    model: Any = WhisperForConditionalGeneration(config)
    spec = WhisperLoader().get_model_spec(model)
    spec.register_vocabulary([str(i) for i in range(config.vocab_size)])
    spec.validate()
    spec.optimize(None)
    spec.save(str(folder))


if __name__ == "__main__":
    main()
