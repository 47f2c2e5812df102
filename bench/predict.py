"""`ser predict`, cold and warm, of one clip.

    python -m bench.predict runs/demo clip.wav

cold    `ser predict` in a fresh process: its own times (`--timing`), and CPU seconds
        of the whole; its files are in the page cache
bare    the models and nothing else: every encoder's `extract` of the decoded clip or of its words,
        every head's forward pass over prepared tensors
ours    a predictor that has its models loaded: decoding, rounding, heads, stack, the result

The two warm sides are timed in turn.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import ser
from bench.report import Row, Side, Target, arguments, compare, show
from ser.corpus import audio
from ser.predict.attention import inputs_of
from ser.predict.features import Extracted
from ser.predict.predictor import Predictor

TIMING = re.compile(r"import ([\d.]+) s, load ([\d.]+) s, predict ([\d.]+) s")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("run", type=Path)
    parser.add_argument("clip", type=Path)
    args = parser.parse_args()
    rounds = 3 if args.quick else 15
    cold = _cold(args.run, args.clip, 1 if args.quick else 3)
    p = ser.load(args.run, "cpu")
    bare = _bare(p, args.clip)
    sides = [Side("bare", bare, 1), Side("ours", lambda: p(args.clip), 1, base="bare")]
    warm = compare(sides, "clips", rounds)
    times = [1 / row.ratio for row in warm if row.name == "ours" and row.ratio]
    targets = [Target("warm clip, times the bare models", times[0], "≤", 1.25, "x")]
    notes = [f"{args.run}, {audio.duration(args.clip):.1f} s of audio, {len(p.heads)} heads"]
    show({"Cold process": cold, "Warm": warm}, targets, notes, args.json)


def _cold(run: Path, clip: Path, rounds: int) -> list[Row]:
    """Return the medians of what fresh processes took."""
    command = [str(Path(sys.executable).parent / "ser"), "predict", str(clip), "--run", str(run)]
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        before = os.times()
        done = subprocess.run([*command, "--timing"], capture_output=True, text=True, check=True)
        after = os.times()
        match = TIMING.search(done.stderr)
        assert match, done.stderr
        for name, value in zip(("import", "load", "predict"), match.groups(), strict=True):
            seconds.setdefault(name, []).append(float(value))
        cpu = after.children_user + after.children_system
        cpu -= before.children_user + before.children_system
        seconds.setdefault("CPU of all", []).append(cpu)
    return [
        Row(name, sorted(values)[len(values) // 2], "s", value_rounds=tuple(values))
        for name, values in seconds.items()
    ]


def _bare(p: Predictor, clip: Path) -> Callable[[], object]:
    """Return a call that runs the models alone, over inputs that are made ready here."""
    wave = audio.load(clip)
    extracted = p.features.extract([wave])
    assert isinstance(extracted[0], Extracted)
    words = extracted[0].words
    inputs: list[tuple[Any, Any]] = [
        (one.extractor, wave if one.of is None else words[one.of].text) for one in p.features.load()
    ]
    ready = [
        (module, features_of(module))
        for head in p._heads
        for _, features_of in head._batches(inputs_of(head, [extracted[0]]), None)
        for module in head.modules
    ]

    def run() -> None:
        for extractor, given in inputs:
            extractor.extract([given])
        with torch.inference_mode():
            for module, features in ready:
                module(features)

    return run


if __name__ == "__main__":
    main()
