"""The effect of a choice on the scores: one head of a pipeline, its keys varied, several seeds.

    python -m bench.accuracy presets/ravdess-tiny.yaml audio 'loss=[[ce], [wce], [focal]]' \
        'sampler=[natural, undersample]' --seeds 3

Every KEY=[VALUES] multiplies the table (dotted keys reach into an entry, as in `ser heads tune`).
The epoch is chosen on dev; test is only scored. Macro-F1 in percent, mean and standard deviation
over the seeds; the features must have been extracted. CPU seconds are of a training, scoring
included.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import Row, arguments, show
from ser.corpus.bounded_yaml import parse_yaml
from ser.heads.classifier import HeadClassifier
from ser.heads.job import HeadsJob
from ser.heads.tune import changed
from ser.pipeline.file import Pipeline
from ser.pipeline.jobs import heads_job
from ser.score.metrics import confusion, macro_f1
from ser.stages.heads import head_entry


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("head", help="a head of the pipeline")
    parser.add_argument("vary", nargs="*", metavar="KEY=[VALUES]")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    pipeline = Pipeline.load(args.pipeline)
    entry = head_entry(pipeline, args.head)
    if args.quick:
        entry = changed(entry, {"epochs": 2})
    job = heads_job(pipeline)
    for cache in job.features.values():
        cache.load()
    rows = []
    for changes in _grid(args.vary):
        name = ", ".join(f"{key}={_short(value)}" for key, value in changes.items()) or args.head
        varied = changed(entry, changes)
        rows += _rows(name, varied, job, 1 if args.quick else args.seeds)
        for row in rows[-2:]:
            print(f"{row.name} {row.value:.1f} {row.unit}", file=sys.stderr, flush=True)
    note = f"{args.pipeline}, head {args.head}, {args.seeds} seeds: {entry}"
    show(args, {"Macro-F1": rows}, note)


def _grid(vary: Sequence[str]) -> Iterator[dict[str, object]]:
    """Yield the changes of each row of the table, of KEY=[VALUES]."""
    choices = {
        key: parse_yaml(f"--vary {key}", values).value
        for key, _, values in (text.partition("=") for text in vary)
    }
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return str(value.get("name", "")) + "".join(
            f" {k} {_short(v)}" for k, v in value.items() if k != "name"
        )
    return "+".join(map(_short, value)) if isinstance(value, list) else str(value)


def _rows(name: str, entry: Mapping[str, Any], job: HeadsJob, seeds: int) -> list[Row]:
    scores: dict[str, list[float]] = {"dev": [], "test": []}
    cpu = []
    for seed in range(seeds):
        start = time.process_time()
        options: dict[str, Any] = {**entry, "seed": seed}
        model = HeadClassifier(cache=job.features, **options).fit(job.manifest)
        for split, values in scores.items():
            utterances = job.manifest.utterances(split)
            predicted = model.outputs(utterances)["logits"].argmax(axis=1)
            labels = job.manifest.labels(utterances)
            matrix = confusion(labels, predicted, len(job.manifest.classes))
            values.append(100 * float(macro_f1(matrix)))
        cpu.append(time.process_time() - start)
    return [
        Row(
            f"{name}: {split}",
            statistics.mean(values),
            f"% ± {np.std(values, ddof=1) if len(values) > 1 else 0:.1f}",
            cpu=statistics.median(cpu),
            value_rounds=tuple(values),
        )
        for split, values in scores.items()
    ]


if __name__ == "__main__":
    main()
