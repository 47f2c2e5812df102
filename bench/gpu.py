"""Everything that only a GPU can show, in one process and a few minutes: `python -m bench.gpu`.

The published architectures at their true sizes with random weights: extraction against the bare
model, the twelve heads of UNICAMP, one by one and several at once, fine-tuning, a group of one
process. Nothing is downloaded; `bench/gpu-wheels.txt` lists what a machine with torch and
transformers needs besides. Each row passes or fails on its bound, and none stops the others; what
`--minutes` leaves no time for is skipped. Needs 16 GB in `--folder`. `--device cpu --tiny` runs all
of it in a minute, with tiny models: it shows that the script works, and bounds on speed are not
judged.

The exit code is 1 if a row failed.
"""

import argparse
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import soundfile
import torch
from rich.console import Console
from rich.table import Table

from bench.gpu_compile import compile_groups
from bench.gpu_extract import extraction_groups
from bench.gpu_finetune import finetune_groups
from bench.gpu_heads import head_groups
from bench.gpu_jobs import jobs_groups
from bench.gpu_loop import Setting
from bench.gpu_models import MODELS
from bench.gpu_plan import measured
from bench.gpu_published import published_groups
from bench.gpu_recurrence import recurrence_groups
from bench.gpu_rows import Outcome, Result, run
from bench.heads import msp_like
from ser.corpus.machine import machine, versions
from ser.corpus.manifest import Manifest
from ser.extract.extractor import SAMPLE_RATE, choose_device

CLIPS, TEXTS = 512, 4_096
WORDS = ("kids", "are", "talking", "by", "the", "door", "and", "nobody", "knows", "how", "long")
CLASSES = ("angry", "sad", "happy", "neutral")


def main(words: Sequence[str] | None = None) -> int:
    """Measure every row; return the exit code."""
    args = _options(words)
    device, began = choose_device(args.device), time.time()
    device = "cuda:0" if device == "cuda" else device
    console = Console(width=None if sys.stdout.isatty() else 120)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
    console.print(f"{name}, torch {torch.__version__}", highlight=False)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.folder) as folder:
        setting = make_setting(Path(folder), device, args.tiny)
        groups = [
            *extraction_groups(MODELS, setting),
            *recurrence_groups(setting),
            *head_groups(setting),
            *published_groups(setting),
            *finetune_groups(setting),
            *jobs_groups(setting),
            *compile_groups(setting),
        ]
        if args.only:
            groups = [g for g in groups if any(part in g.title for part in args.only)]
        left = args.minutes * 60 - (time.time() - began)
        judged = device.startswith("cuda") and not args.tiny
        outcomes = run(groups, left, judged, lambda outcome: _line(console, outcome))
    result = Result(
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        device=name,
        tiny=args.tiny,
        minutes=round((time.time() - began) / 60, 2),
        cpu=machine()["cpu"] or platform.processor(),
        versions=versions(),
        rows=outcomes,
    )
    args.json.write_text(result.model_dump_json(indent=1), encoding="utf-8")
    console.print(_table(outcomes))
    if not args.tiny:
        console.print(measured(name, outcomes), highlight=False, markup=False)
    counts = Counter(outcome.status for outcome in outcomes)
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    console.print(f"{summary}; {result.minutes:g} minutes; {args.json}", highlight=False)
    return int(bool(counts["failed"] + counts["error"]))


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="tiny models instead of the true sizes")
    parser.add_argument("--minutes", type=float, default=6.0, help="start no row after (default 6)")
    parser.add_argument("--only", nargs="+", help="parts of the names of groups; all by default")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="default: gpu.json")
    parser.add_argument(
        "--folder", type=Path, help="where weights and caches go (default: that of TMPDIR)"
    )
    return parser.parse_args(words)


def make_setting(root: Path, device: str, tiny: bool) -> Setting:
    """Write noise of MSP-Podcast's lengths and draw texts; tiny: a few seconds of it."""
    rng = np.random.default_rng(0)
    seconds = np.array([0.5, 0.5, 0.9, 0.9]) if tiny else msp_like()[:CLIPS]
    (root / "audio").mkdir()
    noise = 0.1 * rng.standard_normal(round(25 * SAMPLE_RATE))
    for i, length in enumerate(seconds):
        start = int(rng.integers(4 * SAMPLE_RATE))
        wave = noise[start : start + round(float(length) * SAMPLE_RATE)]
        soundfile.write(root / "audio" / f"u{i}.wav", wave, SAMPLE_RATE)
    spoken = 8 if tiny else TEXTS
    texts = [" ".join(rng.choice(WORDS, rng.integers(5, 30))) for _ in range(spoken)]
    return Setting(
        speech=_manifest(texts[: len(seconds)]),
        texts=_manifest(texts),
        audio=root / "audio",
        root=root,
        device=device,
        tiny=tiny,
    )


def _manifest(texts: Sequence[str]) -> Manifest:
    count = len(texts)
    frame = pl.DataFrame(
        {
            "utterance": [f"u{i}" for i in range(count)],
            "path": [f"u{i}.wav" for i in range(count)],
            "transcript": list(texts),
            "speaker": [f"s{i % 4}" for i in range(count)],
            "split": ["train"] * count,
            "emotion": [CLASSES[i % len(CLASSES)] for i in range(count)],
        }
    )
    return Manifest(frame, CLASSES)


def _line(console: Console, outcome: Outcome) -> None:
    line = f"{outcome.group}: {outcome.name}: {_value(outcome)} {outcome.status}"
    console.print(line, highlight=False, markup=False)


def _value(outcome: Outcome) -> str:
    if outcome.value is None:
        return outcome.problem
    return f"{outcome.value:.4g} {outcome.unit}".strip()


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table("group", "row", "measured", "bound", "", "s", title="All rows")
    for o in outcomes:
        table.add_row(o.group, o.name, _value(o), o.bound, o.status, f"{o.seconds:.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
