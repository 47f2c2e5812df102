"""How commands grow with the corpus and with the number of heads: 1x, 10x and 100x.

Each runs in a process of its own; the figures are its CPU seconds and the most memory that it had.
Growth is linear where ten times as much takes ten times as long, but for what any call costs.

cache info            a manifest, and the index of a feature that lacks a tenth of it
corpus check --quick  the same manifest
heads list            trained heads of one pipeline.yaml, which can name no more than 9,900
epoch                 one epoch of training clips: lengths, buckets, and their places in the index
report                twelve heads' logits of dev, test and train, and the mean of them as the stack
train-all             twelve heads, simulated: the planner is `ser heads train-all`'s own, a worker
                      takes an hour, of 30 epochs, however many threads it has

The clips are segments of a hundred wavs. Of the frames only the index exists; nothing here reads
them.
"""

import heapq
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

from bench.cache_index import indexed_name, write_index
from bench.cache_sides import BATCH
from bench.processes import PROGRAM, in_fresh_process, measured
from bench.report import Row, Target, arguments, show, temporary_folder
from bench.stack import HEADS, SIZES, TRAIN, fit_words, write_run
from ser.cache.features import FeatureCache
from ser.cache.reader import FeatureInput, bucket, lengths_of, require
from ser.corpus.audio import SAMPLE_RATE
from ser.corpus.manifest import Manifest
from ser.engines.memory import MemoryBudget
from ser.extract.extractor import parse_options
from ser.extract.job import Job, full_spec
from ser.extract.sources import hash64
from ser.heads.config import parse_head
from ser.heads.record import HeadRecord, head_file

CLASSES = ("angry", "sad", "happy", "neutral")
WAVS, SECONDS = 100, 10  # of audio each
ROWS_OF_A_SHARD = 667
MOST_SECONDS, MOST_GB = 3, 0.5
EPOCHS = 30
# cores, GB free, GB that a worker takes
MACHINES = ((1, 16, 0.6), (4, 16, 0.6), (16, 16, 0.6), (16, 64, 4.0), (16, 128, 12.0))
CHECK = ("corpus", "check", "--quick", "m.parquet")
PLAN = "import bench.scale, pathlib; bench.scale.plan_epoch(pathlib.Path())"
ALL = sum(TRAIN) + sum(SIZES.values())  # utterances
FEATURE = "voice"
PIPELINE = f"""corpus: {{manifest: m.parquet, audio: audio, classes: [{", ".join(CLASSES)}]}}
cache: cache
run: run
features: {{{FEATURE}: {{kind: prosody}}}}
heads:
  defaults: {{head: mean_mlp, features: [{FEATURE}]}}
"""


@dataclass(frozen=True)
class Case:
    """What is measured: what it reads, its command in that folder, its largest size; the aim."""

    name: str
    write: Callable[[Path, int], None]
    command: tuple[str, ...]
    largest: int
    most_seconds: float = MOST_SECONDS


def main() -> None:
    args = arguments(__doc__ or "").parse_args()
    sections: dict[str, list[Row]] = {}
    targets: list[Target] = []
    with temporary_folder(args) as root:
        for case in CASES:
            rows = sections[case.name] = []
            for times in (100, 10) if args.quick else (100, 10, 1):
                size = case.largest // times
                folder = root.resolve() / f"{case.write.__name__}-{size}"
                if not folder.exists():
                    folder.mkdir()
                    in_fresh_process(case.write, folder, size)  # what is measured begins with ours
                cost, _ = measured(case.command, folder=folder)
                rows.append(Row(f"{size:,}", cost.cpu, "CPU s"))
                rows.append(Row(f"{size:,}: most memory", cost.gb, "GB"))
            name = f"{case.name}, {size:,}"
            targets.append(Target(f"{name}: CPU", cost.cpu, "≤", case.most_seconds, "s"))
            targets.append(Target(f"{name}: memory", cost.gb, "≤", MOST_GB, "GB"))
    rows = sections["train-all, simulated"] = []
    for cores, free, peak in MACHINES:
        workers, hours = train_all(cores, free, peak)
        machine = f"{cores} cores, {free} GB free, {peak:g} GB a worker"
        rows.append(Row(f"{machine}: at a time", workers, "workers"))
        rows.append(Row(f"{machine}: {HEADS} heads", hours, "hours"))
    show(args, sections, targets=targets)


