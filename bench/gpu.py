"""Everything that only a GPU can show, in one process and a few minutes: `python -m bench.gpu`.

The published architectures at their true sizes with random weights: extraction against the bare
model, the twelve heads of UNICAMP, one by one and several at once, fine-tuning, a group of one
process. Nothing is downloaded; `bench/gpu-wheels.txt` lists what a machine with torch and
transformers needs besides. Each row passes or fails on its bound, and none stops the others; what
`--minutes` leaves no time for is skipped. `--json` has each row as soon as it is measured. Needs
16 GB in `--folder`. `--device cpu --tiny` runs all of it with tiny models: it shows that the script
works, and bounds on speed are not judged.

The exit code is 1 if a row failed, 2 after a mistake in the call, before anything is measured, 130
after Ctrl-C, and 143 after SIGTERM.
"""

import argparse
import math
import os
import platform
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import soundfile
import torch
from rich.console import Console
from rich.table import Table

from bench.gpu_extract import COMPILED, compile_rows, decoding_rows, extraction_rows
from bench.gpu_finetune import finetune_rows, group_rows
from bench.gpu_heads import head_rows, recurrence_rows, unicamp_heads
from bench.gpu_jobs import jobs_rows
from bench.gpu_loop import Setting
from bench.gpu_models import MODELS
from bench.gpu_plan import measured
from bench.gpu_published import published_rows
from bench.gpu_rows import Group, Outcome, Result, run
from bench.heads import msp_like
from bench.report import bare_parser
from ser.corpus.errors import UserError, one_line, plural
from ser.corpus.machine import machine, versions
from ser.corpus.manifest import Manifest
from ser.corpus.termination import catch_sigterm, is_requested
from ser.extract.devices import choose_device, device_type
from ser.extract.extractor import SAMPLE_RATE

CLIPS, TEXTS = 512, 4_096
WORDS = ("kids", "are", "talking", "by", "the", "door", "and", "nobody", "knows", "how", "long")
CLASSES = ("angry", "sad", "happy", "neutral")
INTERRUPTED, TERMINATED = 130, 143


def main(words: Sequence[str] | None = None) -> int:
    """Measure every row; return the exit code."""
    args = _options(words)
    try:
        return _measure(args)
    except UserError as error:
        print(one_line(str(error)), file=sys.stderr)
        return error.exit_code


def _measure(args: argparse.Namespace) -> int:
    device = _available(args.device)
    _check_folders(args)
    console = Console(width=None if sys.stdout.isatty() else 120)
    name = "CPU"
    if device_type(device) == "cuda":
        torch.cuda.set_device(device)  # of events and graphs
        name = torch.cuda.get_device_name(device)
    console.print(f"{name}, torch {torch.__version__}", highlight=False)
    judged, interrupted, result = name != "CPU" and not args.tiny, 0, None
    try:
        for result in _results(args, device, name, judged):
            _line(console, result.rows[-1])
            result.write(args.json)
    except KeyboardInterrupt:
        interrupted = TERMINATED if is_requested() else INTERRUPTED
    if result is None:
        return interrupted
    console.print(_table(result.rows))
    if judged:
        console.print(measured(name, result.rows), highlight=False, markup=False)
    counts = Counter(outcome.status for outcome in result.rows)
    summary = "interrupted; " if interrupted else ""
    summary += ", ".join(f"{count} {status}" for status, count in counts.items())
    console.print(f"{summary}; {result.minutes:g} minutes; {args.json}", highlight=False)
    return interrupted or int(bool(counts["failed"] + counts["error"]))


def _results(args: argparse.Namespace, device: str, name: str, judged: bool) -> Iterator[Result]:
    """Yield what gpu.json holds after each row."""
    began = time.time()
    result = Result(
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        device=name,
        tiny=args.tiny,
        minutes=0.0,
        cpu=machine()["cpu"] or platform.processor(),
        versions=versions(),
        rows=[],
    )
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.folder) as folder:
        setting = make_setting(Path(folder).resolve(), device, args.tiny)
        groups = _selected(setting, args.only)
        write_audio(setting)
        for outcome in run(groups, args.minutes * 60 - (time.time() - began), judged):
            minutes = round((time.time() - began) / 60, 2)
            rows = [*result.rows, outcome]
            result = result.model_copy(update={"rows": rows, "minutes": minutes})
            yield result


