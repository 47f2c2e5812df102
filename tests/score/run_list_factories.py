"""Run folders with as much as the table of runs reads."""

import json
import os
from pathlib import Path

from tests.score.factories import entry

PIPELINE = """\
corpus: {manifest: data/ravdess.parquet}
features: {whisper: {}, prosody: {}}
heads: {defaults: {epochs: 1}, one: {features: [whisper]}, two: {features: [prosody]}}
"""
METRICS = {
    "dev": {
        "one": entry(0.5, 0.25),
        "two": entry(0.75),
        "stack": entry(0.875),
    },
    "test": {"one": entry(0.625), "two": entry(0.375), "stack": entry(0.5)},
}
NOON = 1_800_000_000  # 2027-01-15T08:00:00Z


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    os.utime(path, (NOON, NOON))


def write_run(run: Path, heads=("one", "two"), stack=True, metrics=METRICS) -> None:
    write(run / "pipeline.yaml", PIPELINE)
    for name in heads:
        write(run / "heads" / name / "head.json", {"seconds": 45.0, "synthetic": 0.5})
    if stack:
        write(run / "stack" / "stack.json", {"heads": {}, "config": {"model": "mean_logits"}})
    if metrics is not None:
        write(run / "report" / "metrics.json", metrics)
