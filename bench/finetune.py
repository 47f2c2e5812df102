"""Frozen features against adapters against all of an encoder trained, on one split.

    python -m bench.finetune presets/ravdess-finetune.yaml --derived --seeds 3

Every head and every fine-tuned model of the pipeline is trained with every seed, each seed in a run
folder of its own (an interrupted run resumes). Macro-F1 and CCC (the mean over attributes) are of
test, mean and standard deviation over the seeds; minutes are of one training, scoring included, and
for heads without the extraction, which has its own row. `--set` is that of `ser`.

`--derived` is for RAVDESS, which has no ratings: arousal and valence are 4 plus 1.5 (an actor's
normal intensity) or 3 (strong) times the emotion's place on a circumplex (Russell 1980, "A
Circumplex Model of Affect"; the places are ours). What is learned is a function of the class.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from safetensors import safe_open

from bench.report import Row, arguments, show
from ser.heads.record import read_done
from ser.pipeline.file import Pipeline, read_manifest
from ser.score.run import score_run
from ser.score.scores import SystemScores
from ser.stages.extract import extract_features
from ser.stages.finetune import fine_tunings
from ser.stages.heads import train

PLACES = {  # arousal, valence
    "angry": (1.0, -0.8),
    "calm": (-0.7, 0.4),
    "disgust": (0.2, -0.9),
    "fear": (0.8, -0.6),
    "happy": (0.6, 1.0),
    "neutral": (0.0, 0.0),
    "sad": (-0.6, -0.8),
    "surprise": (0.8, 0.3),
}
QUICK = {"train": 100, "dev": 40, "test": 40}  # clips


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--derived", action="store_true", help="make attributes up, for RAVDESS")
    parser.add_argument("--only", nargs="+", help="heads and models; all by default")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    args = parser.parse_args()
    figures: dict[str, list[float]] = {}
    for seed in range(1 if args.quick else args.seeds):
        pipeline = Pipeline.load(args.pipeline, [*args.overrides, *_changes(args, seed)])
        for name, value in _figures(pipeline, args.only, seed):
            if value is not None:
                figures.setdefault(name, []).append(value)
    rows = []
    for name, values in figures.items():
        spread = f"± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        rows.append(Row(name, statistics.mean(values), spread))
    show(args, {"test, mean over the seeds": rows}, str(args.pipeline))


def _changes(args: Any, seed: int) -> list[str]:
    """Return what a seed changes in the pipeline, its manifest written where it changes too."""
    base = Pipeline.load(args.pipeline, args.overrides)
    run = base.run / ("quick" if args.quick else f"seed-{seed}")
    changes = [f"run={run}", f"heads.defaults.seed={seed}", f"finetune.defaults.seed={seed}"]
    if args.quick:
        changes += ["heads.defaults.epochs=1", "finetune.defaults.epochs=1"]
    if not (args.quick or args.derived):
        return changes
    frame = read_manifest(base).frame
    if args.derived:
        frame = _derived(frame)
    if args.quick:
        parts = {split: frame.filter(pl.col("split") == split) for split in QUICK}
        few = [part.sample(min(QUICK[s], part.height), seed=1) for s, part in parts.items()]
        frame = pl.concat(few)
    run.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(run / "manifest.parquet")
    audio = base.corpus.audio or base.corpus.manifest.parent
    return [*changes, f"corpus.manifest={run / 'manifest.parquet'}", f"corpus.audio={audio}"]


def _derived(frame: pl.DataFrame) -> pl.DataFrame:
    reach = pl.when(pl.col("intensity") == "strong").then(3.0).otherwise(1.5)
    columns = {}
    for i, name in enumerate(("arousal", "valence")):
        places = {emotion: place[i] for emotion, place in PLACES.items()}
        place = pl.col("emotion").replace_strict(places, return_dtype=pl.Float64)
        columns[name] = 4 + reach * place
    return frame.with_columns(**columns)


def _figures(
    pipeline: Pipeline, only: Sequence[str] | None, seed: int
) -> Iterator[tuple[str, float | None]]:
    """Train these heads and models; yield the figures of each by name, None for one it has not."""
    heads, models = (
        [name for name in names if not only or name in only]
        for names in (pipeline.heads, pipeline.finetune)
    )
    used = {f for name in heads for f in pipeline.heads[name].feature_names}
    started = time.monotonic()
    for report in extract_features(pipeline, sorted(used)):
        print(f"seed {seed}: {report.name}: {report.extracted} extracted in {report.seconds:.0f} s")
    extraction = (time.monotonic() - started) / 60
    if heads:
        for head in train(pipeline, heads):
            print(f"seed {seed}: {head.name} {head.done} {head.error}", flush=True)
    for line in fine_tunings(pipeline, models):
        print(f"seed {seed}: {line}", flush=True)
    metrics = score_run(pipeline.run, pipeline.score, [*heads, *models], read_manifest(pipeline))
    for name in [*heads, *models]:
        scores = metrics.get("test", {}).get(name, SystemScores())
        record = read_done(pipeline.run, name)
        assert record is not None, f"{name} was not trained"
        yield f"{name}: macro-F1", scores.score("macro_f1")
        yield f"{name}: CCC", scores.score("ccc")
        yield f"{name}: minutes", record.seconds / 60
        yield f"{name}: extraction minutes", extraction if name in heads else None
        size = record.trainable_parameters or _size(pipeline.run, name)
        yield f"{name}: trained parameters", size


def _size(run: Path, name: str) -> int:
    """Return how many numbers a head's weights are."""
    with safe_open(run / "heads" / name / "head.safetensors", "np") as file:
        return sum(file.get_tensor(key).size for key in file.keys())  # noqa: SIM118  not a mapping


if __name__ == "__main__":
    main()