def _available(name: str) -> str:
    """Return the device of --device; raises `UserError` where PyTorch does not have it."""
    device = choose_device(name)
    if device == "cpu":
        return device
    index, count = int(device.partition(":")[2] or 0), torch.cuda.device_count()
    if index >= count:
        gpus = plural(count, "GPU")
        raise UserError(f"--device {device}: PyTorch sees {gpus}; use --device cpu --tiny.")
    return f"cuda:{index}"


def _check_folders(args: argparse.Namespace) -> None:
    if args.json.is_dir():
        raise UserError(f"--json {args.json}: it is a folder; name a file.")
    for option, folder in (("--json", args.json.parent), ("--folder", args.folder)):
        if folder and not folder.is_dir():
            raise UserError(f"{option}: {folder} is not a folder; make it first.")
        if folder and not os.access(folder, os.W_OK):
            raise UserError(f"{option}: {folder} is not writable; name another folder.")


def _selected(setting: Setting, only: Sequence[str] | None) -> list[Group]:
    """Return the groups whose titles have one of the parts, all without parts."""
    heads = unicamp_heads(setting.tiny)
    compiled = [model for model in MODELS if model.name in COMPILED]
    groups = [
        Group("decoding", partial(decoding_rows, setting)),
        *(Group(model.name, partial(extraction_rows, model, setting)) for model in MODELS),
        Group("bidirectional GRU", partial(recurrence_rows, setting)),
        *(Group(f"head {name}", partial(head_rows, name, setting)) for name in heads),
        Group("published training", partial(published_rows, setting)),
        Group("one process, NCCL", partial(group_rows, setting)),
        Group("fine-tuning wavlm-large", partial(finetune_rows, setting)),
        Group("several heads, --jobs auto", partial(jobs_rows, setting)),
        *(Group(f"compile, {m.name}", partial(compile_rows, m, setting)) for m in compiled),
    ]
    titles = [group.title for group in groups]
    for part in only or []:
        if not any(part in title for title in titles):
            names = "; ".join(titles)  # some have a comma
            raise UserError(f"--only {part}: no group has it in its name; choose from: {names}.")
    return [g for g in groups if not only or any(part in g.title for part in only)]


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a device; use cuda, cuda:1 or cpu")
    return text


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes, 0 or more")
    return value


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = bare_parser(__doc__, "python -m bench.gpu")
    parser.add_argument(
        "--device", type=_device, default="cuda", help="cuda, cuda:1 or cpu (default: cuda)"
    )
    parser.add_argument("--tiny", action="store_true", help="tiny models instead of the true sizes")
    parser.add_argument(
        "--minutes", type=_minutes, default=6.0, help="start no row after (default 6)"
    )
    parser.add_argument("--only", nargs="+", help="parts of the names of groups; all by default")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="default: gpu.json")
    parser.add_argument(
        "--folder", type=Path, help="where weights and caches go (default: that of TMPDIR)"
    )
    return parser.parse_args(words)


def make_setting(root: Path, device: str, tiny: bool) -> Setting:
    """Draw texts; `write_audio` writes the clips that the manifest of speech names."""
    rng = np.random.default_rng(0)
    clips, spoken = (4, 8) if tiny else (CLIPS, TEXTS)
    texts = [" ".join(rng.choice(WORDS, rng.integers(5, 30))) for _ in range(spoken)]
    return Setting(
        speech=_manifest(texts[:clips]),
        texts=_manifest(texts),
        audio=root / "audio",
        root=root,
        device=device,
        tiny=tiny,
    )


def write_audio(setting: Setting) -> None:
    """Write noise of MSP-Podcast's lengths; tiny: a few seconds of it."""
    rng = np.random.default_rng(0)
    seconds = np.array([0.5, 0.5, 0.9, 0.9]) if setting.tiny else msp_like()[:CLIPS]
    setting.audio.mkdir()
    noise = 0.1 * rng.standard_normal(round(25 * SAMPLE_RATE))
    for i, length in enumerate(seconds):
        start = int(rng.integers(4 * SAMPLE_RATE))
        wave = noise[start : start + round(float(length) * SAMPLE_RATE)]
        soundfile.write(setting.audio / f"u{i}.wav", wave, SAMPLE_RATE)


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
    catch_sigterm()
    sys.exit(main())