def write_corpus(folder: Path, rows: int) -> None:
    """Write wavs, a manifest of their segments, and the index of a feature of nine tenths."""
    rng, number = np.random.default_rng(0), np.arange(rows)
    (folder / "audio").mkdir()
    files = [f"{i:02}.wav" for i in range(WAVS)]
    for file in files:
        noise = rng.normal(0, 0.1, SECONDS * SAMPLE_RATE).astype(np.float32)
        soundfile.write(folder / "audio" / file, noise, SAMPLE_RATE)
    start = number / rows * (SECONDS - 1)
    frame = pl.DataFrame(
        {
            "utterance": [indexed_name(i) for i in range(rows)],
            "path": pl.Series(files).gather(number % WAVS),
            "start": start,
            "end": start + 1,
            "split": pl.Series(["train"] * 8 + ["dev", "test"]).gather(number // 50 % 10),
            "speaker": "s" + pl.Series(number // 50).cast(pl.String),
            "emotion": pl.Series(CLASSES).gather(rng.integers(0, len(CLASSES), rows)),
        }
    )
    manifest = Manifest(frame, audio=folder / "audio")
    manifest.write(folder / "m.parquet")
    options = parse_options({"kind": "prosody"})
    spec, _ = full_spec(Job(FEATURE, options, manifest, folder / "audio", folder / "cache"))
    write_index(
        folder / "cache",
        cached := rows * 9 // 10,
        max(1, cached // ROWS_OF_A_SHARD),
        (FEATURE, spec),
        _stat_hashes(folder / "audio", frame.head(cached)),
    )
    (folder / "pipeline.yaml").write_text(f"{PIPELINE}  one:\n", encoding="utf-8")


def _stat_hashes(audio: Path, rows: pl.DataFrame) -> np.ndarray:
    files = {file.name: file.stat() for file in audio.iterdir()}
    spans = rows.select("path", "start", "end").iter_rows()
    stats = ((files[path], start, end) for path, start, end in spans)
    hashes = (hash64(s.st_size, s.st_mtime_ns, start, end) for s, start, end in stats)
    return np.fromiter(hashes, np.uint64, rows.height)


def write_heads(folder: Path, count: int) -> None:
    """Write a pipeline of trained heads: of each its record only."""
    names = [f"h{i}" for i in range(count)]
    text = PIPELINE + "".join(f"  {name}:\n" for name in names)
    (folder / "pipeline.yaml").write_text(text, encoding="utf-8")
    config = parse_head({"head": "mean_mlp", "features": [FEATURE]})
    trained = {"classes": list(CLASSES), "features": {FEATURE: "0"}, "config": config.spec()}
    for name in names:
        record = HeadRecord(
            head=name,
            fingerprint="0123456789abcdef",
            made_from=trained,
            config=config.model_dump(mode="json"),
            frames={FEATURE: [16]},
            outputs={"logits": len(CLASSES)},
            weights=["head.safetensors"],
            score=0.5,
            epochs=30,
            seconds=60.0,
            checksums={"head.safetensors": "00000000"},
        )
        file = head_file(folder / "run", name)
        file.parent.mkdir(parents=True)
        file.write_text(record.to_json(), encoding="utf-8")


def write_epoch(folder: Path, clips: int) -> None:
    """Write the index of a feature of so many clips."""
    write_index(folder / "cache", clips, max(1, clips // ROWS_OF_A_SHARD), (FEATURE, {}))


def plan_epoch(folder: Path) -> None:
    """Plan one epoch of all clips as training does, and find every clip in the index."""
    columns = {FEATURE: FeatureInput(FeatureCache.open(folder / "cache", FEATURE))}
    clips = columns[FEATURE].cache.index()["utterance"].to_list()
    rng = np.random.default_rng(0)
    lengths = lengths_of(columns, clips)[FEATURE]
    plan = bucket(rng.permutation(len(clips)), lengths, BATCH, rng)
    require(columns, [clips[i] for batch in plan for i in batch])


def train_all(cores: int, free: float, peak: float) -> tuple[int, float]:
    """Return how many heads are trained at a time, and the hours that all of them take.

    `free` and `peak` are GB; the peak is known when the first worker has done its first epoch.
    """
    budget = MemoryBudget(min(HEADS, cores), int(free * 1e9))
    running, waiting, most, now = [1.0], HEADS - 1, 1, 1 / EPOCHS
    budget.measure(int(peak * 1e9), 0)
    while waiting:
        started = min(waiting, len(budget.slots()) - len(running))
        for _ in range(started):
            heapq.heappush(running, now + 1)
        waiting, most = waiting - started, max(most, len(running))
        now = heapq.heappop(running)
    return most, max(running, default=now)


def write_logits(folder: Path, utterances: int) -> None:
    """Write twelve heads' logits, in the shares of MSP-Podcast's splits, and fit their mean."""
    share = utterances / ALL
    train = [round(share * count) for count in TRAIN]
    sizes = {split: round(share * count) for split, count in SIZES.items()}
    write_run(folder, 200, train=train, sizes=sizes, heads=HEADS)
    measured([PROGRAM, *fit_words("mean_logits")], folder=folder)


CASES = (
    Case("cache info", write_corpus, (PROGRAM, "cache", "info"), 1_000_000),
    Case("corpus check --quick", write_corpus, (PROGRAM, *CHECK), 1_000_000),
    Case("heads list", write_heads, (PROGRAM, "heads", "list"), 9_900),
    Case("epoch", write_epoch, (sys.executable, "-c", PLAN), 84_000),
    Case("report", write_logits, (PROGRAM, "report", "--figures=none"), ALL, most_seconds=10),
)

if __name__ == "__main__":
    main()
