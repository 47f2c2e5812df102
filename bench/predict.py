"""One clip, predicted by models that are loaded; `bench.cold` has the cost of a fresh process.

    python -m bench.predict runs/demo clip.wav

bare    the models and nothing else: every encoder's `extract` of the decoded clip or of its words,
        every head's forward pass over prepared tensors
ours    a predictor that has its models loaded: decoding, rounding, heads, stack, the result

The two sides are timed in turn.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import ser
from bench.report import Side, Target, arguments, compare, show, times_as_fast
from ser.corpus import audio
from ser.predict.attention import inputs_of
from ser.predict.features import Extracted
from ser.predict.predictor import Predictor


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("run", type=Path)
    parser.add_argument("clip", type=Path)
    args = parser.parse_args()
    rounds = 3 if args.quick else 15
    p = ser.load(args.run, "cpu")
    bare = _bare(p, args.clip)
    sides = [Side("bare", bare, 1), Side("ours", lambda: p(args.clip), 1, base="bare")]
    warm = compare(sides, "clips", rounds)
    times = times_as_fast(warm, "bare", "ours")
    targets = [Target("warm clip, times the bare models", times, "≤", 1.25, "x")]
    note = f"{args.run}, {audio.duration(args.clip):.1f} s of audio, {len(p.heads)} heads"
    show(args, {"Warm": warm}, note, targets=targets)


def _bare(p: Predictor, clip: Path) -> Callable[[], object]:
    """Return a call that runs the models alone, over inputs that are made ready here."""
    wave = audio.load(clip)
    extracted = p.features.extract([wave])
    assert isinstance(extracted[0], Extracted)
    words = extracted[0].words
    models: list[tuple[Any, Any]] = [
        (one.extractor, wave if one.of is None else words[one.of].text) for one in p.features.load()
    ]
    ready = [
        (module, features)
        for head in p.trained_heads
        for _, inputs in head._batches(inputs_of(head, [extracted[0]]), None)
        for module, features in zip(head.modules, inputs, strict=True)
    ]

    def run() -> None:
        for extractor, given in models:
            extractor.extract([given])
        with torch.inference_mode():
            for module, features in ready:
                module(features)

    return run


if __name__ == "__main__":
    main()
